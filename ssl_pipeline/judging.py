"""The stages that judge: a model's scores on a split, and the gate between teacher and student."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ssl_pipeline.config import RunConfig
from ssl_pipeline.config_gate import GateConfig
from ssl_pipeline.faces.dataset import LabeledSet
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.metrics import evaluate_predictions, without_tables
from ssl_pipeline.learning.paired_bootstrap import PairedDifference, paired_bootstrap
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.learning.voting import SoftVote
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.manifest_difference import difference
from ssl_pipeline.reports.pictures import SCORE_PICTURES, draw_scores
from ssl_pipeline.runs import RunDir, atomic_path, digest_file, faces_digest, run_stage, write_json
from ssl_pipeline.stages import Record

logger = logging.getLogger(__name__)

Split = Literal["validation", "test"]
PREDICTIONS = "predictions.parquet"


def evaluate(config: RunConfig, run: RunDir, model_dir: Path, split: Split) -> Record:
    """Judge a model on a split of the labeled faces; writes ``<split>/scores.json`` and pictures beside its checkpoint.

    The record's result is the scores without their tables.

    The test split is for the end of a cycle, once for the teacher and once for the student.
    """
    directory = model_dir / split
    checkpoint = model_dir / "best.safetensors"
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(run),
        "prediction": config.prediction.model_dump(exclude={"batch_size", "shard_size"}),
    }

    def work() -> Record:
        predictor = Predictor.load(checkpoint, config.prediction, labels=config.labels.space, device=config.device)
        judged = judge_split(predictor, config, run, split)
        write_json(directory / "scores.json", judged.scores)
        with atomic_path(directory / PREDICTIONS) as beside:
            judged.faces.to_parquet(beside, index=False)
        model = str(model_dir.relative_to(run.root)) if model_dir.is_relative_to(run.root) else model_dir.name
        draw_scores(directory, judged.scores, title=f"{model} on {split}")
        return without_tables(judged.scores)

    return run_stage(directory, inputs=inputs, outputs=["scores.json", PREDICTIONS, *SCORE_PICTURES], work=work)


@dataclass(frozen=True)
class Judged:
    """A model's scores on faces, and what it said of each."""

    scores: Record
    """With values per class and per group; where the faces' table knows the number behind an attribute, also by that."""
    faces: pd.DataFrame
    """image_id, person_id, each attribute and origin as they are known; class_id and predicted_class_id; confidence."""


def judge_split(
    predictor: Predictor | SoftVote, config: RunConfig, run: RunDir, split: Split | Literal["all"]
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


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> Record:
    """Decide whether the round's student takes its teacher's place, by the validation faces; writes gate.json."""
    student_dir = run.student(round_index)
    for directory in (teacher_dir, student_dir):
        evaluate(config, run, directory, "validation")
    teacher, student = (
        pd.read_parquet(directory / "validation" / PREDICTIONS) for directory in (teacher_dir, student_dir)
    )
    decision = {
        "teacher": str(teacher_dir.relative_to(run.root)),
        "student": str(student_dir.relative_to(run.root)),
        **decide_promotion(teacher, student, config.gate, labels=config.labels.space),
    }
    write_json(student_dir / "gate.json", decision)
    logger.info("round %d: %s", round_index, decision["verdict"])
    return decision


def measure_news(config: RunConfig, run: RunDir, round_index: int) -> Record:
    """Say how much of what a round's selection accepts is new or changed since the round before.

    Returns:
        ``round``; ``share``, of its accepted labels, 0 without any; ``enough``, to train another student by
        `min_changed_labels`; ``words``.
    """
    before, after = (
        read_manifest(run.pseudo_labels(index) / "manifest.parquet") for index in (round_index - 1, round_index)
    )
    counts = pd.DataFrame(difference(before, after)["per_attribute"]).T
    num_new, num_kept = int(counts["gained"].sum() + counts["changed"].sum()), int(counts["kept"].sum())
    share = num_new / max(num_new + num_kept, 1)
    enough = share > config.min_changed_labels
    words = (
        f"{num_new:,} of {num_new + num_kept:,} accepted labels of round {round_index} ({100 * share:.1f} %) are new or "
        f"changed since the round before{'' if enough else ', too few to learn from: the rounds end'}"
    )
    logger.info("round %d: %s", round_index, words)
    return {"round": round_index, "share": share, "enough": enough, "words": words}


def decide_promotion(teacher: pd.DataFrame, student: pd.DataFrame, config: GateConfig, *, labels: LabelSpace) -> Record:
    """Decide by two models' predictions of the same faces, and say why.

    Args:
        teacher: its `Judged.faces`.
        student: its `Judged.faces`.
        config: the rule.
        labels: the label space.

    Returns:
        ``metric``; ``comparison``, a `PairedDifference` as a dict, and ``regressions``, both by `compare_models`;
        ``promoted``; ``verdict``, in words.
    """
    found, regressions = compare_models(teacher, student, config, labels=labels)
    better = found.difference > 0 and found.probability >= config.min_probability
    promoted = better and not (config.refuse_regressions and regressions)
    return {
        "metric": config.metric,
        "comparison": asdict(found),
        "regressions": regressions,
        "promoted": promoted,
        "verdict": _verdict(found, regressions, config, promoted=promoted),
    }


def compare_models(
    teacher: pd.DataFrame, student: pd.DataFrame, config: GateConfig, *, labels: LabelSpace
) -> tuple[PairedDifference, list[Record]]:
    """Compare two models' predictions of the same faces, see `decide_promotion`.

    Returns:
        The difference on all faces, and the groups in whose accuracy the student is clearly worse, each with its
        column, value, num_faces and difference.
    """

    def compare(rows: "pd.Series[bool]", metric: str) -> PairedDifference:
        return paired_bootstrap(
            teacher.loc[rows, "class_id"].to_numpy(np.int64),
            teacher.loc[rows, "predicted_class_id"].to_numpy(np.int64),
            student.loc[rows, "predicted_class_id"].to_numpy(np.int64),
            teacher.loc[rows, "person_id"].to_numpy(object),
            num_classes=labels.num_classes,
            metric=metric,
            num_draws=config.num_draws,
        )

    regressions = []
    for column in (name for name in (*labels.names, "origin") if name in teacher):
        for value in sorted(teacher[column].dropna().unique()):
            group = (teacher[column] == value).fillna(False).astype(bool)
            accuracy = compare(group, "accuracy")
            if accuracy.upper < 0:
                about = {"column": column, "value": value, "num_faces": int(group.sum())}
                regressions.append({**about, **asdict(accuracy)})
    return compare(pd.Series(True, index=teacher.index), config.metric), regressions


def _verdict(found: PairedDifference, regressions: list[Record], config: GateConfig, *, promoted: bool) -> str:
    metric = config.metric.replace("_", " ").replace("f1", "F1")
    words = (
        f"the student is {'promoted' if promoted else 'not promoted'}: validation {metric} "
        f"{100 * found.difference:+.1f} points (95 % interval {100 * found.lower:+.1f} to {100 * found.upper:+.1f}), "
        f"better with probability {found.probability:.2f} (asked for {config.min_probability:g})"
    )
    groups = ", ".join(f"{one['column']} {one['value']} {100 * one['difference']:+.1f}" for one in regressions)
    return f"{words}; clearly worse in {groups}" if groups else words
