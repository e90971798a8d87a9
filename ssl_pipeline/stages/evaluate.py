"""Evaluate a model on a split of the labeled faces: scores, predictions, pictures."""

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
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.reports.plots import SCORE_PICTURES, plot_scores
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_file, write_json
from ssl_pipeline.runs.records import faces_digest, run_stage

Split = Literal["validation", "test"]
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class SplitScores:
    """A model's scores on a split."""

    scores: Mapping[str, Any]
    """As in ``scores.json``, without confusion matrices and reliability tables."""
    skipped: bool


def evaluate(config: RunConfig, run: RunDir, model_dir: Path, split: Split) -> SplitScores:
    """Judge a model on a split of the labeled faces; writes ``<split>/scores.json`` and pictures beside its checkpoint.

    The test split is for the end of a cycle, once for the teacher and once for the student.
    """
    directory = model_dir / split
    checkpoint = model_dir / "best.safetensors"
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(run),
        "prediction": config.prediction.model_dump(exclude={"batch_size", "shard_size"}),
    }

    def work() -> dict[str, Any]:
        predictor = CheckpointPredictor.load(
            checkpoint, config.prediction, labels=config.labels.space, device=config.device
        )
        judged = judge_split(predictor, config, run, split)
        write_json(directory / "scores.json", judged.scores)
        with atomic_path(directory / PREDICTIONS) as beside:
            judged.faces.to_parquet(beside, index=False)
        model = str(model_dir.relative_to(run.root)) if model_dir.is_relative_to(run.root) else model_dir.name
        plot_scores(directory, judged.scores, title=f"{model} on {split}")
        return drop_tables(judged.scores)

    record = run_stage(directory, inputs=inputs, outputs=["scores.json", PREDICTIONS, *SCORE_PICTURES], work=work)
    return SplitScores(record.result, record.skipped)


@dataclass(frozen=True)
class Judged:
    """A model's scores on faces, and what it said of each."""

    scores: Mapping[str, Any]
    """With values per class and per group; where the faces' table knows the number behind an attribute, also by that."""
    faces: pd.DataFrame
    """image_id, person_id, each attribute and origin as they are known; class_id and predicted_class_id; confidence."""


def judge_split(
    predictor: CheckpointPredictor | SoftVote, config: RunConfig, run: RunDir, split: Split | Literal["all"]
) -> Judged:
    """Judge a model on the fully known faces of a split, or on all labeled ones."""
    labels = config.labels
    table, pixels = read_faces(run.faces / "labeled.parquet"), open_pixels(run.faces / "pixels.npy")
    chosen = table if split == "all" else table[table["split"] == split]
    known = LabeledSet.from_faces(chosen, pixels, labels=labels, train=table[table["split"] == "train"])
    whole = chosen[chosen["pixel_row"].isin(known.pixel_rows)].reset_index(drop=True)
    groups = whole[[name for name in [*labels.space.names, "origin"] if name in whole and whole[name].notna().any()]]
    probabilities = predictor.predict(pixels, known.pixel_rows)
    scores = evaluate_predictions(probabilities, known.codes, labels=labels.space, groups=groups, numbers=known.numbers)
    faces = pd.concat([whole[["image_id", "person_id"]], groups.astype("string")], axis=1).assign(
        class_id=labels.space.class_ids(known.codes),
        predicted_class_id=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
    )
    return Judged(scores, faces)
