"""Teachers that each miss a part of the training faces, and what they say of it: labels of faces that they never saw.

A hundred validation faces tell little, and they have chosen each teacher's best epoch. Out of its fold, every training
face is held-out (cross-fitting; Stone 1974), and the teachers together label the pool (deep ensembles, arXiv:1612.01474).
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
from ssl_pipeline.faces.near_duplicates import picture_ids
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.splitting import assign_folds, connected_groups
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.learning.calibrate import fit_and_report, save_calibrated, too_few_faces
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import write_shard
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.reports.calibration_plot import plot_calibration
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.train import TrainedModel, Training, train_model

_SEED = 500  # beside those of the teacher (0) and of the rounds' students (1, 2, …)
_PREDICTIONS = "part-00000.parquet"


@dataclass(frozen=True)
class CrossFit:
    """The fold teachers, and their predictions of the faces that each did not learn from."""

    directory: Path
    num_faces: int
    by_fold: tuple[int, ...]
    """Faces of each fold."""
    teachers: tuple[TrainedModel, ...]
    calibration: Mapping[str, Any] | None
    pictures: tuple[Path, ...]
    skipped: bool


def train_fold_teachers(config: RunConfig, run: RunDir) -> CrossFit | None:
    """Train the teachers of `out_of_fold`, each without its part, and predict that part by it; None without the section.

    Writes, in ``round-00/out_of_fold``, the class probabilities of the training faces, each by the teacher that misses
    it, and the teachers' checkpoints, calibrated on them if the config asks for it.
    """
    if config.out_of_fold is None:
        return None
    num_folds, labels = config.out_of_fold.num_folds, config.labels.space
    labeled = read_faces(run.faces / "labeled.parquet")
    faces = labeled[labeled["split"] == "train"].reset_index(drop=True)
    pictures = picture_ids(faces, run.faces / "pixels.npy", config.faces)
    groups = connected_groups(faces["person_id"].tolist(), pictures)
    folds = assign_folds(labels.class_ids(labels.encode(faces)), groups, num_folds=num_folds, seed=config.seed)
    teachers = tuple(_train_without(fold, faces[folds != fold], config, run) for fold in range(num_folds))
    checkpoints = [run.fold_teacher(fold) / "best.safetensors" for fold in range(num_folds)]
    inputs = {
        "checkpoints": [digest_file(path) for path in checkpoints],
        "faces": faces_digest(run),
        "folds": digest_of(folds.tolist()),
        "calibration": config.calibration,
        "prediction": config.prediction.model_dump(exclude={"batch_size", "shard_size"}),
    }
    record = run_stage(
        run.out_of_fold,
        inputs=inputs,
        outputs=[_PREDICTIONS, *(f"fold-{fold}.safetensors" for fold in range(num_folds))],
        optional_outputs=["calibration.png"],
        work=lambda: _predict_held_out(checkpoints, faces, folds, config, run, identity=digest_of(inputs)),
    )
    plots = tuple(run.out_of_fold / name for name in record.outputs if name.endswith(".png"))
    by_fold = tuple(record.result["by_fold"])
    calibration = record.result["calibration"]
    return CrossFit(run.out_of_fold, len(faces), by_fold, teachers, calibration, plots, record.skipped)


def _train_without(fold: int, faces: pd.DataFrame, config: RunConfig, run: RunDir) -> TrainedModel:
    assert config.out_of_fold is not None
    num_folds, directory = config.out_of_fold.num_folds, run.fold_teacher(fold)
    training = Training(
        f"teacher without part {fold + 1} of {num_folds}",
        directory,
        seed=config.seed * 1000 + _SEED + fold,
        inputs={"image_ids": digest_of(faces["image_id"].tolist())},
        calibrated=False,
    )

    def training_table() -> Path:
        write_training_table(directory / "training.parquet", human_table(faces, labels=config.labels.space))
        return directory / "training.parquet"

    return train_model(config, config.teacher, run, training, training_table)


def _predict_held_out(
    checkpoints: list[Path],
    faces: pd.DataFrame,
    folds: npt.NDArray[np.int64],
    config: RunConfig,
    run: RunDir,
    *,
    identity: str,
) -> dict[str, Any]:
    labels, pixels = config.labels.space, open_pixels(run.faces / "pixels.npy")
    predictors = [
        CheckpointPredictor.load(path, config.prediction, labels=labels, device=config.device) for path in checkpoints
    ]
    probabilities = np.zeros((len(faces), labels.num_classes), np.float32)
    for fold, predictor in enumerate(predictors):
        rows = faces.loc[folds == fold, "pixel_row"].to_numpy(np.int64)
        probabilities[folds == fold] = predictor.predict_uncalibrated(pixels, rows)
    calibration, about = _calibrate(probabilities, faces, config, run)
    if calibration is not None:
        probabilities = calibration.apply(probabilities, labels).astype(np.float32)
    for fold, predictor in enumerate(predictors):
        save_calibrated(run.out_of_fold / f"fold-{fold}.safetensors", predictor.checkpoint, calibration)
    write_shard(run.out_of_fold / _PREDICTIONS, faces["image_id"].tolist(), probabilities, identity)
    return {"num_faces": len(faces), "by_fold": np.bincount(folds).tolist(), "calibration": about}


def _calibrate(
    probabilities: npt.NDArray[np.float32], faces: pd.DataFrame, config: RunConfig, run: RunDir
) -> tuple[TemperatureCalibration | None, dict[str, Any] | None]:
    """Fit one set of temperatures for all teachers: each part alone has too few faces."""
    if not isinstance(config.calibration, TemperatureScaling):
        return None, None
    labels = config.labels.space
    codes = labels.encode(faces)
    whole = (codes != UNKNOWN).all(axis=1)
    if (refusal := too_few_faces(int(whole.sum()), config.calibration, what="training")) is not None:
        return None, {"refused": refusal}
    calibration, about = fit_and_report(probabilities[whole], codes[whole], config.calibration, labels=labels)
    plot_calibration(run.out_of_fold / "calibration.png", about, title="Training faces, each out of its fold")
    return calibration, about
