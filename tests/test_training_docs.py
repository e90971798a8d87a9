"""Every optimizer and schedule that docs/training.md shows can be loaded and built."""

from pathlib import Path

import pytest
import yaml
from torch import nn

from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.schedules import learning_rates
from tests.conftest import SPACE, make_role

LINES = (Path(__file__).parents[1] / "docs/training.md").read_text().splitlines()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("optimizer: ")])
def test_an_optimizer_shown_in_the_docs_can_be_built(line: str) -> None:
    role = make_role(**yaml.safe_load(line))
    model: nn.Module = build_model(role.model, labels=SPACE, image_size=16)
    assert build_optimizer(role.training.optimizer, model).param_groups


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("scheduler: ")])
def test_a_schedule_shown_in_the_docs_can_be_drawn(line: str) -> None:
    assert len(learning_rates(make_role(epochs=100, **yaml.safe_load(line)).training, steps_per_epoch=3)) == 300
