"""The gate: decide whether a student takes its teacher's place, by the validation faces."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.paired_bootstrap import PairedDifference, paired_bootstrap
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.stages.evaluate import PREDICTIONS, evaluate

logger = logging.getLogger(__name__)

Record = dict[str, Any]


@dataclass(frozen=True)
class GateResult:
    """What the gate decided, as in gate.json."""

    teacher: str
    """Directory inside the run."""
    student: str
    metric: str
    comparison: Mapping[str, Any]
    """A `PairedDifference` as a dict."""
    regressions: list[Record]
    """Groups in whose accuracy the student is clearly worse."""
    promoted: bool
    verdict: str
    """In words."""


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> GateResult:
    """Decide whether the round's student takes its teacher's place, by the validation faces; writes gate.json."""
    student_dir = run.student(round_index)
    for directory in (teacher_dir, student_dir):
        evaluate(config, run, directory, "validation")
    teacher, student = (
        pd.read_parquet(directory / "validation" / PREDICTIONS) for directory in (teacher_dir, student_dir)
    )
    result = GateResult(
        teacher=str(teacher_dir.relative_to(run.root)),
        student=str(student_dir.relative_to(run.root)),
        **decide_promotion(teacher, student, config.gate, labels=config.labels.space),
    )
    write_json(student_dir / "gate.json", asdict(result))
    logger.info("round %d: %s", round_index, result.verdict)
    return result


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
