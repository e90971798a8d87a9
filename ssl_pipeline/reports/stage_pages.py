"""What a person reads of each finished stage, as Markdown: from its record and the files that it left."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_pipeline.reports.comparison import comparison_markdown
from ssl_pipeline.reports.review_page import markdown_safe, selection_lines

MAX_CLASSES = 40


@dataclass(frozen=True)
class Page:
    """A page about one stage."""

    key: str
    """Lower-case letters, digits and dashes; the same in every run."""
    title: str
    markdown: str
    pictures: Sequence[Path] = ()
    """PNG files to show below."""


def faces_page(record: Mapping[str, Any], directory: Path) -> Page:
    """Tell what was read, split and left out; `record` is the stage's."""
    found = record["result"]
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
        f"Rejected faces, with reasons: `{directory / 'rejected.parquet'}`.",
        "",
        "| class | train | validation | test |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {markdown_safe(name)} | {of['train']:,} | {of['validation']:,} | {of['test']:,} |"
        for name, of in list(found["by_class"].items())[:MAX_CLASSES]
    ]
    return Page("faces", "The faces of this run", "\n".join(lines))


def training_page(name: str, record: Mapping[str, Any], directory: Path) -> Page:
    """Tell how a training went; ``name`` is ``teacher`` or ``student 1``."""
    found = record["result"]
    lines = [
        f"# {name[:1].upper()}{name[1:]}",
        "",
        f"Best in epoch {found['best_epoch']} of {found['num_epochs']}: {found['monitor'].replace('_', ' ')} "
        f"**{found['best_metric']:.3f}** on validation; {record['seconds']:,.0f} s.",
        *_calibration(found.get("calibration")),
        "",
        f"Checkpoint: `{directory / 'best.safetensors'}`",
    ]
    pictures = [directory / name for name in record["outputs"] if name.endswith(".png")]
    return Page(name.replace(" ", "-"), f"How the {name} was trained", "\n".join(lines), pictures)


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


def selection_page(summary: Mapping[str, Any], directory: Path) -> Page:
    """Tell what was accepted, value by value; `summary` is selection.json's."""
    round_index, manifest = summary["identity"]["round_index"], directory / "manifest.parquet"
    lines = [f"# Pseudo-labels of round {round_index}", "", *selection_lines(summary)]
    if summary.get("purity"):
        right = [
            f"{markdown_safe(name)} {100 * of['purity']:.1f} % of {of['num']:,}"
            for name, of in summary["purity"].items()
            if of["purity"] is not None
        ]
        lines += [f"Right, by the labels that this run hid: {', '.join(right) or 'nothing accepted'}.", ""]
    thresholds = summary["selection"]["thresholds"]
    lines += [
        "| attribute | value | threshold | candidates | accepted | unseen: right of | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in thresholds[:MAX_CLASSES]:
        threshold = "–" if row["threshold"] is None else f"{row['threshold']:.4g}"
        unseen = "" if row["num_unseen"] is None else f"{row['num_right']:,} of {row['num_unseen']:,}"
        lines.append(
            f"| {markdown_safe(row['attribute'])} | {markdown_safe(row['value'])} | {threshold} "
            f"| {row['num_candidates']:,} | {row['num_accepted']:,} | {unseen} | {markdown_safe(row['note'])} |"
        )
    lines += ["", f"Manifest: `{manifest}`. Open it: `ssl-pipeline manifest summary {manifest}`"]
    return Page(f"pseudo-labels-round-{round_index}", f"What round {round_index} accepted", "\n".join(lines))


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


def gate_page(decision: Mapping[str, Any], round_index: int, student: Path) -> Page:
    """Tell whether the student takes its teacher's place; `decision` is gate.json's."""
    lines = [f"# Gate of round {round_index}", "", f"{markdown_safe(decision['verdict'])}."]
    if decision["regressions"]:
        lines += ["", "| clearly worse in | faces | accuracy |", "|---|---:|---:|"]
        lines += [
            f"| {markdown_safe(of['column'])} {markdown_safe(of['value'])} | {of['num_faces']:,} "
            f"| {100 * of['difference']:+.1f} |"
            for of in decision["regressions"]
        ]
    pictures = [student / "validation" / "confusion.png", student / "validation" / "reliability.png"]
    return Page(f"gate-round-{round_index}", "Student against teacher on validation", "\n".join(lines), pictures)
