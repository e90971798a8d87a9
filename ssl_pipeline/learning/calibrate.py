"""From a trained checkpoint and validation faces to a calibrated checkpoint, and what to say of it."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_pipeline.config.evaluation import NoCalibration, TemperatureScaling
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.evaluation.temperature import TemperatureCalibration, calibration_report, fit_calibration
from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, save_checkpoint
from ssl_pipeline.learning.dataset import LabeledSet
from ssl_pipeline.learning.device import Device
from ssl_pipeline.learning.predict import CheckpointPredictor

logger = logging.getLogger(__name__)


def calibrate_checkpoint(
    path: Path,
    validation: LabeledSet,
    config: NoCalibration | TemperatureScaling,
    *,
    prediction: PredictionConfig,
    device: Device = "auto",
) -> dict[str, Any] | None:
    """Fit the temperatures of a checkpoint, and write them into it; or take out those that it has.

    Args:
        path: the checkpoint.
        validation: faces that it was not trained on.
        config: whether and how.
        prediction: the views over which probabilities are averaged before they are calibrated.
        device: where to compute.

    Returns:
        What to record: temperatures, and scores before and after (see `calibration_report`); or, with too few faces,
        why it stays uncalibrated; None where no calibration is asked for.
    """
    predictor = CheckpointPredictor.load(path, prediction, device=device)
    checkpoint, labels = predictor.checkpoint, predictor.labels
    calibration: TemperatureCalibration | None = None
    about: dict[str, Any] | None = None
    if isinstance(config, TemperatureScaling):
        refusal = too_few_faces(len(validation.codes), config, what="validation")
        if refusal is not None:
            about = {"refused": refusal}
        else:
            probabilities = predictor.predict_uncalibrated(validation.pixels, validation.pixel_rows)
            calibration, about = fit_and_report(probabilities, validation.codes, config, labels=labels)
    if calibration != checkpoint.calibration:
        save_calibrated(path, checkpoint, calibration)
    return about


def too_few_faces(num_faces: int, config: TemperatureScaling, *, what: str) -> str | None:
    """Say why nothing is fitted, if the fully known faces are too few."""
    if num_faces >= config.min_faces:
        return None
    refusal = f"{num_faces} {what} faces are fewer than calibration.min_faces {config.min_faces}"
    logger.warning("stays uncalibrated: %s", refusal)
    return refusal


def fit_and_report(
    probabilities: FloatArray, codes: IntArray, config: TemperatureScaling, *, labels: LabelSpace
) -> tuple[TemperatureCalibration, dict[str, Any]]:
    """Fit temperatures on held-out faces, all fully known; beside them, what to record (see `calibrate_checkpoint`)."""
    calibration = fit_calibration(probabilities, codes, labels=labels, per=config.per)
    report = calibration_report(probabilities, codes, labels=labels, per=config.per)
    return calibration, {**asdict(calibration), **report}


def save_calibrated(path: Path, checkpoint: Checkpoint, calibration: TemperatureCalibration | None) -> None:
    """Write a checkpoint with these temperatures, or with none."""
    save_checkpoint(
        path,
        checkpoint.model,
        model_config=checkpoint.model_config,
        image_size=checkpoint.image_size,
        calibration=calibration,
    )
