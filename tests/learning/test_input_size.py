"""Stored faces larger than the network's input: random crops in training, the centered one otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning.checkpoint import load_checkpoint
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.network_check import check_network
from ssl_pipeline.learning.predict import CheckpointPredictor
from tests.conftest import SPACE, make_faces, make_role
from tests.learning.test_fixmatch import faces_with_pool


def build(image_size: int, **model: Any) -> FaceClassifier:
    torch.manual_seed(0)
    return build_model(
        make_role(model={"architecture": "wrn10_1", **model}).model, labels=SPACE, image_size=image_size
    ).eval()


@pytest.mark.parametrize("image_size", [16, 19, 20])
def test_a_model_sees_the_centered_square_of_a_larger_face(image_size: int) -> None:
    model, whole = build(image_size, input_size=16), build(16)
    faces = torch.randint(0, 256, (3, 3, image_size, image_size), dtype=torch.uint8)
    start = (image_size - 16) // 2
    center = faces[..., start : start + 16, start : start + 16]
    assert torch.equal(model(faces), whole(center))
    assert torch.equal(model.features(faces), whole.features(center))


def test_all_training_batches_have_the_networks_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    normalized = FaceClassifier._normalized

    def watch(self: FaceClassifier, pixels: torch.Tensor) -> torch.Tensor:
        if self.training:
            sizes.append(pixels.shape[-1])
        return normalized(self, pixels)

    monkeypatch.setattr(FaceClassifier, "_normalized", watch)
    role = make_role(model={"architecture": "wrn10_1", "input_size": 16}, epochs=1, fixmatch={})
    fit(role, faces_with_pool(12, size=20), directory=tmp_path)
    assert sizes
    assert set(sizes) == {16}


def test_a_checkpoint_takes_stored_faces_and_crops_them_itself(tmp_path: Path) -> None:
    role = make_role(model={"architecture": "wrn10_1", "input_size": 16}, epochs=1)
    faces = make_faces(size=20)
    fit(role, faces, directory=tmp_path)
    checkpoint = load_checkpoint(tmp_path / "trained.safetensors")
    assert (checkpoint.image_size, checkpoint.model.input_size) == (20, 16)
    pixels = faces.train.pixels.copy()
    pixels[:, [0, -1]] = pixels[:, :, [0, -1]] = 0  # outside of the crop
    predictor = CheckpointPredictor.load(tmp_path / "trained.safetensors", PredictionConfig(horizontal_flip=False))
    rows = faces.train.pixel_rows
    np.testing.assert_array_equal(predictor.predict(pixels, rows), predictor.predict(faces.train.pixels, rows))


@pytest.mark.parametrize(
    ("image_size", "cure"),
    [
        (64, "--set faces.image_size=258 --set teacher.model.input_size=224"),
        (240, "--set teacher.model.input_size=224"),
    ],
)
def test_a_network_is_tried_with_its_input(image_size: int, cure: str) -> None:
    role = make_role(model={"architecture": "efficientformer_l1", "input_size": 60})
    with pytest.raises(ConfigError, match=f"does not take faces of 60 × 60 pixels.*; {cure}, the size"):
        check_network(role, key="teacher", labels=SPACE, image_size=image_size)
