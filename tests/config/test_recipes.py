"""One training step of each recipe's network, on small faces with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.learning.dataset import LabeledSet, TrainingFaces, TrainingSet
from ssl_pipeline.learning.loop import TrainingLoop

# The two of about 100 million parameters take ten seconds each and pass through the same code as the others.
LARGE = ("vit_base", "wide_resnet101_2")
RECIPES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LARGE else [])
    for path in sorted(Path(__file__).parents[2].joinpath("configs/recipes").glob("*.yaml"))
]


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_takes_a_training_step(path: Path) -> None:
    config = load_config(path, overrides=["teacher.model.pretrained=false", "teacher.training.precision=fp32"])
    labels, num_faces = config.labels.space, 4
    pixels = np.random.default_rng(0).integers(0, 256, size=(num_faces, 32, 32, 3), dtype=np.uint8)
    train = TrainingSet(
        pixels=pixels,
        pixel_rows=np.arange(num_faces),
        image_ids=[str(number) for number in range(num_faces)],
        targets=np.eye(labels.num_classes, dtype=np.float32)[:num_faces],
        known=np.ones((num_faces, 3), bool),
        weights=np.ones((num_faces, 3), np.float32),
        is_human=np.ones(num_faces, bool),
    )
    faces = TrainingFaces(labels, train, LabeledSet(pixels, np.arange(num_faces), labels.class_codes[:num_faces]))
    loop = TrainingLoop(config.teacher, faces, seed=0, device="cpu", name=path.stem)
    before = {name: parameter.detach().clone() for name, parameter in loop.model.named_parameters()}
    loop.model.train()
    loss = loop._step(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(num_faces), 0)
    assert 0 < loss < 100
    moved = [name for name, parameter in loop.model.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.5 * len(before)
