"""Every loss, mixing, optimizer and schedule in docs/training.md can be loaded and built."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from ssl_pipeline.config.losses import terms_of
from ssl_pipeline.learning.losses import BatchLoss
from ssl_pipeline.learning.mixing import mix
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.schedules import learning_rates
from tests.conftest import SPACE, make_role

LINES = (Path(__file__).parents[2] / "docs/training.md").read_text().splitlines()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("optimizer: ")])
def test_an_optimizer_in_the_docs_can_be_built(line: str) -> None:
    role = make_role(**yaml.safe_load(line))
    model: nn.Module = build_model(role.model, labels=SPACE, image_size=16)
    assert build_optimizer(role.training.optimizer, model).param_groups


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("loss: ")])
def test_a_loss_in_the_docs_can_be_built_and_names_known_classes(line: str) -> None:
    loss = make_role(**yaml.safe_load(line)).training.loss
    BatchLoss(loss, SPACE, class_mass=torch.ones(SPACE.num_classes))
    assert [name for _, _, term in terms_of(loss) for name in term.unknown_names(SPACE)] == []


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("mixing: ")])
def test_a_mixing_in_the_docs_can_be_applied(line: str) -> None:
    mixing = make_role(**yaml.safe_load(line)).training.mixing
    assert mix(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), mixing).pixels.shape == (4, 3, 8, 8)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("scheduler: ")])
def test_a_schedule_in_the_docs_can_be_computed(line: str) -> None:
    assert len(learning_rates(make_role(epochs=100, **yaml.safe_load(line)).training, steps_per_epoch=3)) == 300
