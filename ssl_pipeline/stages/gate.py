"""Gate: promote the student to teacher, or not, by a paired comparison on the validation faces."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.model_comparison import ModelComparison, compare_models
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.runs.run_progress import run_progress
from ssl_pipeline.stages.evaluate import PREDICTIONS, evaluate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateResult:
    """The gate's decision; the content of gate.json."""

    teacher: str
    """Its directory, relative to the run directory."""
    student: str
    """Its directory, relative to the run directory."""
    comparison: Mapping[str, Any]
    """`ModelComparison.to_dict` on the validation faces."""
    promoted: bool
    reason: str
    """On validation: the difference, how sure it is, and the groups that got worse."""
    verdict: str
    """The decision and its reason in one sentence."""


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> GateResult:
    """Decide on the validation faces whether the round's student is promoted to teacher; writes gate.json."""
    student_dir = run.student(round_index)
    run_progress().begin(student_dir / "gate.json")
    for directory in (teacher_dir, student_dir):
        evaluate(config, run, directory, "validation")
    comparison = compare_on_split(config, teacher_dir, student_dir, "validation")
    promoted, reason = is_promoted(comparison, config.gate), gate_reason(comparison, config.gate)
    result = GateResult(
        teacher=str(teacher_dir.relative_to(run.root)),
        student=str(student_dir.relative_to(run.root)),
        comparison=comparison.to_dict(),
        promoted=promoted,
        reason=reason,
        verdict=f"the student is {'promoted' if promoted else 'not promoted'}: {reason}",
    )
    write_json(student_dir / "gate.json", asdict(result))
    logger.info("round %d: %s", round_index, result.verdict)
    return result


def compare_on_split(config: RunConfig, teacher_dir: Path, student_dir: Path, split: str) -> ModelComparison:
    """Compare two models by the predictions of `evaluate` for a split."""
    teacher, student = (pd.read_parquet(directory / split / PREDICTIONS) for directory in (teacher_dir, student_dir))
    return compare_predictions(teacher, student, config.gate, labels=config.labels.space)


def compare_predictions(
    teacher: pd.DataFrame, student: pd.DataFrame, config: GateConfig, *, labels: LabelSpace
) -> ModelComparison:
    """Compare two models by `Evaluation.faces` of the same faces, grouped by each attribute and the origin."""
    units = independent_units(teacher)
    return compare_models(
        teacher,
        student,
        units,
        unit=_unit_name(teacher, num_units=len(set(units.tolist()))),
        columns=[name for name in (*labels.names, "origin") if name in teacher],
        num_classes=labels.num_classes,
        config=config,
    )


def is_promoted(comparison: ModelComparison, config: GateConfig) -> bool:
    """Decide: better, with the required probability (one half if the units are too few), and worse in no group."""
    if config.refuse_regressions and comparison.regressions:
        return False
    probability = comparison.overall.probability if comparison.has_enough_units else 0.5
    return comparison.overall.difference > 0 and probability >= config.min_probability


def _unit_name(faces: pd.DataFrame, *, num_units: int) -> str:
    """Say what the independent units are: a face whose person is unknown is its own person."""
    persons, images = (faces[name].astype("str").str.split(":", n=1).str[-1] for name in ("person_id", "image_id"))
    if (persons != images).any():
        return "persons"
    return "faces" if num_units == len(faces) else "pictures"


def gate_reason(comparison: ModelComparison, config: GateConfig) -> str:
    """State what decides: the difference on validation, how sure it is, and the groups that got worse."""
    sentence = f"on validation {comparison.overall_words}; "
    if comparison.has_enough_units:
        # rounded down, so that it never looks like the required share when it is below
        share = math.floor(1000 * comparison.overall.probability) / 10
        sentence += f"it is better in {share:g} % of the bootstrap samples, "
    else:
        sentence += "too few to say how sure that is, which counts as 50 % of the bootstrap samples, "
    sentence += f"and the gate requires {100 * config.min_probability:g} %"
    return f"{sentence}; {comparison.group_words}" if comparison.group_words else sentence
