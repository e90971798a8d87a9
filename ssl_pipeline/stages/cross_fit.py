"""Cross-fitting: fold teachers, and their out-of-fold predictions of the training faces.

Validation faces are few, and they also choose each teacher's best epoch. In cross-fitting (Stone 1974) every training
face is held out once, and the fold teachers label the pool as an ensemble (deep ensembles, arXiv:1612.01474).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.evaluation import TemperatureScaling
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.splitting import assign_folds
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.learning.calibrate import fit_and_report, save_calibrated, too_few_faces
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import write_shard
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.reports.calibration_plot import plot_calibration
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.train import TrainedModel, Training, train_model
from ssl_pipeline.stages.versions import VERSIONS

_SEED_OFFSET = 500  # the teacher has 0, the students 1, 2, …
_PREDICTIONS = "part-00000.parquet"


@dataclass(frozen=True)
class CrossFit:
    """The fold teachers and their out-of-fold predictions."""

    directory: Path
    num_faces: int
    by_fold: tuple[int, ...]
    """Number of faces per fold."""
    teachers: tuple[TrainedModel, ...]
    calibration: Mapping[str, Any] | None
    pictures: tuple[Path, ...]
    skipped: bool


def train_fold_teachers(config: RunConfig, run: RunDir) -> CrossFit | None:
    """Train a teacher without each fold and predict that fold with it; None if the config has no `out_of_fold`.

    Writes the out-of-fold class probabilities of the training faces and the teachers' checkpoints, calibrated on these
    probabilities if the config says so, to ``round-00/out_of_fold``.
    """
    if config.out_of_fold is None:
        return None
    num_folds, labels = config.out_of_fold.num_folds, config.labels.space
    labeled = read_faces(run.faces / "labeled.parquet")
    faces = labeled[labeled["split"] == "train"].reset_index(drop=True)
    groups = independent_units(faces)
    folds = assign_folds(labels.class_ids(labels.encode(faces)), groups, num_folds=num_folds, seed=config.seed)
    teachers = tuple(_train_fold_teacher(fold, faces[folds != fold], config, run) for fold in range(num_folds))
    checkpoints = [run.fold_teacher(fold) / "best.safetensors" for fold in range(num_folds)]
    inputs = {
        "checkpoints": [digest_file(path) for path in checkpoints],
        "faces": faces_digest(config, run),
        "folds": digest_of(folds.tolist()),
        "calibration": config.calibration,
        "prediction": config.prediction.model_dump(exclude={"batch_size", "shard_size"}),
        "device": str(resolve_device(config.device)),
    }
    record = run_stage(
        run.out_of_fold,
        version=VERSIONS["cross_fit"],
        inputs=inputs,
        outputs=[_PREDICTIONS, *(f"fold-{fold}.safetensors" for fold in range(num_folds))],
        optional_outputs=["calibration.png"],
        work=lambda: _predict_out_of_fold(checkpoints, faces, folds, config, run, identity=digest_of(inputs)),
    )
    plots = tuple(run.out_of_fold / name for name in record.outputs if name.endswith(".png"))
    by_fold = tuple(record.result["by_fold"])
    calibration = record.result["calibration"]
    return CrossFit(run.out_of_fold, len(faces), by_fold, teachers, calibration, plots, record.skipped)


def _train_fold_teacher(fold: int, faces: pd.DataFrame, config: RunConfig, run: RunDir) -> TrainedModel:
    """Train on `faces`, which are those outside the fold."""
    assert config.out_of_fold is not None
    num_folds, directory = config.out_of_fold.num_folds, run.fold_teacher(fold)
    training = Training(
        f"teacher without fold {fold + 1} of {num_folds}",
        directory,
        seed=config.seed * 1000 + _SEED_OFFSET + fold,
        inputs={"image_ids": digest_of(faces["image_id"].tolist())},
        calibrated=False,
    )

    def training_table() -> Path:
        write_training_table(directory / "training.parquet", human_table(faces, labels=config.labels.space))
        return directory / "training.parquet"

    return train_model(config, config.teacher, run, training, training_table)


def _predict_out_of_fold(
    checkpoints: list[Path],
    faces: pd.DataFrame,
    folds: npt.NDArray[np.int64],
    config: RunConfig,
    run: RunDir,
    *,
    identity: str,
) -> dict[str, Any]:
    """Predict each fold with its teacher, calibrate all teachers together, and write predictions and checkpoints."""
    labels, pixels = config.labels.space, open_pixels(run.faces / "pixels.npy")
    predictors = [
        CheckpointPredictor.load(path, config.prediction, labels=labels, device=config.device) for path in checkpoints
    ]
    probabilities = np.zeros((len(faces), labels.num_classes), np.float32)
    for fold, predictor in enumerate(predictors):
        rows = faces.loc[folds == fold, "pixel_row"].to_numpy(np.int64)
        probabilities[folds == fold] = predictor.predict_uncalibrated(pixels, rows)
    calibration, report = _calibrate(probabilities, faces, config, run)
    if calibration is not None:
        probabilities = calibration.apply(probabilities, labels).astype(np.float32)
    for fold, predictor in enumerate(predictors):
        save_calibrated(run.out_of_fold / f"fold-{fold}.safetensors", predictor.checkpoint, calibration)
    write_shard(run.out_of_fold / _PREDICTIONS, faces["image_id"].tolist(), probabilities, identity)
    return {"num_faces": len(faces), "by_fold": np.bincount(folds).tolist(), "calibration": report}


def _calibrate(
    probabilities: npt.NDArray[np.float32], faces: pd.DataFrame, config: RunConfig, run: RunDir
) -> tuple[TemperatureCalibration | None, dict[str, Any] | None]:
    """Fit one set of temperatures for all teachers, since a single fold has too few faces.

    Returns:
        The calibration, and what to record about it; None and None if the config has no calibration.
    """
    if not isinstance(config.calibration, TemperatureScaling):
        return None, None
    labels = config.labels.space
    codes = labels.encode(faces)
    fully_known = (codes != UNKNOWN).all(axis=1)
    if (refusal := too_few_faces(int(fully_known.sum()), config.calibration, what="training")) is not None:
        return None, {"refused": refusal}
    calibration, report = fit_and_report(
        probabilities[fully_known], codes[fully_known], config.calibration, labels=labels
    )
    plot_calibration(run.out_of_fold / "calibration.png", report, title="Training faces, out of fold")
    return calibration, report
