"""Every number behind one decision of a manifest, and the thresholds behind all of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.manifest_report import add_row, decimal, new_table, places_of_face


def explain(manifest: Manifest, image_id: str) -> list[dict[str, Any]]:
    """Gather what decided each attribute of a face.

    Returns:
        For each row of the face (one, unless an unreadable file bears its name), JSON-able: decision, reason, weight,
        known (attribute → value); and attributes, each with value, confidence, decision, weight, reason and
        `threshold`, the row of the manifest's thresholds that it was decided by, None without any.

    Raises:
        ManifestError: if there is no such face; names close ones.
    """
    explanations = []
    for place in places_of_face(manifest, image_id):
        face: dict[Any, Any] = manifest.faces.iloc[place].to_dict()
        about = {name: face[name] for name in ("image_id", "status", "reason", "weight")}
        decided = [name for name in manifest.labels.names if isinstance(face[f"{name}_status"], str)]
        known = {name: str(face[name]) for name in decided if face[f"{name}_status"] == "known"}
        attributes = {}
        for name in decided:
            numbers = {what: face[f"{name}_{what}"] for what in ("confidence", "status", "weight", "reason")}
            row = None if name in known else _threshold_of(manifest, face, name, known)
            attributes[name] = {"value": str(face[name]), **numbers, "threshold": row}
        explanations.append({**about, "known": known, "attributes": attributes})
    return explanations


def render_explanation(manifest: Manifest, image_id: str) -> Group:
    """Draw `explain` for a terminal.

    Raises:
        ManifestError: if there is no such face.
    """
    parts: list[Text | Table] = []
    for about in explain(manifest, image_id):
        known = ", ".join(f"{name} {value}" for name, value in about["known"].items()) or "nothing"
        parts.append(
            Text(
                f"{about['image_id']}: {about['status']}, weight {decimal(about['weight'])}\n"
                f"{about['reason']}\nselected by {_settings(manifest)}; known before: {known}"
            )
        )
        table = new_table("Decisions", "attribute", "value", "confidence", "weight", "status", "reason", left=2)
        for name, numbers in about["attributes"].items():
            measured = [decimal(numbers[what]) for what in ("confidence", "weight")]
            add_row(table, name, numbers["value"], *measured, numbers["status"], numbers["reason"])
        rows = [numbers["threshold"] for numbers in about["attributes"].values() if numbers["threshold"] is not None]
        if about["attributes"]:
            parts.append(table)
        if rows:  # per class, all attributes share one
            parts.append(thresholds_table([row for place, row in enumerate(rows) if row not in rows[:place]]))
    return Group(*parts)


def render_selection(manifest: Manifest) -> Group:
    """Draw how the manifest was selected: settings, faults, shift, the threshold of each value and what it rests on."""
    faults = [Text(f"fault: {fault}") for fault in manifest.selection["faults"]]
    shift = manifest.selection.get("shift")
    told = [] if shift is None else [Text(f"shift: {shift['words']}")]
    rows = thresholds_table(manifest.selection["thresholds"])
    return Group(Text(f"selected by {_settings(manifest)}"), *faults, *told, rows)


def thresholds_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Draw rows of a manifest's thresholds."""
    columns = ("threshold", "candidates", "accepted", "held_out", "right", "precision", "bound", "note")
    table = new_table("Thresholds, and what held-out faces say of them", "of", "value", *columns, left=2)
    table.columns[-1].justify = "left"
    for row in rows:
        given = f" (given {row['given']})" if row["given"] else ""
        num, right = row["num_held_out"], row["num_right"]
        bound = row["lower_bound"]
        add_row(
            table,
            row["attribute"] + given,
            row["value"],
            "" if row["threshold"] is None else f"{row['threshold']:.4f}",
            f"{row['num_candidates']:,}",
            f"{row['num_accepted']:,}",
            num,
            right,
            decimal(right / num) if num else "",
            "" if bound is None else f"{decimal(bound)} at {row['bound_confidence']:.4g}",
            row["note"],
        )
    return table


def _threshold_of(
    manifest: Manifest, face: Mapping[Any, Any], name: str, known: Mapping[str, str]
) -> dict[str, Any] | None:
    """Find the row that decided an attribute of a face: of its value, or its class, given what is known of it."""
    whole = manifest.selection["settings"].get("per") == "class"
    wanted = ("class", face["class_name"]) if whole else (name, face[name])
    for row in manifest.selection["thresholds"]:
        if (row["attribute"], row["value"]) == wanted and row["given"] in (None, ", ".join(known)):
            return dict(row)
    return None


def _settings(manifest: Manifest) -> str:
    """The strategy and its settings, without the guards."""
    settings = {name: value for name, value in manifest.selection["settings"].items() if name != "guards"}
    strategy = settings.pop("type", "settings that were not kept")
    return f"{strategy} ({', '.join(f'{name} {value}' for name, value in settings.items())})"
