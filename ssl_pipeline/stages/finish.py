"""End of a cycle: comparison of teacher and student on the test split, summary.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.learning.trackers import TrackedRun, Tracking
from ssl_pipeline.reports.cards import data_card, model_card
from ssl_pipeline.reports.plots import plot_class_f1
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, read_json, write_json, write_text
from ssl_pipeline.runs.records import RECORD, StageRecord, finished_stage
from ssl_pipeline.runs.review import ReviewDecision
from ssl_pipeline.runs.run_progress import run_progress
from ssl_pipeline.stages.cost import measure_cost
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.gate import GateResult, compare_on_split
from ssl_pipeline.stages.open import environment
from ssl_pipeline.stages.report import report_of_cycle
from ssl_pipeline.stages.selection import ChangedLabels
from ssl_pipeline.stages.student_labels import StudentLabels
from ssl_pipeline.stages.train import TrainedModel


@dataclass(frozen=True)
class RoundOutcome:
    """Results of a round; the flow passes those of all rounds to `finish`."""

    round_index: int
    """Counted from 1."""
    changed: ChangedLabels | None = None
    """From the second round on. If too few labels changed, the round has no student."""
    review: ReviewDecision | None = None
    """A person's decision. A rejected round has no student."""
    pool_teaches: bool = True
    """Whether the pool teaches anything. If not, the round has no student."""
    refused: tuple[str, ...] = ()
    """Why the guards refused the selection. A refused round has no student."""
    student: TrainedModel | None = None
    gate: GateResult | None = None

    @property
    def promoted(self) -> bool:
        """Whether the student was promoted to teacher."""
        return self.gate is not None and self.gate.promoted

    @property
    def rejected(self) -> bool:
        """Whether a person rejected the selection."""
        return self.review is not None and self.review.choice == "reject"


def compared_round(rounds: Sequence[RoundOutcome]) -> int | None:
    """Return the round of the student that is compared: the last promoted one, else the last one trained."""
    students = [outcome for outcome in rounds if outcome.gate is not None]
    promoted = [outcome for outcome in students if outcome.promoted]
    return (promoted or students)[-1].round_index if students else None


def finish(
    config: RunConfig, run: RunDir, rounds: Sequence[RoundOutcome], student_labels: StudentLabels | None = None
) -> dict[str, Any]:
    """Evaluate the first teacher and the student on the test split, once, and write summary.json and both cards.

    The student is that of `compared_round`. If there is none, because a person rejected the first round's selection or it
    accepted nothing, the test split stays unused. With `control`, the student's control is evaluated too.

    Args:
        config: the run's config.
        run: the run directory.
        rounds: the results of all rounds, in order; at least one.
        student_labels: the pool as the compared student labels it; None if it does not.

    Returns:
        The content of summary.json.
    """
    run_progress().begin(run.summary)
    students = [outcome for outcome in rounds if outcome.gate is not None]
    promoted = [outcome for outcome in students if outcome.promoted]
    compared = next((outcome for outcome in students if outcome.round_index == compared_round(rounds)), None)
    selected = compared or rounds[-1]
    promoted_dir = run.student(promoted[-1].round_index) if promoted else run.teacher
    changed = rounds[-1].changed
    cure = f"run the cycle again: {run.command}"
    counts = finished_stage(run.faces, cure=cure).result
    finished_stage(run.pseudo_labels(selected.round_index), cure=cure)
    selection = read_json(run.pseudo_labels(selected.round_index) / "selection.json")
    scores = _compare_on_test(config, run, compared.round_index) if compared else _evaluate_teacher(config, run)
    records = _records(config, run, rounds, compared, labels_again=student_labels)
    summary = {
        "status": "stopped by review" if rounds[-1].rejected else "finished",
        "run_name": config.run_name,
        "promoted": "student" if promoted else "teacher",
        "promoted_checkpoint": str(promoted_dir / "best.safetensors"),
        **scores,
        "members": _member_scores(config, run),
        "counts": _counts(counts, selection),
        "precision": selection["precision"],
        "selection_faults": selection["selection"]["faults"],
        "shift": selection["selection"]["shift"],
        "reviews": [
            {"round": outcome.round_index, **outcome.review.model_dump(mode="json")}
            for outcome in rounds
            if outcome.review is not None
        ],
        "pool_teaches": rounds[-1].pool_teaches,
        "refused": list(rounds[-1].refused),
        "changed_labels": None if changed is None else asdict(changed),
        "rounds": [asdict(outcome.gate) for outcome in students if outcome.gate is not None],
        "manifest": str(run.pseudo_labels(selected.round_index) / "manifest.parquet"),
        "student_labels": None
        if student_labels is None
        else {**asdict(student_labels), "manifest": str(student_labels.manifest)},
        "pictures": [*(["class_f1.png"] if compared else []), *_stage_pictures(records)],
        "seconds": {name: record.seconds for name, record in records.items()},
        "seed": config.seed,
        **environment(config),
    }
    _write(config, run, summary, faces=counts)
    return summary


def _counts(faces: Mapping[str, Any], selection: Mapping[str, Any]) -> dict[str, Any]:
    """Count the labeled faces, and what became of the pool's."""
    labeled = faces["labeled"]
    return {
        "labeled": labeled["train"] + labeled["validation"],
        **{split: labeled[split] for split in ("train", "validation", "test")},
        **{name: selection["counts"][name] for name in ("candidates", "accepted", "rejected", "unreadable")},
        "removed_from_pool": faces["leakage"],
    }


def _write(config: RunConfig, run: RunDir, summary: dict[str, Any], *, faces: Mapping[str, Any]) -> None:
    """Write the cards and the report, track the scores, and last the summary."""
    write_text(run.root / "model_card.md", model_card(summary, config))
    write_text(run.root / "data_card.md", data_card(faces, config))
    _track(config, run, summary)
    summary["report"] = report_of_cycle(config, run, summary)
    write_json(run.summary, summary)


def _track(config: RunConfig, run: RunDir, summary: Mapping[str, Any]) -> None:
    """Track the config and the scores of the compared models on the test split, as a run called ``summary``."""
    scores = {
        f"{model}.test.{metric}": value
        for model in ("teacher", "student", "control")
        for metric, value in ((summary[model] or {}).get("test") or {}).items()
        if isinstance(value, float)
    }
    if scores:
        parameters, tracking = config.model_dump(mode="json"), Tracking.of(config, run)
        with TrackedRun(tracking, name="summary", key=digest_of(scores), parameters=parameters) as tracked:
            tracked.log({"epoch": 0, **scores})


def _compare_on_test(config: RunConfig, run: RunDir, student_round: int) -> dict[str, Any]:
    """Evaluate the first teacher and a round's student on validation and test; plots class_f1.png."""
    student_dir = run.student(student_round)
    teacher, student = _scores(config, run, run.teacher), _scores(config, run, student_dir)
    control = control_difference = None
    if config.control:
        control_dir = run.control(student_round)
        control = {"round": student_round, **_scores(config, run, control_dir)}
        control_difference = compare_on_split(config, control_dir, student_dir, "test").to_dict()
    per_class = {"teacher": teacher["test"]["per_class"], f"student {student_round}": student["test"]["per_class"]}
    plot_class_f1(run.root / "class_f1.png", per_class, title="Teacher against student on test: F1 by class")
    return {
        "teacher": teacher,
        "student": {"round": student_round, **student},
        "control": control,
        "test_difference": compare_on_split(config, run.teacher, student_dir, "test").to_dict(),
        "control_difference": control_difference,
        "answers": StageRecord.read(student_dir).result.get("answers"),
        "costs": {
            "teacher": measure_cost(config, run, run.teacher),
            "student": measure_cost(config, run, student_dir),
        },
    }


def _evaluate_teacher(config: RunConfig, run: RunDir) -> dict[str, Any]:
    """Evaluate the teacher on validation only: the test split is saved until there is a student to compare."""
    validation = evaluate(config, run, run.teacher, "validation").scores
    alone = dict.fromkeys(("student", "control", "test_difference", "control_difference", "answers", "costs"))
    return {"teacher": {"validation": validation}, **alone}


def _member_scores(config: RunConfig, run: RunDir) -> dict[str, Any]:
    """Return the validation scores of the teachers that vote, by name; empty for a single network."""
    if config.network_teacher is not None:
        return {}
    return {
        name: evaluate(config, run, run.members(run.teacher) / name, "validation").scores
        for name in config.named_teachers
    }


def _scores(config: RunConfig, run: RunDir, model_dir: Path) -> dict[str, Any]:
    return {
        "validation": evaluate(config, run, model_dir, "validation").scores,
        "test": evaluate(config, run, model_dir, "test").scores,
    }


def _records(
    config: RunConfig,
    run: RunDir,
    rounds: Sequence[RoundOutcome],
    compared: RoundOutcome | None,
    *,
    labels_again: StudentLabels | None,
) -> dict[str, StageRecord]:
    """Read the records of the stages that this cycle used, by directory relative to the run's.

    The directory may also hold stages of an earlier cycle, e.g. of more rounds or folds.
    """
    models = [run.teacher]
    directories = [run.faces, *models]
    if config.out_of_fold is not None:
        folds = [run.fold_teacher(fold) for fold in range(config.out_of_fold.num_folds)]
        directories += [run.out_of_fold, *folds]
    if config.network_teacher is None:
        teachers = [run.teacher, *(folds if config.out_of_fold is not None else [])]
        members = [run.members(directory) / name for directory in teachers for name in config.named_teachers]
        directories += [run.features / name for name in config.named_teachers]
        directories += [member / part for member in members for part in (".", "calibration", "validation")]
    models += [run.student(outcome.round_index) for outcome in rounds if outcome.gate is not None]
    labeled = {outcome.round_index for outcome in rounds}
    for round_index in labeled if labels_again is None else labeled | {labels_again.round_index}:
        labels = run.pseudo_labels(round_index)
        directories.append(labels)
        for predictions in (labels / "predictions", labels / "held_out"):
            members = StageRecord.read(predictions).inputs["members"]
            directories += [predictions, *(predictions / name for name in members if name != ".")]
        directories += [labels / "shift"] if config.shift is not None else []
    on_test = [] if compared is None else [run.teacher, run.student(compared.round_index)]
    directories += [model / "cost" for model in on_test]
    if compared is not None and config.control:
        models.append(run.control(compared.round_index))
        on_test.append(models[-1])
    directories += [
        *models[1:],
        *(model / "calibration" for model in models),
        *(model / "validation" for model in models),
        *(model / "test" for model in on_test),
    ]
    used = sorted(directory for directory in directories if (directory / RECORD).is_file())
    return {str(directory.relative_to(run.root)): StageRecord.read(directory) for directory in used}


def _stage_pictures(records: Mapping[str, StageRecord]) -> list[str]:
    """List the PNG outputs of stages, by their paths relative to the run directory."""
    return [
        f"{directory}/{name}"
        for directory, record in records.items()
        for name in record.outputs
        if name.endswith(".png")
    ]
