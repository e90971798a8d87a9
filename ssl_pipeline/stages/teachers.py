"""Several teachers: networks and linear heads on features, trained one after the other and packed into one vote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import EmbeddingTeacher, FeaturesTeacher, NetworkTeacher
from ssl_pipeline.faces.table import read_crop_rules, read_faces
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.checkpoint import load_checkpoint, save_checkpoint
from ssl_pipeline.learning.embedders import build_embedder
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.learning.linear_head import fit_linear_head
from ssl_pipeline.learning.stored_features import FEATURES
from ssl_pipeline.learning.vote import FeatureHead, Member, Vote
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of
from ssl_pipeline.runs.records import StageRecord, run_stage
from ssl_pipeline.stages.calibrate import calibrate
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.features import compute_features
from ssl_pipeline.stages.train import TrainedModel, Training, train_model
from ssl_pipeline.stages.versions import VERSIONS

_SEED_STEP = 50
"""Between the members' seeds: two networks of the same architecture start from other weights."""


def train_teacher(config: RunConfig, run: RunDir) -> TrainedModel:
    """Train the first teacher on the human labels: a network, or several teachers that vote."""
    training = Training("teacher", run.teacher, seed=config.seed * 1000)
    if config.network_teacher is not None:
        return train_model(config, config.network_teacher, run, training)
    labeled = read_faces(run.faces / "labeled.parquet")
    return train_vote(config, run, training, labeled[labeled["split"] == "train"].reset_index(drop=True))


def train_vote(
    config: RunConfig,
    run: RunDir,
    training: Training,
    faces: pd.DataFrame,
    training_table: Callable[[], Path | None] = lambda: None,
) -> TrainedModel:
    """Train every teacher of the config in ``members/<name>``, and pack them into one vote.

    Calibrated teachers are also evaluated on the validation faces, each and together.

    Args:
        config: the run's config.
        run: the run directory.
        training: name, directory and seed of the vote.
        faces: the training faces, a face table.
        training_table: writes them as a training table, see `train_model`; None trains on all human labels.
    """
    directories = {}
    for position, (name, teacher) in enumerate(config.named_teachers.items()):
        directory = directories[name] = run.members(training.directory) / name
        if isinstance(teacher, NetworkTeacher):
            own = Training(
                f"{training.name} {name}",
                directory,
                seed=training.seed + _SEED_STEP * position,
                inputs=training.inputs,
                calibrated=False,
            )
            train_model(config, teacher, run, own, training_table)
        else:
            _fit_head(config, run, name, teacher, directory, faces)
    record = _pack(config, training.directory, directories)
    if not training.calibrated:
        return _trained(training.directory, record, None, {})
    for name, directory in {**directories, "": training.directory}.items():
        calibration = calibrate(config, run, directory, name=f"{training.name} {name}".strip())
    scores = {name: evaluate(config, run, path, "validation").scores for name, path in directories.items()}
    together = evaluate(config, run, training.directory, "validation").scores
    return _trained(training.directory, record, calibration, {**scores, "vote": together})


def _fit_head(
    config: RunConfig, run: RunDir, name: str, teacher: EmbeddingTeacher, directory: Path, faces: pd.DataFrame
) -> StageRecord:
    """Fit a head on the features of the training faces; writes ``trained.safetensors``, a vote of one."""
    features = compute_features(config, run, name, teacher)
    labels = config.labels.space
    inputs = {
        "features": features.outputs[FEATURES],
        "image_ids": digest_of(faces["image_id"].tolist()),
        "labels": config.labels,
        "faces": features.inputs["faces"],
        "head": teacher.model_dump(mode="json", include={"head", "inverse_regularization", "class_balanced"}),
    }

    def work() -> dict[str, Any]:
        vectors = np.load(run.features / name / FEATURES, mmap_mode="r", allow_pickle=False)
        rows: IntArray = faces["pixel_row"].to_numpy(np.int64)
        fitted = fit_linear_head(
            vectors[rows],
            labels.encode(faces),
            labels,
            head=teacher.head,
            inverse_regularization=teacher.inverse_regularization,
            class_weight="balanced" if teacher.class_balanced else None,
        )
        head = FeatureHead(
            torch.from_numpy(fitted.weights),
            torch.from_numpy(fitted.bias),
            labels=labels,
            head=teacher.head,
            digest=str(features.inputs["embedding"]),
            embedder=None if isinstance(teacher, FeaturesTeacher) else build_embedder(teacher.embedding),
        )
        _save(directory / TRAINED, Vote([Member(name, teacher.weight, head)]), config, run)
        return {"num_faces": len(rows), "num_features": vectors.shape[1]}

    return run_stage(directory, version=VERSIONS["head"], inputs=inputs, outputs=[TRAINED], work=work)


def _pack(config: RunConfig, directory: Path, members: dict[str, Path]) -> StageRecord:
    """Pack the trained members, uncalibrated, into one checkpoint."""
    weights = {name: teacher.weight for name, teacher in config.named_teachers.items()}
    inputs = {"members": {name: digest_file(path / TRAINED) for name, path in members.items()}, "weights": weights}

    def work() -> dict[str, Any]:
        packed = []
        for name, path in members.items():
            checkpoint = load_checkpoint(path / TRAINED, labels=config.labels.space)
            model, model_config = checkpoint.model, checkpoint.model_config
            if isinstance(model, Vote):
                (only,) = model.members
                packed.append(Member(name, weights[name], only.model))
            else:
                packed.append(Member(name, weights[name], model, model_config))
        save_checkpoint(
            directory / TRAINED,
            Vote(packed),
            model_config=None,
            image_size=checkpoint.image_size,
            cropping=checkpoint.cropping,
        )
        return {"members": list(members)}

    return run_stage(directory, version=VERSIONS["vote"], inputs=inputs, outputs=[TRAINED], work=work)


def _save(path: Path, vote: Vote, config: RunConfig, run: RunDir) -> None:
    cropping = read_crop_rules(run.faces)
    save_checkpoint(path, vote, model_config=None, image_size=config.faces.image_size, cropping=cropping)


def _trained(directory: Path, record: StageRecord, calibration: Any, scores: dict[str, Any]) -> TrainedModel:
    return TrainedModel(
        directory,
        best_epoch=0,
        num_epochs=0,
        monitor="macro_f1",
        best_metric=scores["vote"]["macro_f1"] if scores else float("nan"),
        resumed_from_epoch=None,
        calibration=None if calibration is None else calibration.report,
        pictures=() if calibration is None else calibration.pictures,
        seconds=record.seconds,
        skipped=record.skipped,
        members=scores,
    )
