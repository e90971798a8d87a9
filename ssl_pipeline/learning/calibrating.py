"""From a trained checkpoint and validation faces to a calibrated checkpoint, and what to say of it."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_pipeline.config import PredictionConfig
from ssl_pipeline.config_calibration import NoCalibration, TemperatureScaling
from ssl_pipeline.faces.dataset import LabeledSet
from ssl_pipeline.learning.calibration import Calibration, calibration_report, fit_calibration
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.device import Device
from ssl_pipeline.learning.prediction import Predictor

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
    predictor = Predictor.load(path, prediction, device=device)
    checkpoint, labels = predictor.checkpoint, predictor.labels
    calibration: Calibration | None = None
    about: dict[str, Any] | None = None
    if isinstance(config, TemperatureScaling):
        num_faces = len(validation.codes)
        if num_faces < config.min_faces:
            refusal = f"{num_faces} validation faces are fewer than calibration.min_faces {config.min_faces}"
            logger.warning("%s: stays uncalibrated: %s", path.parent.name, refusal)
            about = {"refused": refusal}
        else:
            probabilities = predictor.predict_uncalibrated(validation.pixels, validation.pixel_rows)
            calibration = fit_calibration(probabilities, validation.codes, labels=labels, per=config.per)
            report = calibration_report(probabilities, validation.codes, labels=labels, per=config.per)
            about = {**asdict(calibration), **report}
    if calibration != checkpoint.calibration:
        save_checkpoint(
            path,
            checkpoint.model,
            model_config=checkpoint.model_config,
            image_size=checkpoint.image_size,
            calibration=calibration,
        )
    return about
