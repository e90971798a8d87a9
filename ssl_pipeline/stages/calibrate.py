"""Calibration stage: temperatures fitted on labeled faces that the model was not trained on, written into its checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.evaluation import TemperatureScaling
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN, FloatArray
from ssl_pipeline.learning.calibrate import fit_and_report, save_calibrated
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.reports.calibration_plot import plot_calibration
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.versions import VERSIONS

PLOT = "calibration.png"


@dataclass(frozen=True)
class CalibratedModel:
    """A checkpoint with its calibration."""

    checkpoint: Path
    report: Mapping[str, Any] | None
    """See `fit_and_report`; None without calibration."""
    pictures: tuple[Path, ...]
    skipped: bool


def calibrate(config: RunConfig, run: RunDir, model_dir: Path, *, name: str) -> CalibratedModel:
    """Calibrate a trained model on the validation faces if the config says so; writes ``best.safetensors``.

    A stage of its own, so that another calibration trains nothing again.

    Args:
        config: the run's config.
        run: the run directory.
        model_dir: directory of the model's ``trained.safetensors``.
        name: the model's name in the plot.
    """
    trained, directory = model_dir / TRAINED, model_dir / "calibration"
    inputs = {"trained": digest_file(trained), "faces": faces_digest(config, run), **calibration_inputs(config)}

    def work() -> dict[str, Any]:
        directory.mkdir(exist_ok=True)  # the outputs are found through it
        predictor = CheckpointPredictor.load(trained, config.prediction, device=config.device)
        calibration, report = None, None
        if isinstance(config.calibration, TemperatureScaling):
            labeled = read_faces(run.faces / "labeled.parquet")
            faces = labeled[labeled["split"] == "validation"]
            pixels, rows = open_pixels(run.faces / "pixels.npy"), faces["pixel_row"].to_numpy(np.int64)
            probabilities = predictor.predict_uncalibrated(pixels, rows)
            calibration, report = fit_on(probabilities, faces, config, what="validation")
            plot(directory / PLOT, report, title=f"{name} on validation")
        save_calibrated(model_dir / "best.safetensors", predictor.checkpoint, calibration)
        return {"calibration": report}

    record = run_stage(
        directory,
        version=VERSIONS["calibrate"],
        inputs=inputs,
        outputs=["../best.safetensors"],
        optional_outputs=[PLOT],
        work=work,
    )
    pictures = tuple(directory / output for output in record.outputs if output == PLOT)
    return CalibratedModel(model_dir / "best.safetensors", record.result["calibration"], pictures, record.skipped)


def calibration_inputs(config: RunConfig) -> dict[str, Any]:
    """Return what every calibration depends on besides the models and faces."""
    prediction = config.prediction.fingerprint_fields(exclude=("batch_size", "shard_size"))
    return {
        "calibration": config.calibration,
        "prediction": prediction,
        "device": str(resolve_device(config.device)),
    }


def fit_on(
    probabilities: FloatArray, faces: pd.DataFrame, config: RunConfig, *, what: str
) -> tuple[TemperatureCalibration | None, dict[str, Any] | None]:
    """Fit temperatures on the fully labeled ones of some faces; None and None if the config has no calibration.

    Args:
        probabilities: uncalibrated, of these faces, float [N, K].
        faces: a face table, N rows; the model was not trained on them.
        config: the run's config.
        what: the faces, for messages.
    """
    if not isinstance(config.calibration, TemperatureScaling):
        return None, None
    labels = config.labels.space
    codes, units = labels.encode(faces), independent_units(faces)
    fully_known = (codes != UNKNOWN).all(axis=1)
    return fit_and_report(
        probabilities[fully_known],
        codes[fully_known],
        units[fully_known],
        config.calibration,
        labels=labels,
        what=what,
    )


def plot(path: Path, report: Mapping[str, Any] | None, *, title: str) -> None:
    """Plot calibration before and after, if temperatures were fitted."""
    if report is not None and "before" in report:
        plot_calibration(path, report, title=title)
