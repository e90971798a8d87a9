"""Finish a cycle: compare teacher and student on the test split, write summary.json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.reports.plots import plot_class_f1
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.runs.review import ReviewDecision
from ssl_pipeline.stages.evaluate import PREDICTIONS, evaluate
from ssl_pipeline.stages.gate import GateResult, compare_models
from ssl_pipeline.stages.open import environment
from ssl_pipeline.stages.selection import ChangedLabels
from ssl_pipeline.stages.train import TrainedModel


@dataclass(frozen=True)
class RoundOutcome:
    """How far a round came; a flow hands all of them to `finish`."""

    round_index: int
    """From 1."""
    changed: ChangedLabels | None = None
    """From the second round on. A round that changed too little ends here."""
    review: ReviewDecision | None = None
    """What a person decided; a rejected round has no student."""
    student: TrainedModel | None = None
    gate: GateResult | None = None

    @property
    def promoted(self) -> bool:
        """Whether the student took its teacher's place."""
        return self.gate is not None and self.gate.promoted

    @property
    def rejected(self) -> bool:
        """Whether a person rejected the selection."""
        return self.review is not None and self.review.choice == "reject"


def finish(config: RunConfig, run: RunDir, rounds: Sequence[RoundOutcome]) -> dict[str, Any]:
    """Use the test split, once, on the first teacher and on the student; write summary.json.

    The student compared is the last promoted one, else the last one trained. Where a person rejected the first round's
    selection there is no student, and the test split stays unused.

    Args:
        config: the run's.
        run: the run's directory.
        rounds: what became of each round, in order; at least one.

    Returns:
        The content of summary.json.
    """
    students = [outcome for outcome in rounds if outcome.gate is not None]
    promoted = [outcome for outcome in students if outcome.promoted]
    stopped = rounds[-1].rejected
    compared = next(reversed(promoted or students), None)
    selected = compared or rounds[-1]
    promoted_dir = run.student(promoted[-1].round_index) if promoted else run.teacher
    changed = rounds[-1].changed
    counts = StageRecord.read(run.faces).result
    selection = read_json(run.pseudo_labels(selected.round_index) / "selection.json")
    summary = {
        "status": "stopped by review" if stopped else "finished",
        "run_name": config.run_name,
        "promoted": "student" if promoted else "teacher",
        "promoted_checkpoint": str(promoted_dir / "best.safetensors"),
        **(_comparison(config, run, compared.round_index) if compared else _teacher_alone(config, run)),
        "counts": {
            "labeled": counts["labeled"]["train"] + counts["labeled"]["validation"],
            "train": counts["labeled"]["train"],
            "validation": counts["labeled"]["validation"],
            "test": counts["labeled"]["test"],
            **{name: selection["counts"][name] for name in ("candidates", "accepted", "rejected", "unreadable")},
            "removed_from_pool": counts["leakage"],
        },
        "precision": selection["precision"],
        "selection_faults": selection["selection"]["faults"],
        "shift": selection["selection"]["shift"],
        "reviews": [
            {"round": outcome.round_index, **outcome.review.model_dump(mode="json")}
            for outcome in rounds
            if outcome.review is not None
        ],
        "changed_labels": None if changed is None else asdict(changed),
        "rounds": [asdict(outcome.gate) for outcome in students if outcome.gate is not None],
        "manifest": str(run.pseudo_labels(selected.round_index) / "manifest.parquet"),
        "pictures": [*(["class_f1.png"] if compared else []), *stage_pictures(run)],
        "seconds": stage_seconds(run),
        "seed": config.seed,
        **environment(config),
    }
    write_json(run.summary, summary)
    return summary


def _comparison(config: RunConfig, run: RunDir, student_round: int) -> dict[str, Any]:
    """The first teacher and a round's student on validation and test, and a picture of both."""
    student_dir = run.student(student_round)
    teacher, student = _scores(config, run, run.teacher), _scores(config, run, student_dir)
    both = {"teacher": teacher["test"]["per_class"], f"student {student_round}": student["test"]["per_class"]}
    plot_class_f1(run.root / "class_f1.png", both, title="Teacher against student on test: F1 by class")
    return {
        "teacher": teacher,
        "student": {"round": student_round, **student},
        "test_difference": _test_difference(config, run.teacher, student_dir),
    }


def _teacher_alone(config: RunConfig, run: RunDir) -> dict[str, Any]:
    """The teacher on validation: with nothing to compare, the test split is kept for when there is."""
    validation = evaluate(config, run, run.teacher, "validation").scores
    return {"teacher": {"validation": validation}, "student": None, "test_difference": None}


def _scores(config: RunConfig, run: RunDir, model_dir: Path) -> dict[str, Any]:
    return {
        "validation": evaluate(config, run, model_dir, "validation").scores,
        "test": evaluate(config, run, model_dir, "test").scores,
    }


def _test_difference(config: RunConfig, teacher_dir: Path, student_dir: Path) -> dict[str, Any]:
    """Student less teacher on the test faces, with its interval, and the groups in which the student is clearly worse."""
    teacher, student = (pd.read_parquet(directory / "test" / PREDICTIONS) for directory in (teacher_dir, student_dir))
    found, regressions = compare_models(teacher, student, config.gate, labels=config.labels.space)
    return {"metric": config.gate.metric, "comparison": asdict(found), "regressions": regressions}


def stage_seconds(run: RunDir) -> dict[str, float]:
    """How long each finished stage worked, by its directory inside the run."""
    records = sorted(run.root.rglob("done.json"))
    return {str(path.parent.relative_to(run.root)): StageRecord.read(path.parent).seconds for path in records}


def stage_pictures(run: RunDir) -> list[str]:
    """Name the pictures that the finished stages list among their outputs, by their paths inside the run."""
    return [
        str((record.parent / name).relative_to(run.root))
        for record in sorted(run.root.rglob("done.json"))
        for name in StageRecord.read(record.parent).outputs
        if name.endswith(".png")
    ]
