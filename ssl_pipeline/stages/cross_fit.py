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

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.splitting import assign_folds
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.calibrate import save_calibrated
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import write_shard
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.calibrate import PLOT, calibration_inputs, fit_on, plot
from ssl_pipeline.stages.teachers import train_vote
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

    Writes to ``round-00/out_of_fold`` the out-of-fold class probabilities of the training faces, and each teacher's
    checkpoint, with the same calibration as its own fold's predictions.
    """
    if config.out_of_fold is None:
        return None
    num_folds, labels = config.out_of_fold.num_folds, config.labels.space
    labeled = read_faces(run.faces / "labeled.parquet")
    faces = labeled[labeled["split"] == "train"].reset_index(drop=True)
    class_ids, units = labels.class_ids(labels.encode(faces)), independent_units(faces)
    folds = assign_folds(class_ids, units, num_folds=num_folds, seed=config.seed)
    teachers = tuple(_train_fold_teacher(fold, faces[folds != fold], config, run) for fold in range(num_folds))
    checkpoints = [run.fold_teacher(fold) / TRAINED for fold in range(num_folds)]
    inputs = {
        "checkpoints": [digest_file(path) for path in checkpoints],
        "faces": faces_digest(config, run),
        "folds": digest_of(folds.tolist()),
        **calibration_inputs(config),
    }
    record = run_stage(
        run.out_of_fold,
        version=VERSIONS["cross_fit"],
        inputs=inputs,
        outputs=[_PREDICTIONS, *(f"fold-{fold}.safetensors" for fold in range(num_folds))],
        optional_outputs=[PLOT],
        work=lambda: _predict_out_of_fold(checkpoints, faces, folds, config, run, identity=digest_of(inputs)),
    )
    plots = tuple(run.out_of_fold / name for name in record.outputs if name == PLOT)
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

    if config.network_teacher is None:
        return train_vote(config, run, training, faces, training_table)
    return train_model(config, config.network_teacher, run, training, training_table)


def _predict_out_of_fold(
    checkpoints: list[Path],
    faces: pd.DataFrame,
    folds: npt.NDArray[np.int64],
    config: RunConfig,
    run: RunDir,
    *,
    identity: str,
) -> dict[str, Any]:
    """Predict each fold with its teacher, calibrate each teacher on the other folds, write predictions and checkpoints."""
    labels, pixels = config.labels.space, open_pixels(run.faces / "pixels.npy")
    predictors = [
        CheckpointPredictor.load(path, config.prediction, labels=labels, device=config.device) for path in checkpoints
    ]
    probabilities = np.zeros((len(faces), labels.num_classes), np.float32)
    for fold, predictor in enumerate(predictors):
        rows = faces.loc[folds == fold, "pixel_row"].to_numpy(np.int64)
        probabilities[folds == fold] = predictor.predict_uncalibrated(pixels, rows)
    _, report = fit_on(probabilities, faces, config, what="training")
    plot(run.out_of_fold / PLOT, report, title="Training faces, out of fold")
    calibrated = probabilities.copy()
    for fold, predictor in enumerate(predictors):
        own = folds == fold
        # Without the fold itself: its faces test the guarantee, so they must not choose the temperatures.
        calibration, _ = fit_on(probabilities[~own], faces[~own], config, what="training")
        if calibration is not None:
            calibrated[own] = calibration.apply(probabilities[own], labels).astype(np.float32)
        save_calibrated(run.out_of_fold / f"fold-{fold}.safetensors", predictor.checkpoint, calibration)
    write_shard(run.out_of_fold / _PREDICTIONS, faces["image_id"].tolist(), calibrated, identity)
    return {"num_faces": len(faces), "by_fold": np.bincount(folds).tolist(), "calibration": report}
