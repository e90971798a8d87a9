"""Markdown pages per finished stage, from its record and files."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.points import signed
from ssl_pipeline.reports.comparison import comparison_markdown, members_markdown, score_rows
from ssl_pipeline.reports.markdown import markdown_code, markdown_safe
from ssl_pipeline.reports.review_page import selection_lines
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.status import RunStatus

MAX_CLASSES, MAX_REASONS = 40, 20


@dataclass(frozen=True)
class Page:
    """A page for one stage."""

    key: str
    """Lower-case letters, digits and dashes; equal in every run."""
    title: str
    markdown: str
    pictures: Sequence[Path] = ()
    """PNG files, shown below the text."""


def masks_page(records: Sequence[Mapping[str, Any]]) -> Page:
    """Report the masked sets, from records of `build_masked_faces`."""
    lines = ["# Masked faces"]
    for record in records:
        drawn = ", ".join(f"{number:,} {markdown_safe(mask)}" for mask, number in record["drawn"].items())
        left_out = ("rejected", "passed_over", "filtered", "beyond_limit", "not_needed")
        parts = " + ".join(f"{record[part]:,} {part.replace('_', ' ')}" for part in ("used", *left_out))
        lines += [
            "",
            f"{markdown_code(record['folder'])}: **{record['pictures']:,} pictures** ({drawn}), {record['kept']:,} of them existed already.",
            "",
            f"{record['found']:,} faces found = {parts}.",
        ]
        if record["reasons"]:
            lines += [
                "",
                *_reasons([(record["folder"], reason, number) for reason, number in record["reasons"].items()]),
            ]
    return Page("masked-faces", "The masks that were drawn", "\n".join(lines))


def faces_page(counts: Mapping[str, Any], directory: Path) -> Page:
    """Report the faces read, split and left out, from the counts of `prepare` and ``rejected.parquet`` in `directory`."""
    lines = [
        "# Faces",
        "",
        f"**{counts['labeled']['train']:,}** for training, **{counts['labeled']['validation']:,}** for validation, "
        f"**{counts['labeled']['test']:,}** for testing, **{counts['unlabeled']:,}** in the pool.",
        "",
        "| source | found | used | rejected | passed over (no images) | left out by a filter or limit |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, source in counts["sources"].items():
        numbers = [source[part] for part in ("found", "used", "rejected", "passed_over")]
        numbers.append(numbers[0] - sum(numbers[1:]))
        lines.append(f"| {markdown_safe(name)} | {' | '.join(f'{number:,}' for number in numbers)} |")
    if not counts["persons_known"]:
        lines += ["", "People unknown: faces without a person_id count as a person each."]
    leaks = [f"{number:,} of {split}" for split, number in counts["leakage"].items() if number]
    lines += [
        "",
        f"Removed from the pool as faces or persons of another split: {', '.join(leaks) or 'none'} "
        f"({markdown_code(directory / 'leakage.csv')}). "
        f"Rejected faces, one by one: {markdown_code(directory / 'rejected.parquet')}.",
        "",
        *_rejected(directory / "rejected.parquet"),
        "| class | train | validation | test |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {markdown_safe(name)} | {splits['train']:,} | {splits['validation']:,} | {splits['test']:,} |"
        for name, splits in list(counts["by_class"].items())[:MAX_CLASSES]
    ]
    if len(counts["by_class"]) > MAX_CLASSES:
        lines.append(f"| … and {len(counts['by_class']) - MAX_CLASSES:,} more | | | |")
    return Page("faces", "The faces of this run", "\n".join(lines))


def _rejected(table: Path) -> list[str]:
    """Count the rejected faces by source and reason."""
    counts = pd.read_parquet(table, columns=["source", "reason"]).value_counts(sort=True).reset_index(name="faces")
    return [*_reasons(list(counts.itertuples(index=False, name=None))), ""] if len(counts) else []


def _reasons(counts: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    """Yield the lines of a table of (source, reason, number), the most frequent first."""
    yield "| source | reason | rejected faces |"
    yield "|---|---|---:|"
    for source, reason, number in counts[:MAX_REASONS]:
        yield f"| {markdown_safe(source)} | {markdown_safe(reason)} | {number:,} |"
    if others := counts[MAX_REASONS:]:
        yield f"| | {len(others):,} other reasons | {sum(number for _, _, number in others):,} |"


def training_page(name: str, result: Mapping[str, Any], directory: Path, *, pictures: Sequence[Path]) -> Page:
    """Report a training.

    Args:
        name: ``teacher``, ``student 1``, …
        result: of the training stage.
        directory: of the model, with ``history.csv``.
        pictures: PNG files.
    """
    heading, checkpoint = (
        f"# {name[:1].upper()}{name[1:]}",
        f"Checkpoint: {markdown_code(directory / 'best.safetensors')}",
    )
    if members := result.get("members"):
        table = members_markdown(members)
        lines = [heading, "", *_calibration(result.get("calibration")), "", *table, "", checkpoint]
        return Page(name.replace(" ", "-"), f"The {name}, a vote", "\n".join(lines), pictures)
    with open(directory / "history.csv", newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    lines = [
        heading,
        "",
        f"Kept: the {result['kept']} epoch, {result['kept_epoch'] + 1} of {result['num_epochs']}: {_metric_name(result['monitor'])} "
        f"**{result['kept_metric']:.3f}** on validation; {result['seconds']:,.0f} s.",
        *_calibration(result.get("calibration")),
        "",
        *_epochs(epochs, result["kept_epoch"] if result["kept"] == "best" else None),
        "",
        checkpoint,
    ]
    return Page(name.replace(" ", "-"), f"How the {name} was trained", "\n".join(lines), pictures)


def fold_teachers_page(result: Mapping[str, Any], directory: Path, *, pictures: Sequence[Path]) -> Page:
    """Report the training of the fold teachers, which are in the order of their folds."""
    lines = [
        "# Teachers out of fold",
        "",
        f"**{result['num_faces']:,}** training faces, each predicted by the teacher that was not trained on it.",
        *_calibration(result["calibration"]),
        "",
        "| teacher without fold | faces of the fold | best epoch | on validation |",
        "|---|---:|---:|---:|",
    ]
    for fold, (teacher, num_faces) in enumerate(zip(result["teachers"], result["by_fold"], strict=True)):
        is_vote = not teacher["num_epochs"]
        score = "" if is_vote else f"{_metric_name(teacher['monitor'])} {teacher['kept_metric']:.3f}"
        epochs = "a vote" if is_vote else f"{teacher['kept_epoch'] + 1} of {teacher['num_epochs']}"
        lines.append(f"| {fold + 1} | {num_faces:,} | {epochs} | {score} |")
    lines += ["", f"Checkpoints and predictions of the training faces: {markdown_code(directory)}"]
    return Page("fold-teachers", "How the teachers out of fold were trained", "\n".join(lines), pictures)


def _epochs(epochs: Sequence[Mapping[str, str]], best: int | None) -> Iterator[str]:
    """Yield the lines of a table of the first, the best (where it is kept) and the last epoch."""
    columns = [column for column in epochs[0] if column not in ("epoch", "learning_rate")]
    yield "| epoch | " + " | ".join(map(_metric_name, columns)) + " |"
    yield "|---|" + "---:|" * len(columns)
    kept = {} if best is None else {f"best ({best + 1})": epochs[best]}
    for name, row in {"first": epochs[0], **kept, "last": epochs[-1]}.items():
        yield (
            f"| {name} | "
            + " | ".join(f"{float(row[column]):.3f}" if row[column] else "–" for column in columns)
            + " |"
        )


def _metric_name(metric: str) -> str:
    return markdown_safe(metric.replace("_", " ").replace("f1", "F1"))


def _calibration(calibration: Mapping[str, Any] | None) -> Iterator[str]:
    if calibration is None:
        return
    yield ""
    if "refused" in calibration:
        yield f"Not calibrated: {markdown_safe(calibration['refused'])}."
        return
    temperatures = ", ".join(f"{temperature:.2f}" for temperature in calibration["temperatures"])
    before, after = (100 * calibration[when]["expected_calibration_error"] for when in ("before", "after"))
    yield f"Calibrated with temperatures {temperatures}: calibration error {before:.1f} % → {after:.1f} %."


def selection_page(summary: Mapping[str, Any], directory: Path, *, sheet: Path | None = None) -> Page:
    """Report the accepted labels per value.

    Args:
        summary: content of selection.json.
        directory: of the manifest.
        sheet: a contact sheet without real people.
    """
    round_index, manifest = summary["identity"]["round_index"], directory / "manifest.parquet"
    lines = [f"# Pseudo-labels of round {round_index}", "", *selection_lines(summary)]
    if summary.get("precision"):
        precisions = [
            f"{markdown_safe(name)} {100 * measured['precision']:.1f} % of {measured['num']:,}"
            for name, measured in summary["precision"].items()
            if measured["precision"] is not None
        ]
        lines += [f"Precision on labels that this run hid: {', '.join(precisions) or 'nothing accepted'}.", ""]
    thresholds = summary["selection"]["thresholds"]
    lines += [
        "| attribute | value | threshold | candidates | accepted | held-out correct | note |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in thresholds[:MAX_CLASSES]:
        threshold = "–" if row["threshold"] is None else f"{row['threshold']:.4g}"
        held_out = "" if row["num_held_out"] is None else f"{row['num_correct']:,} of {row['num_held_out']:,}"
        lines.append(
            f"| {markdown_safe(row['attribute'])} | {markdown_safe(row['value'])} | {threshold} "
            f"| {row['num_candidates']:,} | {row['num_accepted']:,} | {held_out} | {markdown_safe(row['note'])} |"
        )
    lines += [
        "",
        f"Manifest: {markdown_code(manifest)}. Open it: {markdown_code(f'ssl-pipeline manifest summary {manifest}')}",
    ]
    pictures = [] if sheet is None else [sheet]
    return Page(
        f"pseudo-labels-round-{round_index}",
        f"Accepted pseudo-labels of round {round_index}",
        "\n".join(lines),
        pictures,
    )


def cycle_page(summary: Mapping[str, Any], root: Path) -> Page:
    """Report the whole cycle; `summary` is the content of summary.json."""
    lines = [
        "# Teacher against student",
        "",
        comparison_markdown(dict(summary)),
        f"Promoted: {markdown_code(summary['promoted_checkpoint'])}",
        "",
        *_report_link(summary.get("report")),
        f"Run directory: {markdown_code(root)}. Status: {markdown_code(f'ssl-pipeline cycle status {root}')}",
    ]
    pictures = [root / "class_f1.png"] if summary["student"] is not None else []
    return Page("teacher-against-student", f"Result of run {summary['run_name']}", "\n".join(lines), pictures)


def _report_link(report: str | None) -> list[str]:
    """Link the report's file; a browser opens it where it runs on the same machine, so its path is there to copy."""
    if report is None:
        return []
    return [f"Report: [open it]({Path(report).absolute().as_uri()}), or copy its path: {markdown_code(report)}", ""]


def failure_page(message: str, status: RunStatus | None) -> Page:
    """Report a failure.

    Args:
        message: of the error.
        status: of the run; None if it had not started.
    """
    lines = ["# What went wrong", "", *(f"> {markdown_safe(line.strip())}  " for line in message.splitlines())]
    if status is None:
        lines += ["", "The run has not started: fix this and start it again."]
        return Page("what-went-wrong", "What went wrong", "\n".join(lines))
    lines += ["", "| stage | | | folder |", "|---|---|---|---|"]
    lines += [
        f"| {markdown_safe(stage.title)} | {stage.state} | {markdown_safe(stage.note)} | {markdown_code(stage.name)} |"
        for stage in status.stages
    ]
    lines += ["", f"Run directory: {markdown_code(status.root)}. {markdown_safe(status.next_step)}".rstrip()]
    return Page("what-went-wrong", "What went wrong", "\n".join(lines))


def gate_page(decision: Mapping[str, Any], round_index: int, root: Path) -> Page:
    """Report whether the student replaces its teacher, and both models' scores on the validation faces.

    Args:
        decision: content of gate.json.
        round_index: of the student.
        root: the run's directory.
    """
    student = root / decision["student"]
    models = (root / decision["teacher"], student)
    teacher_scores, student_scores = (read_json(model / "validation" / "scores.json") for model in models)
    verdict = markdown_safe(decision["verdict"])
    lines = [f"# Gate of round {round_index}", "", f"{verdict[:1].upper()}{verdict[1:]}."]
    comparison = decision["comparison"]
    if comparison["regressions"]:
        unit = comparison["unit"]
        lines += [
            "",
            f"| worse in | faces | accuracy | {unit} better | {unit} worse | p |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {markdown_safe(group['column'])} {markdown_safe(group['value'])} | {group['num_faces']:,} "
            f"| {signed(100 * group['difference'])} | {group['test']['num_better']:,} | {group['test']['num_worse']:,} "
            f"| {group['p_value']:.2g} |"
            for group in comparison["regressions"]
        ]
    lines += ["", *_score_table(teacher_scores, student_scores)]
    pictures = [student / "validation" / "confusion.png", student / "validation" / "reliability.png"]
    return Page(f"gate-round-{round_index}", "Student against teacher on validation", "\n".join(lines), pictures)


def _score_table(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of two models' scores: joint, per attribute, and F1 per value and class."""
    yield f"| % of {teacher['num_faces']:,} validation faces | faces | teacher | student | difference |"
    yield "|---|---:|---:|---:|---:|"
    for name, teacher_score, student_score in score_rows(teacher, student):
        yield f"| **{markdown_safe(name)}** | | {_score_cells(teacher_score, student_score)} |"
    per_value = [
        (f"{attribute} {value}: F1", scores, student["per_attribute"][attribute]["per_value"][value])
        for attribute, attribute_scores in teacher["per_attribute"].items()
        for value, scores in attribute_scores["per_value"].items()
    ]
    per_class = [(f"{name}: F1", scores, student["per_class"][name]) for name, scores in teacher["per_class"].items()]
    for name, scores, others in per_value + per_class[:MAX_CLASSES]:
        yield f"| {markdown_safe(name)} | {scores['num_faces']:,} | {_score_cells(scores['f1'], others['f1'])} |"
    if len(per_class) > MAX_CLASSES:
        yield f"| … and {len(per_class) - MAX_CLASSES:,} more classes | | | | |"


def _score_cells(teacher: float | None, student: float | None) -> str:
    if teacher is None or student is None:
        return " | ".join(["–" if score is None else f"{100 * score:.1f}" for score in (teacher, student)] + [""])
    return f"{100 * teacher:.1f} | {100 * student:.1f} | {signed(100 * (student - teacher))}"
