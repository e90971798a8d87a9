"""What a person reads of each finished stage, as Markdown: from its record and the files that it left."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.reports.comparison import comparison_markdown, score_rows
from ssl_pipeline.reports.review_page import markdown_safe, selection_lines
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.status import RunStatus

MAX_CLASSES, MAX_REASONS = 40, 20


@dataclass(frozen=True)
class Page:
    """A page about one stage."""

    key: str
    """Lower-case letters, digits and dashes; the same in every run."""
    title: str
    markdown: str
    pictures: Sequence[Path] = ()
    """PNG files to show below."""


def masks_page(records: Sequence[Mapping[str, Any]]) -> Page:
    """Tell what masks were drawn on whom; a record of `masking.masked_set.build_masked_faces` each."""
    lines = ["# Masked faces"]
    for record in records:
        drawn = ", ".join(f"{number:,} {mask}" for mask, number in record["drawn"].items())
        left_out = ("rejected", "filtered", "beyond_limit", "not_needed")
        parts = " + ".join(f"{record[part]:,} {part.replace('_', ' ')}" for part in ("used", *left_out))
        lines += [
            "",
            f"`{record['folder']}`: **{record['pictures']:,} pictures** ({drawn}), {record['kept']:,} of them there before.",
            "",
            f"{record['found']:,} faces found = {parts}.",
        ]
        if record["reasons"]:
            lines += [
                "",
                *_reasons([(record["folder"], reason, number) for reason, number in record["reasons"].items()]),
            ]
    return Page("masked-faces", "The masks that were drawn", "\n".join(lines))


def faces_page(found: Mapping[str, Any], directory: Path) -> Page:
    """Tell what was read, split and left out, and why; `found` are the counts, ``rejected.parquet`` lies in `directory`."""
    lines = [
        "# Faces",
        "",
        f"**{found['labeled']['train']:,}** to train on, **{found['labeled']['validation']:,}** for validation, "
        f"**{found['labeled']['test']:,}** to test on, **{found['unlabeled']:,}** in the pool.",
        "",
        "| source | found | used | rejected | left out by a filter or limit |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, of in found["sources"].items():
        left_out = of["found"] - of["used"] - of["rejected"]
        lines.append(
            f"| {markdown_safe(name)} | {of['found']:,} | {of['used']:,} | {of['rejected']:,} | {left_out:,} |"
        )
    leaks = {split: number for split, number in found["leakage"].items() if number}
    told = ", ".join(f"{number:,} of {split}" for split, number in leaks.items()) or "none"
    lines += [
        "",
        f"Taken out of the pool, being faces or persons of another part: {told} (`{directory / 'leakage.csv'}`). "
        f"Rejected faces, one by one: `{directory / 'rejected.parquet'}`.",
        "",
        *_rejected(directory / "rejected.parquet"),
        "| class | train | validation | test |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {markdown_safe(name)} | {of['train']:,} | {of['validation']:,} | {of['test']:,} |"
        for name, of in list(found["by_class"].items())[:MAX_CLASSES]
    ]
    if len(found["by_class"]) > MAX_CLASSES:
        lines.append(f"| … and {len(found['by_class']) - MAX_CLASSES:,} more | | | |")
    return Page("faces", "The faces of this run", "\n".join(lines))


def _rejected(table: Path) -> list[str]:
    """Count the rejected faces by source and reason."""
    counts = pd.read_parquet(table, columns=["source", "reason"]).value_counts(sort=True).reset_index(name="faces")
    return [*_reasons(list(counts.itertuples(index=False, name=None))), ""] if len(counts) else []


def _reasons(counts: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    """Draw a table of (source, reason, number), the commonest first."""
    yield "| source | rejected because | faces |"
    yield "|---|---|---:|"
    for source, reason, number in counts[:MAX_REASONS]:
        yield f"| {markdown_safe(source)} | {markdown_safe(reason)} | {number:,} |"
    if others := counts[MAX_REASONS:]:
        yield f"| | {len(others):,} other reasons | {sum(number for _, _, number in others):,} |"


def training_page(name: str, found: Mapping[str, Any], directory: Path, *, pictures: Sequence[Path]) -> Page:
    """Tell how a training went; ``name`` is ``teacher`` or ``student 1``, ``history.csv`` lies in `directory`."""
    with open(directory / "history.csv", newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    lines = [
        f"# {name[:1].upper()}{name[1:]}",
        "",
        f"Best in epoch {found['best_epoch'] + 1} of {found['num_epochs']}: {_spelled(found['monitor'])} "
        f"**{found['best_metric']:.3f}** on validation; {found['seconds']:,.0f} s.",
        *_calibration(found.get("calibration")),
        "",
        *_epochs(epochs, found["best_epoch"]),
        "",
        f"Checkpoint: `{directory / 'best.safetensors'}`",
    ]
    return Page(name.replace(" ", "-"), f"How the {name} was trained", "\n".join(lines), pictures)


def fold_teachers_page(found: Mapping[str, Any], directory: Path, *, pictures: Sequence[Path]) -> Page:
    """Tell how the teachers of `out_of_fold` were trained; ``teachers`` are in the order of their folds."""
    lines = [
        "# Teachers out of fold",
        "",
        f"**{found['num_faces']:,}** training faces, each labeled by the teacher that never saw it.",
        *_calibration(found["calibration"]),
        "",
        "| teacher without part | faces of that part | best epoch | on validation |",
        "|---|---:|---:|---:|",
    ]
    for fold, (of, num_faces) in enumerate(zip(found["teachers"], found["by_fold"], strict=True)):
        score = f"{_spelled(of['monitor'])} {of['best_metric']:.3f}"
        lines.append(f"| {fold + 1} | {num_faces:,} | {of['best_epoch'] + 1} of {of['num_epochs']} | {score} |")
    lines += ["", f"What they say of the training faces, and they: `{directory}`"]
    return Page("fold-teachers", "How the teachers out of fold were trained", "\n".join(lines), pictures)


def _epochs(epochs: Sequence[Mapping[str, str]], best: int) -> Iterator[str]:
    """Set the first, the best and the last epoch of a history side by side."""
    columns = [column for column in epochs[0] if column not in ("epoch", "learning_rate")]
    yield "| epoch | " + " | ".join(map(_spelled, columns)) + " |"
    yield "|---|" + "---:|" * len(columns)
    for name, row in (("first", epochs[0]), (f"best ({best + 1})", epochs[best]), ("last", epochs[-1])):
        yield (
            f"| {name} | "
            + " | ".join(f"{float(row[column]):.3f}" if row[column] else "–" for column in columns)
            + " |"
        )


def _spelled(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def _calibration(about: Mapping[str, Any] | None) -> Iterator[str]:
    if about is None:
        return
    yield ""
    if "refused" in about:
        yield f"Not calibrated: {about['refused']}."
        return
    temperatures = ", ".join(f"{temperature:.2f}" for temperature in about["temperatures"])
    before, after = (100 * about[when]["expected_calibration_error"] for when in ("before", "after"))
    yield f"Calibrated by temperatures {temperatures}: calibration error {before:.1f} % → {after:.1f} %."


def selection_page(summary: Mapping[str, Any], directory: Path, *, sheet: Path | None = None) -> Page:
    """Tell what was accepted, value by value; `summary` is selection.json's, `sheet` a picture that all may see."""
    round_index, manifest = summary["identity"]["round_index"], directory / "manifest.parquet"
    lines = [f"# Pseudo-labels of round {round_index}", "", *selection_lines(summary)]
    if summary.get("precision"):
        right = [
            f"{markdown_safe(name)} {100 * of['precision']:.1f} % of {of['num']:,}"
            for name, of in summary["precision"].items()
            if of["precision"] is not None
        ]
        lines += [f"Right, by the labels that this run hid: {', '.join(right) or 'nothing accepted'}.", ""]
    thresholds = summary["selection"]["thresholds"]
    lines += [
        "| attribute | value | threshold | candidates | accepted | held-out: right of | note |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in thresholds[:MAX_CLASSES]:
        threshold = "–" if row["threshold"] is None else f"{row['threshold']:.4g}"
        held_out = "" if row["num_held_out"] is None else f"{row['num_correct']:,} of {row['num_held_out']:,}"
        lines.append(
            f"| {markdown_safe(row['attribute'])} | {markdown_safe(row['value'])} | {threshold} "
            f"| {row['num_candidates']:,} | {row['num_accepted']:,} | {held_out} | {markdown_safe(row['note'])} |"
        )
    lines += ["", f"Manifest: `{manifest}`. Open it: `ssl-pipeline manifest summary {manifest}`"]
    pictures = [] if sheet is None else [sheet]
    return Page(f"pseudo-labels-round-{round_index}", f"What round {round_index} accepted", "\n".join(lines), pictures)


def cycle_page(summary: Mapping[str, Any], root: Path) -> Page:
    """Tell what the whole cycle came to; `summary` is summary.json's."""
    lines = [
        "# Teacher against student",
        "",
        comparison_markdown(dict(summary)),
        f"Promoted: `{summary['promoted_checkpoint']}`",
        "",
        f"Run directory: `{root}`. Where it stands: `ssl-pipeline cycle status {root}`",
    ]
    pictures = [root / "class_f1.png"] if summary["student"] is not None else []
    return Page("teacher-against-student", f"What run {summary['run_name']} came to", "\n".join(lines), pictures)


def failure_page(words: str, status: RunStatus | None) -> Page:
    """Tell what is wrong, how far the run came and how it goes on; None where it had not begun."""
    lines = ["# What went wrong", "", *(f"> {markdown_safe(line.strip())}  " for line in words.splitlines())]
    if status is None:
        lines += ["", "Nothing was begun: mend that and start it again."]
        return Page("what-went-wrong", "What went wrong", "\n".join(lines))
    lines += ["", "| stage | | |", "|---|---|---|"]
    lines += [f"| {markdown_safe(of.name)} | {of.state} | {markdown_safe(of.note)} |" for of in status.stages]
    lines += ["", f"Run directory: `{status.root}`. {status.next_step}".rstrip()]
    return Page("what-went-wrong", "What went wrong", "\n".join(lines))


def gate_page(decision: Mapping[str, Any], round_index: int, root: Path) -> Page:
    """Tell whether the student takes its teacher's place, and both models' scores on the validation faces.

    Args:
        decision: gate.json's.
        round_index: the student's.
        root: of the run; the scores lie in it.
    """
    student = root / decision["student"]
    teachers, own = (read_json(model / "validation" / "scores.json") for model in (root / decision["teacher"], student))
    verdict = markdown_safe(decision["verdict"])
    lines = [f"# Gate of round {round_index}", "", f"{verdict[:1].upper()}{verdict[1:]}."]
    if decision["regressions"]:
        lines += ["", "| clearly worse in | faces | accuracy |", "|---|---:|---:|"]
        lines += [
            f"| {markdown_safe(of['column'])} {markdown_safe(of['value'])} | {of['num_faces']:,} "
            f"| {100 * of['difference']:+.1f} |"
            for of in decision["regressions"]
        ]
    lines += ["", *_against(teachers, own)]
    pictures = [student / "validation" / "confusion.png", student / "validation" / "reliability.png"]
    return Page(f"gate-round-{round_index}", "Student against teacher on validation", "\n".join(lines), pictures)


def _against(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Iterator[str]:
    """Draw a table of two models' scores of the same faces: joint, of each attribute, F1 of each value and class."""
    yield f"| % of {teacher['num_faces']:,} validation faces | faces | teacher | student | difference |"
    yield "|---|---:|---:|---:|---:|"
    for name, one, other in score_rows(teacher, student):
        yield f"| **{markdown_safe(name)}** | | {_both(one, other)} |"
    by_value = [
        (f"{attribute} {value}: F1", of, student["per_attribute"][attribute]["per_value"][value])
        for attribute, scores in teacher["per_attribute"].items()
        for value, of in scores["per_value"].items()
    ]
    by_class = [(f"{name}: F1", of, student["per_class"][name]) for name, of in teacher["per_class"].items()]
    for name, of, own in by_value + by_class[:MAX_CLASSES]:
        yield f"| {markdown_safe(name)} | {of['num_faces']:,} | {_both(of['f1'], own['f1'])} |"
    if len(by_class) > MAX_CLASSES:
        yield f"| … and {len(by_class) - MAX_CLASSES:,} more classes | | | | |"


def _both(teacher: float | None, student: float | None) -> str:
    if teacher is None or student is None:
        return " | ".join(["–" if score is None else f"{100 * score:.1f}" for score in (teacher, student)] + [""])
    return f"{100 * teacher:.1f} | {100 * student:.1f} | {100 * (student - teacher):+.1f}"
