"""Teacher against student, for a person to read."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def verdict(summary: dict[str, Any]) -> str:
    """Say in a few sentences whether the student was worth it, on validation and on test, and what it is worse at."""
    stopped = [_stop(summary["reviews"][-1])] if summary.get("status") == "stopped by review" else []
    if (changed := summary.get("changed_labels")) and not changed["should_continue"]:
        stopped.append(f"Of round {changed['round_index']} nothing was learned: {changed['words']}.")
    if summary["student"] is None:
        return " ".join([*stopped, "There is no student: the teacher stays, and the test split was not used."])
    teacher, student = summary["teacher"], summary["student"]
    gain = 100 * (student["test"]["macro_f1"] - teacher["test"]["macro_f1"])
    on_test = (
        f"on the test split it is {abs(gain):.1f} points of macro F1 {'above' if gain >= 0 else 'below'} the teacher"
    )
    shift = summary.get("shift") or {}
    warning = [f"Mind the shift: {shift['words']}."] if shift.get("strong") else []
    if summary["promoted"] == "teacher":
        stays = f"The gate promoted no student: the teacher stays. The student's test: {on_test}."
        return " ".join([*stopped, stays, _certainty(summary), *warning])
    sentences = [f"The student of round {student['round']} is promoted, being better on validation; {on_test}."]
    if gain <= 0:
        sentences.append("The gain on validation did not carry over: do not use this student without a closer look.")
    losses = [
        f"{metric.removesuffix(' macro F1')} ({100 * (own - teachers):+.1f})"
        for metric, teachers, own in comparison_rows(summary)
        if metric.endswith("macro F1") and not metric.startswith("joint") and own < teachers
    ]
    if losses:
        sentences.append(f"It is worse than the teacher at {' and at '.join(losses)}.")
    return " ".join([*stopped, *sentences, _certainty(summary), *warning])


def _stop(review: dict[str, Any]) -> str:
    note = f": {review['note']}" if review["note"] else ""
    return f"{review['reviewer']} rejected the selection of round {review['round']}, which ended the cycle{note}."


def _certainty(summary: dict[str, Any]) -> str:
    """Say how sure the difference on test is, and name the groups of faces that lose by it."""
    found = summary["test_difference"]["comparison"]
    metric = summary["test_difference"]["metric"].replace("_", " ").replace("f1", "F1")
    lower, upper = 100 * found["lower"], 100 * found["upper"]
    text = f"95 % interval of the difference in {metric}: {lower:+.1f} to {upper:+.1f}, drawing from {found['num_persons']:,} persons"
    text += "; the test faces do not tell which of them is better." if lower <= 0 <= upper else "."
    groups = [
        f"{group['column']} {group['value']} ({100 * group['difference']:+.1f} of accuracy, {group['num_faces']:,} faces)"
        for group in summary["test_difference"]["regressions"]
    ]
    return f"{text} It is clearly worse for {', '.join(groups)}." if groups else text


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Give (metric, teacher, student) of the test split, joint first, then each attribute; all in [0, 1]."""
    return score_rows(summary["teacher"]["test"], summary["student"]["test"])


def score_rows(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Give (metric, teacher, student) of two models' scores of the same faces, joint first, then each attribute."""
    rows = [(f"joint {metric}", teacher[name], student[name]) for name, metric in _METRICS]
    for attribute, scores in teacher["per_attribute"].items():
        own = student["per_attribute"][attribute]
        rows += [(f"{attribute} {metric}", scores[name], own[name]) for name, metric in _METRICS]
    return rows


def comparison_table(summary: dict[str, Any]) -> Table:
    """Draw the comparison on the test split for a terminal."""
    num_faces = summary["teacher"]["test"]["num_faces"]
    table = Table(title=f"Teacher against student on {num_faces:,} test faces")
    for column in ("%", "teacher", f"student (round {summary['student']['round']})", "difference"):
        table.add_column(column, justify="left" if column == "%" else "right")
    for metric, teacher, student in comparison_rows(summary):
        table.add_row(metric, f"{100 * teacher:.1f}", f"{100 * student:.1f}", f"{100 * (student - teacher):+.1f}")
    return table


def comparison_markdown(summary: dict[str, Any]) -> str:
    """Write the verdict and, if there is a student, the comparison as Markdown."""
    manifest = ["", f"Manifest: `{summary['manifest']}`", ""]
    if summary["student"] is None:
        return "\n".join([verdict(summary), *manifest])
    lines = [verdict(summary), "", "| % | teacher | student | difference |", "|---|---:|---:|---:|"]
    lines += [
        f"| {metric} | {100 * teacher:.1f} | {100 * student:.1f} | {100 * (student - teacher):+.1f} |"
        for metric, teacher, student in comparison_rows(summary)
    ]
    return "\n".join([*lines, *manifest])


_METRICS = (("macro_f1", "macro F1"), ("accuracy", "accuracy"))
