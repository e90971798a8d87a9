"""Faces for tests: squares of color that tell their class, with noise; learnable in seconds."""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import numpy as np
import pytest
import torch
from hypothesis import settings

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.dataset import LabeledSet, TrainingFaces, TrainingSet

# The same examples in every run, so that a red build is due to the change. HYPOTHESIS_PROFILE=random explores.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

LONGEST = ("tests/flows/", "tests/stages/", "tests/learning/test_fi", "tests/runs/test_storage_s3.py")

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def colored_pixels(class_ids: np.ndarray, *, size: int = 16, seed: int = 0) -> np.ndarray:
    """Squares whose color tells the class, uint8 [N, size, size, 3]."""
    rng = np.random.default_rng(seed)
    colors = np.random.default_rng(99).integers(40, 215, size=(SPACE.num_classes, 3))
    noise = rng.normal(0, 25, size=(len(class_ids), size, size, 3))
    return np.clip(colors[class_ids][:, None, None, :] + noise, 0, 255).astype(np.uint8)


def make_faces(num_train: int = 60, num_validation: int = 30, *, size: int = 16, seed: int = 0) -> TrainingFaces:
    """Fully labeled training and validation faces in one array of pixels."""
    class_ids = np.arange(num_train + num_validation) % SPACE.num_classes
    pixels = colored_pixels(class_ids, size=size, seed=seed)
    codes = SPACE.class_codes[class_ids]
    train = TrainingSet(
        pixels=pixels,
        pixel_rows=np.arange(num_train),
        image_ids=[f"face-{row}" for row in range(num_train)],
        targets=np.eye(SPACE.num_classes, dtype=np.float32)[class_ids[:num_train]],
        known=np.ones((num_train, 2), bool),
        weights=np.ones((num_train, 2), np.float32),
        is_human=np.ones(num_train, bool),
    )
    rows = np.arange(num_train, num_train + num_validation)
    return TrainingFaces(SPACE, train, LabeledSet(pixels, rows, codes[rows]))


def make_role(**training: object) -> RoleConfig:
    """A tiny wide ResNet, trained for two epochs unless told otherwise."""
    model = training.pop("model", {"architecture": "wrn10_1"})
    settings = {"epochs": 2, "batch_size": 16, "optimizer": {"type": "sgd", "learning_rate": 0.05}, **training}
    return RoleConfig.model_validate({"model": model, "training": settings})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest modules first, so that what remains fills the workers evenly."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
