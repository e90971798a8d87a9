"""The model that a training starts with: new or pretrained weights, head, and what stays frozen."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.learning.dataset import TrainingFaces, TrainingSet
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.linear_head import fit_linear_head
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.parameter_groups import FreezableBackbone
from ssl_pipeline.learning.predict import eval_mode, iterate_batches

logger = logging.getLogger(__name__)

_BATCH = 128


def starting_model(
    config: RoleConfig, faces: TrainingFaces, *, compute: Compute
) -> tuple[FaceClassifier, FreezableBackbone]:
    """Build a training's model, with random numbers from torch's global generator, and freeze its parts.

    Only the main process fits a head; DistributedDataParallel copies its weights to the others.

    Raises:
        ConfigError: if the architecture is unknown, or cannot have what the config asks for.
        CheckpointError: if the pretrained weights cannot be fetched or do not fit.
    """
    training = config.training
    model = build_model(config.model, labels=faces.labels, image_size=faces.image_size)
    model = model.to_channels_last(compute.device)
    if training.head_start == "linear_probe" and compute.accelerator.is_main_process:
        set_linear_probe(model, faces.train, compute=compute, balanced=training.class_balanced)
    freezable = FreezableBackbone(
        model,
        epochs=training.optimizer.freeze_backbone_epochs,
        num_layers=training.optimizer.frozen_layers,
        freeze_statistics=training.batch_norm == "frozen",
    )
    return model, freezable


def set_linear_probe(model: FaceClassifier, faces: TrainingSet, *, compute: Compute, balanced: bool) -> None:
    """Set the classifier to a linear probe on the human-labeled faces and their mirror images (SWIFT, arXiv:2512.10244).

    Args:
        model: on the device of `compute`.
        faces: the training faces, without augmentation.
        compute: device; features are computed in fp32.
        balanced: give each value the same total weight.

    Raises:
        ConfigError: if the classifier is not one linear layer on the pooled features.
    """
    classifier = linear_classifier(model)
    human = np.flatnonzero(faces.is_human & faces.known.any(axis=1))
    codes = known_codes(faces, model.labels)[human]
    features = _features(model, faces.pixels, faces.pixel_rows[human], compute.device)
    head = fit_linear_head(
        features,
        np.repeat(codes, 2, axis=0),
        model.labels,
        head="joint" if model.head == "joint" else "per_attribute",
        class_weight="balanced" if balanced else None,
    )
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(head.weights))
        classifier.bias.copy_(torch.from_numpy(head.bias))
    logger.info("the head starts as a linear probe on %d labeled faces", len(human))


def linear_classifier(model: FaceClassifier) -> nn.Linear:
    """Return the classifier.

    Raises:
        ConfigError: if it is not one linear layer with a bias.
    """
    backbone: Any = model.backbone
    head = backbone.get_classifier() if hasattr(backbone, "get_classifier") else getattr(backbone, "classifier", None)
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ConfigError(
            f"head_start: the classifier of {type(backbone).__name__} is not one linear layer; --set head_start=random, "
            "or choose another architecture"
        )
    return head


def known_codes(faces: TrainingSet, labels: LabelSpace) -> npt.NDArray[np.int64]:
    """Return the value codes of the known attributes, int [N, A], -1 unknown; of soft targets, the most probable class's."""
    return np.where(faces.known, labels.class_codes[faces.targets.argmax(axis=1)], UNKNOWN)


@torch.inference_mode()
def _features(
    model: FaceClassifier, pixels: npt.NDArray[np.uint8], pixel_rows: npt.NDArray[np.int64], device: torch.device
) -> npt.NDArray[np.float32]:
    """Compute the pooled features of each face and of its mirror image, one after the other: float32 [2 N, D]."""
    parts = []
    with eval_mode(model):
        for batch in iterate_batches(pixels, pixel_rows, batch_size=_BATCH, device=device):
            views = torch.stack([batch, batch.flip(3)], dim=1).flatten(0, 1)
            parts.append(model.features(views).float().cpu().numpy())
    return np.concatenate(parts)
