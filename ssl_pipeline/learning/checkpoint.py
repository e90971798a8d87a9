"""Checkpoints. The best weights, in a file that rebuilds its model alone; the training's state, to go on from.

Neither holds code: safetensors, and `weights_only=True`.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.runs.files import atomic_path, digest_file

logger = logging.getLogger(__name__)

FORMAT = 1
# One key: safetensors keeps its metadata in a hash map, so that several keys would change places from run to run.
METADATA_KEY = "ssl_pipeline"


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to predict, and what it was trained for."""

    path: Path
    model: FaceClassifier
    model_config: ModelConfig
    labels: LabelSpace
    image_size: int
    digest: str
    """SHA-256 of the file."""
    calibration: TemperatureCalibration | None = None
    """By which its probabilities are calibrated; None for those that the network gives."""


def save_checkpoint(
    path: Path,
    model: FaceClassifier,
    *,
    model_config: ModelConfig,
    image_size: int,
    calibration: TemperatureCalibration | None = None,
) -> None:
    """Write the weights with all that rebuilding the model takes. The same weights give the same bytes."""
    about = {
        "format": FORMAT,
        "model": model_config.model_dump(mode="json", exclude={"pretrained", "weights_file"}),
        "labels": model.labels.to_dict(),
        "image_size": image_size,
        "normalization": {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()},
        "calibration": None if calibration is None else asdict(calibration),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as beside:
        save_file(tensors, beside, metadata={METADATA_KEY: json.dumps(about)})


def digest_checkpoint(path: Path) -> str:
    """Give the digest of a checkpoint's file, without loading it.

    Raises:
        CheckpointError: if there is no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; a trained model is best.safetensors in its run's directory")
    return digest_file(path)


def load_checkpoint(path: Path, *, labels: LabelSpace | None = None) -> Checkpoint:
    """Rebuild a model from its file alone.

    Args:
        path: a ``.safetensors`` file written by `save_checkpoint`.
        labels: if given, the label space that the model must have.

    Raises:
        CheckpointError: if there is no such file, it is no checkpoint of ours, or its labels differ.
    """
    digest = digest_checkpoint(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        model_config = ModelConfig.model_validate(about["model"])
        own_labels = LabelSpace.of(about["labels"])
        image_size = int(about["image_size"])
        normalization = about["normalization"]
        calibration = None if about["calibration"] is None else TemperatureCalibration.from_dict(about["calibration"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, ValidationError):
        raise CheckpointError(
            f"{path}: not a checkpoint of ssl-pipeline; expected the best.safetensors of a teacher or student"
        ) from None
    if labels is not None and own_labels != labels:
        raise CheckpointError(_other_labels(path, own_labels, labels))
    model = build_model(model_config, labels=own_labels, image_size=image_size, load_pretrained=False)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its own description: {error}") from None
    model.mean.copy_(torch.tensor(normalization["mean"]).view(1, 3, 1, 1))
    model.std.copy_(torch.tensor(normalization["std"]).view(1, 3, 1, 1))
    return Checkpoint(path, model.eval(), model_config, own_labels, image_size, digest, calibration)


def _other_labels(path: Path, own: LabelSpace, asked: LabelSpace) -> str:
    return (
        f"{path}: a checkpoint of other labels\n"
        f"  the checkpoint tells {describe_labels(own)}\n"
        f"  the config asks for  {describe_labels(asked)}\n"
        "  use the config that it was trained with, or train again"
    )


def describe_labels(labels: LabelSpace) -> str:
    """Write a label space in one line, as ``gender {male, female} × age {<30, >=30}``."""
    return " × ".join(f"{attribute.name} {{{', '.join(attribute.values)}}}" for attribute in labels.attributes)


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write what an interrupted training needs to go on: tensors and plain values only."""
    with atomic_path(path) as beside:
        torch.save(state, beside)


def load_training_state(path: Path, *, key: str) -> dict[str, Any] | None:
    """Read a training state if there is one of this very training, else None.

    A file cut short cannot be there (writes are atomic); one of another config, seed or set of faces is passed over.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        logger.warning("%s: cannot be read (%s); training starts anew", path, type(error).__name__)
        return None
    if state.get("key") != key:
        logger.info("%s: of another training; this one starts anew", path)
        return None
    return state
