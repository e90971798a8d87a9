"""Terminal tables of a manifest: summary, faces, thresholds, explanation, difference and audit."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ssl_pipeline.reports.tables import add_row, decimal, new_table

if TYPE_CHECKING:
    import pandas as pd

_MAX_CLASSES = 30
_BAR_WIDTH = 24


def render_summary(summary: Mapping[str, Any], path: object) -> Group:
    """Render `pseudo_labels.summary.summarize`; `path` is the manifest's."""
    counts, identity = summary["counts"], summary["identity"]
    rate, unknown = summary["acceptance_rate"], "of those with an unknown attribute"
    share = "nothing to accept" if rate is None else f"{rate:.1%} {unknown}"
    headline = Text(
        f"{path}: round {identity['round_index']} of run '{identity['run_name']}', {summary['targets']} targets\n"
        f"{counts['candidates']:,} candidates = {counts['accepted']:,} accepted ({share}) + "
        f"{counts['rejected']:,} rejected + {counts['unreadable']:,} unreadable\n"
        f"teacher {identity['teacher_digest'][:12]}, selection {identity['selection_digest'][:12]}, "
        f"faces {identity['faces_digest'][:12]}"
    )
    values = new_table(
        "Accepted pseudo-labels per value", "attribute", "value", "faces", "mean", "min", "median", left=2
    )
    columns = ("known", "derived", "accepted", "rejected")
    attributes = new_table("Labels per attribute", "attribute", "known", "of them derived", "accepted", "rejected")
    for name, attribute in summary["per_attribute"].items():
        add_row(attributes, name, *(f"{attribute[column]:,}" for column in columns))
        for value, numbers in attribute["per_value"].items():
            confidences = [decimal(numbers[f"{statistic}_confidence"]) for statistic in ("mean", "min", "median")]
            add_row(values, name, value, f"{numbers['accepted']:,}", *confidences)
    classes = new_table("Accepted faces per class", "most probable class", "faces")
    for name, number in summary["per_class"].items():
        add_row(classes, name, f"{number:,}")
    statuses = ("accepted", "rejected", "unreadable")
    sources = new_table("Faces per source", "source", *statuses)
    for name, numbers in summary["per_source"].items():
        add_row(sources, name, *(f"{numbers[status]:,}" for status in statuses))
    reasons = new_table("Reasons for rejection", "reason", "number")
    for reason, number in {**summary["rejection_reasons"], **summary["unreadable_reasons"]}.items():
        add_row(reasons, reason, f"{number:,}")
    return Group(headline, attributes, values, classes, sources, reasons)


def render_faces(rows: "pd.DataFrame", attributes: Sequence[str], *, num_faces: int) -> Table:
    """Render rows of a manifest, the first of `num_faces`."""
    table = new_table(f"{len(rows):,} of {num_faces:,} faces", "image", "status", "confidence", left=2)
    table.add_column("labels and reasons", overflow="fold", ratio=1)
    for row in rows.to_dict("records"):
        lines = [
            f"{name}: {row[name]} {row[f'{name}_status']}, {row[f'{name}_reason']}"
            for name in attributes
            if isinstance(row[name], str)
        ]
        add_row(table, row["image_id"], row["status"], decimal(row["confidence"]), "\n".join(lines) or row["reason"])
    return table


def render_face(descriptions: Sequence[Mapping[str, Any]]) -> Group:
    """Render `pseudo_labels.explanation.describe_face`."""
    return Group(*[table for description in descriptions for table in _face_tables(description)])


def _face_tables(description: Mapping[str, Any]) -> list[Table]:
    columns = new_table(str(description["columns"]["image_id"]), "column", "value", left=2)
    for name, value in description["columns"].items():
        add_row(columns, name, decimal(value))
    if not description["attributes"]:
        return [columns]
    attributes = new_table("Attributes", "attribute", "value", "confidence", "status", "label source", "reason", left=2)
    for name, details in description["attributes"].items():
        add_row(attributes, name, *(decimal(cell) for cell in details.values()))
    classes = new_table("Class probabilities", "class", "probability", "")
    probabilities = description["class_probabilities"]
    for name, probability in islice(probabilities.items(), _MAX_CLASSES):
        add_row(classes, name, decimal(probability), "█" * round(_BAR_WIDTH * probability))
    if others := list(probabilities.values())[_MAX_CLASSES:]:
        add_row(classes, f"… and {len(others):,} more", decimal(sum(others)), "")
    classes.columns[2].justify = "left"
    return [columns, attributes, classes]


def render_selection(selection: Mapping[str, Any]) -> Group:
    """Render how a manifest was selected: settings, faults, shift and thresholds."""
    faults = [Text(f"fault: {fault}") for fault in selection["faults"]]
    shift = selection.get("shift")
    lines = [] if shift is None else [Text(f"shift: {shift['words']}")]
    settings = Text(f"selected by {_settings(selection)}")
    return Group(settings, *faults, *lines, thresholds_table(selection["thresholds"]))


def render_explanation(explanations: Sequence[Mapping[str, Any]], selection: Mapping[str, Any]) -> Group:
    """Render `pseudo_labels.explanation.explain`; `selection` is the manifest's."""
    parts: list[Text | Table] = []
    for face in explanations:
        known = ", ".join(f"{name} {value}" for name, value in face["known"].items()) or "nothing"
        parts.append(
            Text(
                f"{face['image_id']}: {face['status']}, weight {decimal(face['weight'])}\n"
                f"{face['reason']}\nselected by {_settings(selection)}; known before: {known}"
            )
        )
        table = new_table("Attributes", "attribute", "value", "confidence", "weight", "status", "reason", left=2)
        thresholds: list[Mapping[str, Any]] = []
        for name, details in face["attributes"].items():
            numbers = [decimal(details[field]) for field in ("confidence", "weight")]
            add_row(table, name, details["value"], *numbers, details["status"], details["reason"])
            if details["threshold"] is not None and details["threshold"] not in thresholds:
                thresholds.append(details["threshold"])  # per class, all attributes share one
        if face["attributes"]:
            parts.append(table)
        parts += [Text(f"{name}: {words}") for name, words in face["answers"].items()]
        if thresholds:
            parts.append(thresholds_table(thresholds))
    return Group(*parts)


def thresholds_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Render rows of a manifest's thresholds."""
    columns = ("threshold", "candidates", "accepted", "held-out", "correct", "precision", "lower bound", "note")
    table = new_table("Thresholds, measured on held-out faces", "attribute", "value", *columns, left=2)
    table.columns[-1].justify = "left"
    for row in rows:
        known = f" (known: {row['known_attributes']})" if row["known_attributes"] else ""
        num, num_correct, bound = row["num_held_out"], row["num_correct"], row["lower_bound"]
        add_row(
            table,
            row["attribute"] + known,
            row["value"],
            "" if row["threshold"] is None else f"{row['threshold']:.4f}",
            f"{row['num_candidates']:,}",
            f"{row['num_accepted']:,}",
            num,
            num_correct,
            decimal(num_correct / num) if num else "",
            "" if bound is None else f"{decimal(bound)} at {row['bound_confidence']:.4g}",
            row["note"],
        )
    return table


def render_difference(difference: Mapping[str, Any], *, before: object, after: object) -> Group:
    """Render `pseudo_labels.difference.difference`; `before` and `after` are the manifests' paths."""
    num_faces = difference["num_faces"]
    headline = Text(
        f"before: {before}, {num_faces['before']:,} faces\nafter:  {after}, {num_faces['after']:,} faces, "
        f"{num_faces['both']:,} of them in both"
    )
    kinds = ("kept", "changed", "gained", "lost", "other_value")
    heads = ("kept", "changed", "gained", "lost", "other value, accepted or not")
    table = new_table("Accepted pseudo-labels; in brackets: right before → after", "attribute", *heads)
    examples = new_table("Examples", "attribute", "face", left=2)
    for name, counts in difference["per_attribute"].items():
        add_row(table, name, *(f"{counts[kind]:,}{right_words(counts, kind)}" for kind in kinds))
        for example in counts["examples"]:
            add_row(examples, name, example)
    return Group(headline, table, examples)


def right_words(counts: Mapping[str, Any], kind: str) -> str:
    """State how many labels of a kind of change are right before and after, in brackets; empty if no truth is known."""
    right = (counts["right"] or {}).get(kind, {"num": 0})
    return f" ({right['before']:,} → {right['after']:,} right of {right['num']:,})" if right["num"] else ""


def render_audit(audit: Mapping[str, Any]) -> Group:
    """Render `pseudo_labels.audit.audit`."""
    answered = f"{audit['num_answered']:,} of {audit['num_sampled']:,} answered"
    title = f"Precision of accepted pseudo-labels, from a person's answers ({answered})"
    counts = ("labels", "judged", "correct", "unsure", "units")
    columns = ("precision", "interval", "true precision", "reference", "verdict")
    table = new_table(title, "attribute", "value", *counts, *columns, left=2)
    table.columns[-1].justify = "left"
    broken = []
    for name, attribute in audit["per_attribute"].items():
        per_value = audit["per_value"][name]
        for value, estimate in per_value.items():
            _add_estimate(table, name, value, estimate)
            if estimate["verdict"] == "broken":
                broken.append(f"{name} {value}")
        if len(per_value) > 1:
            _add_estimate(table, name, "all", attribute)
    if len(audit["per_attribute"]) > 1:
        _add_estimate(table, "overall", "", audit["overall"])
    guaranteed = audit["guarantee"]["target"] is not None
    reference = "guaranteed precision" if guaranteed else "mean confidence; nothing was guaranteed"
    lines = [
        f"Reference: {reference}. Intervals: {audit['confidence']:.0%}; several values are weighted by size; unsure and "
        "missing answers count as wrong in the lower bound and as right in the upper one; a person's faces and copies of a "
        "picture are one unit."
    ]
    if audit["guarantee"]["under_strong_shift"]:
        lines.append("The selection was made under strong shift: validation faces guarantee nothing about this pool.")
    if audit["overall"]["true_precision"] is not None:
        lines.append("True precision: share of all accepted labels that equal the labels that the run hid.")
    lines.append(f"Overall {audit['overall']['words']}.")
    if broken:
        lines.append(f"Below the reference: {', '.join(broken)}.")
    return Group(table, Text("\n".join(lines)))


def _add_estimate(table: Table, name: str, value: str, estimate: Mapping[str, Any]) -> None:
    counts = [
        f"{estimate[field]:,}" for field in ("num_labels", "num_judged", "num_correct", "num_unsure", "num_units")
    ]
    precision, true_precision, reference = (
        "" if estimate[field] is None else f"{estimate[field]:.1%}"
        for field in ("precision", "true_precision", "reference")
    )
    interval = f"{estimate['lower']:.1%} to {estimate['upper']:.1%}"
    add_row(table, name, value, *counts, precision, interval, true_precision, reference, estimate["verdict"])


def _settings(selection: Mapping[str, Any]) -> str:
    """Format the strategy and its settings, without the guards."""
    settings = {name: value for name, value in selection["settings"].items() if name != "guards"}
    strategy = settings.pop("type", "unrecorded settings")
    return f"{strategy} ({', '.join(f'{name} {value}' for name, value in settings.items())})"
