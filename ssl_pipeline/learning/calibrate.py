"""Temperature scaling of checkpoints on held-out predictions."""

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
    """Fit a checkpoint's temperatures and write them into it; without calibration, remove them.

    Args:
        path: the checkpoint.
        validation: faces that it was not trained on.
        config: the calibration.
        prediction: batch size, precision and the views to average before calibration.
        device: where to compute.

    Returns:
        Temperatures and scores before and after (see `calibration_report`); ``{"refused": reason}`` with too few faces;
        None without calibration.
    """
    predictor = CheckpointPredictor.load(path, prediction, device=device)
    checkpoint, labels = predictor.checkpoint, predictor.labels
    calibration: TemperatureCalibration | None = None
    report: dict[str, Any] | None = None
    if isinstance(config, TemperatureScaling):
        refusal = too_few_faces(len(validation.codes), config, what="validation")
        if refusal is not None:
            report = {"refused": refusal}
        else:
            probabilities = predictor.predict_uncalibrated(validation.pixels, validation.pixel_rows)
            calibration, report = fit_and_report(probabilities, validation.codes, config, labels=labels)
    if calibration != checkpoint.calibration:
        save_calibrated(path, checkpoint, calibration)
    return report


def too_few_faces(num_faces: int, config: TemperatureScaling, *, what: str) -> str | None:
    """Return why nothing is fitted, if there are too few fully labeled faces; else None."""
    if num_faces >= config.min_faces:
        return None
    refusal = f"{num_faces} {what} faces are fewer than calibration.min_faces {config.min_faces}"
    logger.warning("not calibrated: %s", refusal)
    return refusal


def fit_and_report(
    probabilities: FloatArray, codes: IntArray, config: TemperatureScaling, *, labels: LabelSpace
) -> tuple[TemperatureCalibration, dict[str, Any]]:
    """Fit temperatures on fully labeled held-out faces; return them and a report (see `calibrate_checkpoint`)."""
    calibration = fit_calibration(probabilities, codes, labels=labels, per=config.per)
    report = calibration_report(probabilities, codes, labels=labels, per=config.per)
    return calibration, {**asdict(calibration), **report}


def save_calibrated(path: Path, checkpoint: Checkpoint, calibration: TemperatureCalibration | None) -> None:
    """Write the checkpoint with these temperatures, or without any."""
    save_checkpoint(
        path,
        checkpoint.model,
        model_config=checkpoint.model_config,
        image_size=checkpoint.image_size,
        cropping=checkpoint.cropping,
        calibration=calibration,
    )
