"""Temperature scaling of checkpoints on held-out predictions."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_pipeline.config.evaluation import TemperatureScaling
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.evaluation.temperature_fit import calibration_report, fit_calibration
from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, save_checkpoint

logger = logging.getLogger(__name__)


def fit_and_report(
    probabilities: FloatArray,
    codes: IntArray,
    units: IntArray,
    config: TemperatureScaling,
    *,
    labels: LabelSpace,
    what: str,
) -> tuple[TemperatureCalibration | None, dict[str, Any]]:
    """Fit temperatures on fully labeled faces that the model was not trained on.

    Args:
        probabilities: uncalibrated, float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        units: the independent unit of each face, int [N].
        config: the calibration.
        labels: the label space.
        what: the faces, for messages: e.g. ``validation``.

    Returns:
        The calibration, with its temperatures and scores before and after (see `calibration_report`); with too few
        persons None and ``{"refused": reason}``.
    """
    num_units = len(set(units.tolist()))
    if num_units < config.min_persons:
        refusal = f"{num_units} persons with {what} faces are fewer than calibration.min_persons {config.min_persons}"
        logger.warning("not calibrated: %s", refusal)
        return None, {"refused": refusal}
    calibration = fit_calibration(probabilities, codes, units, labels=labels, per=config.per)
    for refusal in calibration.refused_temperatures:
        logger.warning("not calibrated: %s", refusal)
    report = calibration_report(probabilities, codes, units, labels=labels, per=config.per)
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
