"""The page of a review request and the summary of a selection, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssl_pipeline.reports.markdown import markdown_code, markdown_safe

MAX_VALUES, MAX_REASONS = 40, 8


def review_markdown(
    summary: Mapping[str, Any], *, sheets: Sequence[str], audit_command: str, run_root: str, threshold: float | None
) -> str:
    """Render a review request: the selection, where to look closer, and how to decide.

    Args:
        summary: from `pseudo_labels.summary.summarize`.
        sheets: paths of the audit's pages.
        audit_command: estimates the labels' precision from the filled-in sheet.
        run_root: the run's directory.
        threshold: the confidence threshold, None if the strategy has none.
    """
    identity = summary["identity"]
    title = f"# Round {identity['round_index']} of run '{markdown_safe(identity['run_name'])}': may a student learn from these labels?"
    lines = [title, "", *selection_lines(summary)]
    if sheets:
        lines += [
            f"A sample of accepted labels, equally many per value: {', '.join(map(markdown_code, sheets))}. Fill in the "
            f"sheet in the same folder, then estimate their precision: {markdown_code(audit_command)}",
            "",
        ]
    change = "" if threshold is None else f" --threshold NUMBER (now {threshold:g}) |"
    decide = markdown_code(f"ssl-pipeline cycle resume {run_root} --accept |{change} --reject")
    return "\n".join([*lines, f"Decide with the form of the flow run, or: {decide}"])


def selection_lines(summary: Mapping[str, Any]) -> list[str]:
    """Render the counts, the faults and shift, the accepted labels per value, and the reasons for rejection."""
    lines = [
        _counts(summary),
        *_concerns(summary["selection"]),
        "",
        "| attribute | value | accepted | mean confidence | lowest |",
        "|---|---|---:|---:|---:|",
        *_values(summary),
        "",
    ]
    if summary["rejection_reasons"]:
        reasons = list(summary["rejection_reasons"].items())
        counts = "; ".join(f"{markdown_safe(reason)}: {count:,}" for reason, count in reasons[:MAX_REASONS])
        lines += [f"Rejected: {counts}{' …' if len(reasons) > MAX_REASONS else ''}.", ""]
    return lines


def _counts(summary: Mapping[str, Any]) -> str:
    counts, settings = summary["counts"], summary["selection"]["settings"]
    rate = (
        ""
        if summary["acceptance_rate"] is None
        else f" ({summary['acceptance_rate']:.1%} of those with an unknown attribute)"
    )
    value = settings.get("confidence_threshold")
    threshold = "" if value is None else f", confidence_threshold {value}"
    return (
        f"{counts['candidates']:,} candidates = **{counts['accepted']:,} accepted**{rate} + "
        f"{counts['rejected']:,} rejected + {counts['unreadable']:,} unreadable, by {settings['type']}{threshold}, "
        f"{summary['targets']} targets."
    )


def _concerns(selection: Mapping[str, Any]) -> Iterator[str]:
    """Render the faults that the guards found, and the shift."""
    for fault in selection["faults"]:
        yield f"- **fault**: {markdown_safe(fault)}"
    shift = selection.get("shift")
    if shift is not None:
        yield f"- shift: {markdown_safe(shift['words'])}"


def _values(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (name, value, numbers)
        for name, attribute in summary["per_attribute"].items()
        for value, numbers in attribute["per_value"].items()
    ]
    for name, value, numbers in rows[:MAX_VALUES]:
        mean, lowest = (_decimal(numbers[f"{what}_confidence"]) for what in ("mean", "min"))
        yield f"| {markdown_safe(name)} | {markdown_safe(value)} | {numbers['accepted']:,} | {mean} | {lowest} |"
    if len(rows) > MAX_VALUES:
        yield f"| … and {len(rows) - MAX_VALUES:,} more | | | | |"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
