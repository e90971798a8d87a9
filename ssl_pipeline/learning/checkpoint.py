"""Checkpoints of models (safetensors) and of training states (torch, loaded with `weights_only=True`)."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.vote import Vote, describe_network
from ssl_pipeline.runs.files import atomic_path, digest_file
from ssl_pipeline.runs.records import RECORD

logger = logging.getLogger(__name__)

FORMAT, VOTE_FORMAT = 1, 2
# A single key: safetensors writes several metadata keys in random order.
METADATA_KEY = "ssl_pipeline"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with its metadata."""

    path: Path
    model: FaceClassifier | Vote
    model_config: ModelConfig | None
    """None: a vote, whose members have one each."""
    labels: LabelSpace
    image_size: int
    digest: str
    """SHA-256 of the file."""
    calibration: TemperatureCalibration | None = None
    """Applied to the probabilities; None leaves them uncalibrated."""
    cropping: CropRules | Literal["unknown"] | None = None
    """How the faces that it learned from were cropped; None: centered squares. Earlier releases did not say."""


def save_checkpoint(
    path: Path,
    model: FaceClassifier | Vote,
    *,
    model_config: ModelConfig | None,
    image_size: int,
    cropping: CropRules | Literal["unknown"] | None,
    calibration: TemperatureCalibration | None = None,
) -> None:
    """Write the weights and the metadata to rebuild the model. The same weights give the same bytes."""
    first: dict[str, Any]
    if isinstance(model, Vote):
        first, last, weights = {"format": VOTE_FORMAT, "members": model.describe()}, {}, model.tensors()
    else:
        network = describe_network(model, model_config)
        first, last, weights = {"format": FORMAT, "model": network.pop("model")}, network, model.state_dict()
    metadata = {
        **first,
        "labels": model.labels.to_dict(),
        "image_size": image_size,
        **last,
        "calibration": None if calibration is None else asdict(calibration),
        "cropping": cropping.model_dump(mode="json") if isinstance(cropping, CropRules) else cropping,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(metadata)})


def digest_checkpoint(path: Path) -> str:
    """Compute the SHA-256 of a checkpoint's file, without loading it.

    Raises:
        CheckpointError: if there is no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; a trained model is best.safetensors in its run's directory")
    return digest_file(path)


def warn_if_unfinished(path: Path) -> None:
    """Warn that a checkpoint is of a training that has not finished, neither final nor calibrated."""
    if (path.parent / "last.pt").is_file() and not (path.parent / RECORD).is_file():
        logger.warning("%s: its training has not finished; these are the weights kept so far", path)


def load_checkpoint(path: Path, *, labels: LabelSpace | None = None) -> Checkpoint:
    """Rebuild a model from its file alone.

    Args:
        path: a ``.safetensors`` file written by `save_checkpoint`.
        labels: the label space that the model must have; None accepts any.

    Raises:
        CheckpointError: if the file does not exist, is not a checkpoint of this library, or has other labels.
    """
    digest = digest_checkpoint(path)
    foreign = CheckpointError(
        f"{path}: not a checkpoint of ssl-pipeline; expected the best.safetensors of a teacher or student"
    )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        checkpoint_labels = LabelSpace.of(metadata["labels"])
        image_size = int(metadata["image_size"])
        descriptions = metadata["members"] if "members" in metadata else [_only_member(metadata)]
        calibration = (
            None if metadata["calibration"] is None else TemperatureCalibration.from_dict(metadata["calibration"])
        )
        cropping = metadata.get("cropping", "unknown")
        if isinstance(cropping, dict):
            cropping = CropRules.model_validate(cropping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, ValidationError):
        raise foreign from None
    if labels is not None and checkpoint_labels != labels:
        raise CheckpointError(_other_labels(path, checkpoint_labels, labels))
    if "members" not in metadata:
        tensors = {f"0/{name}": tensor for name, tensor in tensors.items()}
    try:
        vote = Vote.rebuild(descriptions, tensors, labels=checkpoint_labels, size=image_size)
    except (KeyError, ValueError):  # of the metadata
        raise foreign from None
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the model in its metadata: {error}") from None
    model: FaceClassifier | Vote = vote
    model_config = None
    if "members" not in metadata and isinstance(network := vote.members[0].model, FaceClassifier):
        model, model_config = network, vote.members[0].model_config
    return Checkpoint(path, model.eval(), model_config, checkpoint_labels, image_size, digest, calibration, cropping)


def load_weights(path: Path, model: FaceClassifier) -> None:
    """Load a network's checkpoint into a model of the same network and labels.

    Raises:
        CheckpointError: if the file is not the checkpoint of one network, or does not fit.
    """
    source = load_checkpoint(path, labels=model.labels).model
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: the weights do not fit the network that starts from them: {reason}") from None


def _only_member(metadata: dict[str, Any]) -> dict[str, Any]:
    """Describe a network's checkpoint as the only member of a vote."""
    return {"name": "", "weight": 1.0, "model": metadata["model"], "normalization": metadata["normalization"]}


def _other_labels(path: Path, actual: LabelSpace, expected: LabelSpace) -> str:
    return (
        f"{path}: the checkpoint has other labels than the config\n"
        f"  checkpoint: {describe_labels(actual)}\n"
        f"  config:     {describe_labels(expected)}\n"
        "  use the config that it was trained with, or train again"
    )


def describe_labels(labels: LabelSpace) -> str:
    """Format a label space in one line, e.g. ``gender {male, female} × age {<30, >=30}``."""
    return " × ".join(f"{attribute.name} {{{', '.join(attribute.values)}}}" for attribute in labels.attributes)


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training, to resume from: tensors and plain values only."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_training_state(path: Path, *, key: str) -> dict[str, Any] | None:
    """Read a training state; None if the file is missing, unreadable, or has another key (config, seed, faces)."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        logger.warning("%s: cannot be read (%s); training starts from the beginning", path, type(error).__name__)
        return None
    if state.get("key") != key:
        logger.info("%s: belongs to another training; training starts from the beginning", path)
        return None
    return state
