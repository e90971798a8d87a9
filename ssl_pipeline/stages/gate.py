"""Gate: promote the student to teacher, or not, by a paired comparison on the validation faces."""

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
    """The gate's decision; the content of gate.json."""

    teacher: str
    """Its directory, relative to the run directory."""
    student: str
    """Its directory, relative to the run directory."""
    metric: str
    comparison: Mapping[str, Any]
    """A `PairedDifference` as a dict."""
    regressions: list[Record]
    """Groups in which the student is clearly worse, see `compare_models`."""
    promoted: bool
    verdict: str
    """The decision and its reasons in one sentence."""


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> GateResult:
    """Decide on the validation faces whether the round's student is promoted to teacher; writes gate.json."""
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
    """Decide on the predictions of two models for the same faces.

    Args:
        teacher: `Evaluation.faces` of the teacher.
        student: `Evaluation.faces` of the student.
        config: the rule.
        labels: the label space.

    Returns:
        ``metric, comparison, regressions, promoted, verdict``, as in `GateResult`.
    """
    comparison, regressions = compare_models(teacher, student, config, labels=labels)
    is_better = comparison.difference > 0 and comparison.probability >= config.min_probability
    promoted = is_better and not (config.refuse_regressions and regressions)
    return {
        "metric": config.metric,
        "comparison": asdict(comparison),
        "regressions": regressions,
        "promoted": promoted,
        "verdict": _verdict(comparison, regressions, config, promoted=promoted),
    }


def compare_models(
    teacher: pd.DataFrame, student: pd.DataFrame, config: GateConfig, *, labels: LabelSpace
) -> tuple[PairedDifference, list[Record]]:
    """Compare the predictions of two models for the same faces; arguments as in `decide_promotion`.

    Returns:
        The difference on all faces, and the groups in which the student is clearly worse, i.e. the 95 % interval of the
        accuracy difference lies below 0: column, value, num_faces and difference of each.
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
                group_key = {"column": column, "value": value, "num_faces": int(group.sum())}
                regressions.append({**group_key, **asdict(accuracy)})
    return compare(pd.Series(True, index=teacher.index), config.metric), regressions


def _verdict(comparison: PairedDifference, regressions: list[Record], config: GateConfig, *, promoted: bool) -> str:
    metric = config.metric.replace("_", " ").replace("f1", "F1")
    sentence = (
        f"the student is {'promoted' if promoted else 'not promoted'}: validation {metric} "
        f"{100 * comparison.difference:+.1f} points (95 % interval {100 * comparison.lower:+.1f} to "
        f"{100 * comparison.upper:+.1f}), better with probability {comparison.probability:.2f} (required: "
        f"{config.min_probability:g})"
    )
    groups = ", ".join(f"{group['column']} {group['value']} {100 * group['difference']:+.1f}" for group in regressions)
    return f"{sentence}; clearly worse in {groups}" if groups else sentence
