"""The stages that judge: a model's scores on a split, and the gate between teacher and student."""

import logging
from pathlib import Path
from typing import Literal

from ssl_pipeline.config import RunConfig
from ssl_pipeline.faces.dataset import LabeledSet
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.metrics import evaluate_predictions, without_tables
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.reports.pictures import SCORE_PICTURES, draw_scores
from ssl_pipeline.runs import RunDir, digest_file, run_stage, write_json
from ssl_pipeline.stages import Record, faces_digest

logger = logging.getLogger(__name__)

Split = Literal["validation", "test"]


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
        scores = score_split(predictor, config, run, split)
        write_json(directory / "scores.json", scores)
        model = str(model_dir.relative_to(run.root)) if model_dir.is_relative_to(run.root) else model_dir.name
        draw_scores(directory, scores, title=f"{model} on {split}")
        return without_tables(scores)

    return run_stage(directory, inputs=inputs, outputs=["scores.json", *SCORE_PICTURES], work=work)


def score_split(predictor: Predictor, config: RunConfig, run: RunDir, split: Split | Literal["all"]) -> Record:
    """Score a model on the fully known faces of a split, or on all labeled ones, with values per class and per group.

    Where the table knows the number behind an attribute, as the age, also by that.
    """
    labels = config.labels
    faces, pixels = read_faces(run.faces / "labeled.parquet"), open_pixels(run.faces / "pixels.npy")
    chosen = faces if split == "all" else faces[faces["split"] == split]
    judged = LabeledSet.from_faces(chosen, pixels, labels=labels, train=faces[faces["split"] == "train"])
    whole = chosen[chosen["pixel_row"].isin(judged.pixel_rows)]
    groups = whole[[name for name in [*labels.space.names, "origin"] if name in whole and whole[name].notna().any()]]
    probabilities = predictor.predict(pixels, judged.pixel_rows)
    return evaluate_predictions(probabilities, judged.codes, labels=labels.space, groups=groups, numbers=judged.numbers)


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> Record:
    """Promote the round's student if its validation macro F1 is above the teacher's; writes gate.json."""
    student_dir = run.student(round_index)
    teacher = evaluate(config, run, teacher_dir, "validation")["result"]["macro_f1"]
    student = evaluate(config, run, student_dir, "validation")["result"]["macro_f1"]
    decision = {
        "teacher": str(teacher_dir.relative_to(run.root)),
        "student": str(student_dir.relative_to(run.root)),
        "teacher_macro_f1": teacher,
        "student_macro_f1": student,
        "promoted": student > teacher,
    }
    write_json(student_dir / "gate.json", decision)
    verdict = "promoted" if decision["promoted"] else "not promoted"
    logger.info(
        "round %d: student %s: validation macro F1 %.3f, teacher's %.3f", round_index, verdict, student, teacher
    )
    return decision
