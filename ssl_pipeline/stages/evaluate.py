"""Evaluation of a model on a split of the labeled faces: scores, predictions, plots."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.metrics import drop_tables, evaluate_predictions
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.learning.dataset import LabeledSet
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.reports.plots import SCORE_PICTURES, plot_scores
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_file, write_json
from ssl_pipeline.runs.records import faces_digest, finished_stage, run_stage
from ssl_pipeline.stages.versions import VERSIONS

Split = Literal["validation", "test"]
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class SplitScores:
    """A model's scores on a split."""

    scores: Mapping[str, Any]
    """The content of ``scores.json`` without confusion matrices and reliability tables."""
    skipped: bool


def evaluate(config: RunConfig, run: RunDir, model_dir: Path, split: Split) -> SplitScores:
    """Evaluate a model on a split of the labeled faces; writes ``<split>/`` next to its checkpoint.

    Use the test split only at the end of a cycle, once for the teacher and once for the student.

    Args:
        config: the run's config.
        run: the run directory.
        model_dir: directory of the model's ``best.safetensors``.
        split: which labeled faces.

    Raises:
        RunError: if the training has not finished, or its checkpoint was changed.
    """
    directory = model_dir / split
    checkpoint = model_dir / "best.safetensors"
    finished_stage(model_dir / "calibration", cure=f"train the model first: {run.command}")
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(config, run),
        "prediction": config.prediction.fingerprint_fields(exclude=("batch_size", "shard_size")),
        "device": str(resolve_device(config.device)),
    }

    def work() -> dict[str, Any]:
        predictor = CheckpointPredictor.load(
            checkpoint, config.prediction, labels=config.labels.space, device=config.device
        )
        evaluation = evaluate_split(predictor, config, run, split)
        write_json(directory / "scores.json", evaluation.scores)
        with atomic_path(directory / PREDICTIONS) as partial:
            evaluation.faces.to_parquet(partial, index=False)
        model = str(model_dir.relative_to(run.root)) if model_dir.is_relative_to(run.root) else model_dir.name
        plot_scores(directory, evaluation.scores, title=f"{model} on {split}")
        return drop_tables(evaluation.scores)

    outputs = ["scores.json", PREDICTIONS, *SCORE_PICTURES]
    record = run_stage(directory, version=VERSIONS["evaluate"], inputs=inputs, outputs=outputs, work=work)
    return SplitScores(record.result, record.skipped)


@dataclass(frozen=True)
class Evaluation:
    """A model's scores and its prediction per face."""

    scores: Mapping[str, Any]
    """Also per class and per group, and with number errors for attributes that are bins of a number, e.g. age."""
    faces: pd.DataFrame
    """image_id, person_id, picture_id, the known attributes and origin, class_id, predicted_class_id, confidence."""


def evaluate_split(
    predictor: CheckpointPredictor | SoftVote, config: RunConfig, run: RunDir, split: Split | Literal["all"]
) -> Evaluation:
    """Evaluate a model on the fully known faces of a split, or of all splits; writes nothing."""
    labels = config.labels
    table, pixels = read_faces(run.faces / "labeled.parquet"), open_pixels(run.faces / "pixels.npy")
    faces = table if split == "all" else table[table["split"] == split]
    labeled = LabeledSet.from_faces(faces, pixels, labels=labels, train=table[table["split"] == "train"])
    faces = faces[faces["pixel_row"].isin(labeled.pixel_rows)].reset_index(drop=True)  # the fully known ones
    groups = faces[[name for name in [*labels.space.names, "origin"] if name in faces and faces[name].notna().any()]]
    probabilities = predictor.predict(pixels, labeled.pixel_rows)
    scores = evaluate_predictions(
        probabilities, labeled.codes, labels=labels.space, groups=groups, numbers=labeled.numbers
    )
    predictions = pd.concat([faces[["image_id", "person_id", "picture_id"]], groups.astype("string")], axis=1).assign(
        class_id=labels.space.class_ids(labeled.codes),
        predicted_class_id=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
    )
    return Evaluation(scores, predictions)
