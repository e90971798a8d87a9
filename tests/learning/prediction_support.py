"""Random models, checkpoints and images for the tests of prediction and inference."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.predict import CheckpointPredictor
from tests.conftest import SPACE


def random_model(*, seed: int = 0, labels: LabelSpace = SPACE, image_size: int = 16, **model: object) -> FaceClassifier:
    """A model with widely different predictions per face and per seed."""
    torch.manual_seed(seed)
    config = ModelConfig.model_validate({"architecture": "wrn10_1", **model})
    built = build_model(config, labels=labels, image_size=image_size)
    classifier = built.eval().backbone.classifier
    faces = torch.from_numpy(random_faces(64, size=image_size, seed=99)).permute(0, 3, 1, 2)
    with torch.no_grad():
        classifier.weight.mul_(20)
        classifier.bias.sub_(built.backbone((faces.float() / 255 - built.mean) / built.std).mean(dim=0))
    return built


def save_random_model(
    path: Path, *, seed: int = 0, labels: LabelSpace = SPACE, image_size: int = 16, **model: object
) -> Path:
    built = random_model(seed=seed, labels=labels, image_size=image_size, **model)
    config = ModelConfig.model_validate({"architecture": "wrn10_1", **model})
    save_checkpoint(path, built, model_config=config, image_size=image_size, cropping=None)
    return path


def prediction_config(**settings: object) -> PredictionConfig:
    return PredictionConfig.model_validate({"batch_size": 7, "precision": "fp32", **settings})


def predictor(checkpoint: Path, **settings: object) -> CheckpointPredictor:
    return CheckpointPredictor.load(checkpoint, prediction_config(**settings), device="cpu")


def random_faces(num_faces: int, *, size: int = 16, seed: int = 0) -> np.ndarray:
    """Asymmetric faces of 4 × 4 color blocks, uint8 [N, size, size, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(num_faces, 4, 4, 3), dtype=np.uint8)
    return blocks.repeat(size // 4, axis=1).repeat(size // 4, axis=2)


def write_images(folder: Path, names: list[str], *, size: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Write one image per name as PNG, regardless of the suffix; return {name: pixels}."""
    faces = random_faces(len(names), size=size, seed=seed)
    for name, face in zip(names, faces, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "wb") as file:
            Image.fromarray(face).save(file, format="PNG")
    return dict(zip(names, faces, strict=True))
