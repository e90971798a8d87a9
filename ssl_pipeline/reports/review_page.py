"""What a person reads before deciding on a round's selection, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_VALUES, MAX_REASONS = 40, 8


def review_markdown(
    summary: Mapping[str, Any], *, sheets: Sequence[str], audit_command: str, run_root: str, threshold: float | None
) -> str:
    """Write the question of a review: what was selected, where to look closer, and how to answer.

    Args:
        summary: a manifest's, by `summary.summarize`.
        sheets: paths of the audit's pages.
        audit_command: tells from the sheet, filled in, how pure the labels are.
        run_root: the run's directory.
        threshold: the confidence threshold that can be changed, None if there is none.
    """
    identity = summary["identity"]
    lines = [
        f"# Round {identity['round_index']} of run '{identity['run_name']}': may a student learn from these labels?",
        "",
        *selection_lines(summary),
    ]
    if sheets:
        lines += [
            f"Look at accepted labels, of every value as many: {', '.join(f'`{path}`' for path in sheets)}. With the sheet "
            f"beside it filled in, this tells how pure they are: `{audit_command}`",
            "",
        ]
    change = "" if threshold is None else f" --threshold NUMBER (now {threshold:g}) |"
    return "\n".join(
        [
            *lines,
            f"Decide by the form of the flow run, or: `ssl-pipeline cycle resume {run_root} --accept |{change} --reject`",
        ]
    )


def selection_lines(summary: Mapping[str, Any]) -> list[str]:
    """Write what became of the candidates, what speaks against it, and what was accepted of each value."""
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
        told = "; ".join(f"{markdown_safe(reason)}: {number:,}" for reason, number in reasons[:MAX_REASONS])
        lines += [f"Rejected: {told}{' …' if len(reasons) > MAX_REASONS else ''}.", ""]
    return lines


def _counts(summary: Mapping[str, Any]) -> str:
    counts, settings = summary["counts"], summary["selection"]["settings"]
    rate = "" if summary["acceptance_rate"] is None else f" ({summary['acceptance_rate']:.1%})"
    threshold = (
        f", confidence_threshold {settings['confidence_threshold']}" if "confidence_threshold" in settings else ""
    )
    return (
        f"{counts['candidates']:,} candidates = **{counts['accepted']:,} accepted**{rate} + "
        f"{counts['rejected']:,} rejected + {counts['unreadable']:,} unreadable, by {settings['type']}{threshold}, "
        f"{summary['targets']} targets."
    )


def _concerns(selection: Mapping[str, Any]) -> Iterator[str]:
    """What speaks against accepting: faults that the guards found, a strong shift."""
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


def markdown_safe(text: str) -> str:
    """Keep names, values and reasons, as ``<30``, ``a|b`` or ``*``, from becoming Markdown, HTML or a row of their own."""
    text = " ".join(text.split())
    for letter in "\\`*[]|~":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
