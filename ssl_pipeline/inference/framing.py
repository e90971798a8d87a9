"""Cropping of images as the faces were cropped that a checkpoint learned from."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ssl_pipeline.config.cropping import CroppingConfig, CropRules
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.faces.cropper import Cropper, uncached_cropper
from ssl_pipeline.learning.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


def cropper_of(checkpoints: Sequence[Checkpoint], *, detector: Path | None, crop: bool = True) -> Cropper | None:
    """Open the cropper by whose rules the faces of the checkpoints were cropped; None takes the centered square.

    Args:
        checkpoints: at least one.
        detector: YuNet's ONNX file.
        crop: False for images that are cropped already.

    Raises:
        ConfigError: if the faces were cropped and there is no detector.
        CheckpointError: if the checkpoints were trained on faces cropped by different rules.
        FaceTableError: if the detector cannot be loaded.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if crop and other.cropping != first.cropping:
            raise CheckpointError(
                f"{other.path}: cannot vote together with {first.path}, because their faces were cropped differently "
                f"({describe_cropping(other.cropping)}; {describe_cropping(first.cropping)}); use one of them, or "
                "--no-crop for images that are cropped already"
            )
    rules = first.cropping
    if not crop:
        return None
    if isinstance(rules, CropRules):
        if detector is None:
            raise ConfigError(
                f"{first.path}: trained on {describe_cropping(rules)}; give the detector's ONNX file: --crop FILE, or "
                "--no-crop for images that are cropped already"
            )
        return uncached_cropper(rules.with_detector(detector))
    if rules == "unknown":
        how = "are not cropped" if detector is None else "are cropped by the default rules"
        logger.warning(
            "%s: made by an earlier release, it does not say how its faces were cropped; images %s", first.path, how
        )
    elif detector is not None:
        logger.warning("%s: trained on uncropped faces; --crop crops by the default rules", first.path)
    return None if detector is None else uncached_cropper(CroppingConfig(model=detector))


def describe_cropping(cropping: CropRules | str | None) -> str:
    """Format how faces were cropped."""
    if isinstance(cropping, CropRules):
        return (
            f"faces cropped by {cropping.detector} (margin {cropping.margin:g}, {cropping.which}, min_score "
            f"{cropping.min_score:g}, fallback {cropping.fallback})"
        )
    return "centered squares of its pictures" if cropping is None else "faces cropped in an unknown way"


def warn_of_other_cropping(checkpoint: Checkpoint, rules: CropRules | None) -> None:
    """Warn if the faces to predict were cropped by other rules than those that a checkpoint learned from."""
    if checkpoint.cropping != rules:
        logger.warning(
            "%s: trained on %s; these faces are %s",
            checkpoint.path,
            describe_cropping(checkpoint.cropping),
            describe_cropping(rules),
        )
