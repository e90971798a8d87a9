"""What people ask of a manifest: counts, single faces, a spreadsheet, and how often the labels are right."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest, write_manifest
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema
from ssl_pipeline.runs.files import atomic_path

STATUSES = ("accepted", "rejected", "unreadable")

_CSV_ROWS_AT_ONCE = 50_000
_CLASSES_SHOWN = 30
_BAR_WIDTH = 24
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_MEASURED = re.compile(r"^((?:class )?confidence|rank|weight|deviation) [\d.]+")


def summarize(manifest: Manifest) -> dict[str, Any]:
    """Count what became of the candidates.

    Returns:
        JSON-able: identity, targets, selection (settings, thresholds, faults); counts (candidates = accepted + rejected
        + unreadable); acceptance_rate, accepted over accepted and rejected, None without any; per_attribute: known (of
        them derived), accepted, rejected and per_value, the
        accepted ones with mean, min and median confidence; per_class: accepted faces by their most probable class;
        per_source: counts; rejection_reasons of attributes, the measured number left out; unreadable_reasons.
    """
    faces = manifest.faces
    counts = _status_counts(faces["status"])
    num_decided = counts["accepted"] + counts["rejected"]
    accepted = faces[faces["status"] == "accepted"]
    classes = accepted["class_name"].value_counts()
    unreadable = faces.loc[faces["status"] == "unreadable", "reason"]
    return {
        "identity": asdict(manifest.identity),
        "targets": manifest.targets,
        "selection": dict(manifest.selection),
        "counts": counts,
        "acceptance_rate": counts["accepted"] / num_decided if num_decided else None,
        "per_attribute": {name: _attribute_counts(manifest, name) for name in manifest.labels.names},
        "per_class": {name: int(classes.get(name, 0)) for name in manifest.labels.class_names},
        "per_source": {
            str(source): _status_counts(rows) for source, rows in faces.groupby("source", sort=True)["status"]
        },
        "rejection_reasons": _rejection_reasons(manifest),
        "unreadable_reasons": _most_common(unreadable.str.replace(r"\d+", "…", regex=True)),
    }


def precision(manifest: Manifest, truth: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure how often accepted pseudo-labels are right, where the truth is known.

    Args:
        manifest: as read.
        truth: image_id and a nullable column an attribute; may know fewer or more faces than the manifest.

    Returns:
        For each attribute, and for 'joint', ``{"num": n, "precision": x}``: accepted labels with known truth, and the
        share of them that is right, in [0, 1], None without any. Joint are the faces with an accepted label and no
        rejected one; a face is right if all its attributes are.

    Raises:
        ValueError: if the truth says what is no value of an attribute.
    """
    places = pd.Index(truth["image_id"]).get_indexer(pd.Index(manifest.faces["image_id"]))
    true_codes = np.full(manifest.codes.shape, UNKNOWN)
    true_codes[places >= 0] = manifest.labels.encode(truth)[places[places >= 0]]
    right = manifest.codes == true_codes
    accepted = manifest.accepted
    result = {
        name: _share(right[:, position], accepted[:, position] & (true_codes[:, position] != UNKNOWN))
        for position, name in enumerate(manifest.labels.names)
    }
    whole = accepted.any(axis=1) & manifest.taught.all(axis=1) & (true_codes != UNKNOWN).all(axis=1)
    return result | {"joint": _share(right.all(axis=1), whole)}


def render_summary(manifest: Manifest) -> Group:
    """Draw `summarize` for a terminal."""
    summary = summarize(manifest)
    counts, identity = summary["counts"], manifest.identity
    rate = "none could be decided" if summary["acceptance_rate"] is None else f"{summary['acceptance_rate']:.1%}"
    headline = Text(
        f"{manifest.path}: round {identity.round_index} of run '{identity.run_name}', {manifest.targets} targets\n"
        f"{counts['candidates']:,} candidates = {counts['accepted']:,} accepted ({rate}) + "
        f"{counts['rejected']:,} rejected + {counts['unreadable']:,} unreadable\n"
        f"teacher {identity.teacher_digest[:12]}, selection {identity.selection_digest[:12]}, "
        f"faces {identity.faces_digest[:12]}"
    )
    values = new_table(
        "Accepted pseudo-labels by value", "attribute", "value", "faces", "mean", "min", "median", left=2
    )
    for name, attribute in summary["per_attribute"].items():
        for value, numbers in attribute["per_value"].items():
            confidences = [decimal(numbers[f"{what}_confidence"]) for what in ("mean", "min", "median")]
            add_row(values, name, value, f"{numbers['accepted']:,}", *confidences)
    attributes = new_table("By attribute", "attribute", "known", "of them derived", "accepted", "rejected")
    for name, numbers in summary["per_attribute"].items():
        add_row(attributes, name, *(f"{numbers[what]:,}" for what in ("known", "derived", "accepted", "rejected")))
    classes = new_table("Accepted by class", "most probable class", "faces")
    for name, number in summary["per_class"].items():
        add_row(classes, name, f"{number:,}")
    sources = new_table("By source", "source", *STATUSES)
    for name, numbers in summary["per_source"].items():
        add_row(sources, name, *(f"{numbers[what]:,}" for what in STATUSES))
    reasons = new_table("Why not", "reason", "number")
    for reason, number in {**summary["rejection_reasons"], **summary["unreadable_reasons"]}.items():
        add_row(reasons, reason, f"{number:,}")
    return Group(headline, attributes, values, classes, sources, reasons)


def render_rows(
    manifest: Manifest, *, status: str | None, attribute_values: dict[str, str], sort: str, limit: int
) -> Table:
    """Draw faces of a manifest, a row each.

    Args:
        manifest: as read.
        status: only faces of this status; None for all.
        attribute_values: only faces whose chosen values are these, ``{attribute: value}``.
        sort: 'confidence' (rising), '-confidence' (falling) or 'image_id'; faces without a confidence come last.
        limit: rows to show at most.

    Raises:
        ManifestError: if a status, an attribute, a value or an order is none.
    """
    column = sort.removeprefix("-")
    if column not in ("confidence", "image_id"):
        raise ManifestError(f"sort '{sort}': expected one of confidence, -confidence, image_id")
    rows = manifest.faces[_matching(manifest, status, attribute_values)]
    rows = rows.sort_values("image_id", kind="stable").sort_values(
        column, ascending=not sort.startswith("-"), kind="stable", na_position="last"
    )
    table = new_table(f"{min(limit, len(rows)):,} of {len(rows):,} faces", "image", "status", "confidence", left=2)
    table.add_column("labels and reasons", overflow="fold", ratio=1)
    for row in rows.head(limit).to_dict("records"):
        chosen = [_chosen(row, name) for name in manifest.labels.names]
        reasons = "\n".join(filter(None, chosen)) or row["reason"]
        add_row(table, row["image_id"], row["status"], decimal(row["confidence"]), reasons)
    return table


def render_face(manifest: Manifest, image_id: str) -> Group:
    """Draw everything that a manifest says of one face.

    Raises:
        ManifestError: if there is no such face; names close ones.
    """
    return Group(*[part for place in places_of_face(manifest, image_id) for part in _face_parts(manifest, place)])


def places_of_face(manifest: Manifest, image_id: str) -> list[int]:
    """Find the rows of a face: one, unless an unreadable file bears the same name.

    Raises:
        ManifestError: if there is no such face; names close ones.
    """
    image_ids = manifest.faces["image_id"]
    places = np.flatnonzero((image_ids == image_id).to_numpy(bool))
    if not len(places):
        alike = difflib.get_close_matches(image_id, _some_alike(image_ids, image_id), n=3, cutoff=0.5)
        hint = f"close: {', '.join(alike)}" if alike else "`ssl-pipeline manifest show` lists image ids"
        raise ManifestError(f"{manifest.path}: no face '{image_id}' among {len(image_ids):,}; {hint}")
    return [int(place) for place in places]


def export_csv(manifest: Manifest, path: Path) -> int:
    """Write all rows as CSV, class probabilities as columns ``p_<class>``; or, for ``.parquet``, as they are.

    A text that a spreadsheet would take for a formula (it begins with = + - @ or a tab) gets a leading '.

    Args:
        manifest: as read.
        path: ends with .csv or .parquet; written atomically.

    Returns:
        The number of rows.

    Raises:
        ManifestError: if the name ends otherwise, or is a folder's.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ManifestError(f"{path}: expected a name that ends with .csv or .parquet")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; give a file name inside it")
    if path.suffix == ".parquet":
        write_manifest(path, manifest.table)
        return len(manifest.faces)
    columns = [f"p_{name}" for name in manifest.labels.class_names]
    with atomic_path(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        for start in range(0, max(len(manifest.faces), 1), _CSV_ROWS_AT_ONCE):
            part = slice(start, start + _CSV_ROWS_AT_ONCE)
            texts = manifest.faces.iloc[part].apply(without_formulas)
            probabilities = pd.DataFrame(manifest.probabilities[part], columns=columns, index=texts.index)
            rows = pd.concat([texts, probabilities], axis=1)
            rows.to_csv(file, index=False, header=start == 0, lineterminator="\n")
    return len(manifest.faces)


def _status_counts(statuses: "pd.Series[Any]") -> dict[str, int]:
    counts = statuses.value_counts()
    return {"candidates": len(statuses)} | {name: int(counts.get(name, 0)) for name in STATUSES}


def _attribute_counts(manifest: Manifest, name: str) -> dict[str, Any]:
    faces = manifest.faces
    statuses = faces[f"{name}_status"]
    confidences = faces.loc[statuses == "accepted", f"{name}_confidence"].groupby(
        faces.loc[statuses == "accepted", name], observed=False
    )
    per_value = {
        str(value): {
            "accepted": len(of_value),
            "mean_confidence": _number(of_value.mean()),
            "min_confidence": _number(of_value.min()),
            "median_confidence": _number(of_value.median()),
        }
        for value, of_value in confidences
    }
    counts = {what: int((statuses == what).sum()) for what in ("known", "accepted", "rejected")}
    counts["derived"] = int((faces[f"{name}_label_source"] == "derived").sum())
    return {**counts, "per_value": per_value}


def _rejection_reasons(manifest: Manifest) -> dict[str, int]:
    """Group the reasons for which attributes were rejected: ``age: confidence < 0.95``, most frequent first."""
    reasons = [pd.Series([], dtype="str")]
    for name in manifest.labels.names:
        why = manifest.faces.loc[manifest.faces[f"{name}_status"] == "rejected", f"{name}_reason"]
        reasons.append(f"{name}: " + why.str.replace(_MEASURED, r"\1", regex=True))
    return _most_common(pd.concat(reasons))


def _most_common(texts: "pd.Series[Any]") -> dict[str, int]:
    """Count texts, the most frequent first, then by name."""
    counts = {str(text): int(number) for text, number in texts.value_counts().items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _share(right: BoolArray, judged: BoolArray) -> dict[str, Any]:
    num = int(judged.sum())
    return {"num": num, "precision": float(right[judged].mean()) if num else None}


def _matching(manifest: Manifest, status: str | None, attribute_values: Mapping[str, str]) -> BoolArray:
    """Mark the rows of a status and of chosen values, bool [N]."""
    labels = manifest.labels.to_dict()
    matches = np.ones(len(manifest.faces), dtype=bool)
    if status is not None:
        if status not in STATUSES:
            raise ManifestError(f"status '{status}': expected one of {', '.join(STATUSES)}")
        matches &= (manifest.faces["status"] == status).to_numpy(bool)
    for name, value in attribute_values.items():
        if name not in labels:
            raise ManifestError(f"'{name}' is no attribute of this manifest; it has {', '.join(labels)}")
        if value not in labels[name]:
            raise ManifestError(f"'{value}' is no value of '{name}'; it has {', '.join(labels[name])}")
        matches &= (manifest.faces[name] == value).to_numpy(bool)
    return matches


def _some_alike(image_ids: "pd.Series[Any]", image_id: str) -> list[str]:
    """Image ids worth comparing: those that contain the last part of the one asked for, else the first 20,000."""
    last = re.split(r"[:/]", image_id)[-1]
    containing = image_ids[image_ids.str.contains(last, case=False, regex=False)] if last else image_ids[:0]
    return [str(text) for text in (containing if len(containing) else image_ids)[:20_000]]


def _face_parts(manifest: Manifest, place: int) -> list[Table]:
    """Draw one row: what identifies it, its attributes, its classes by probability."""
    row: dict[Any, Any] = manifest.faces.iloc[place].to_dict()
    about = new_table(str(row["image_id"]), "column", "value", left=2)
    for name in manifest_schema(LabelSpace(())).names:
        if name in row:
            add_row(about, name, decimal(row[name]))
    if row["status"] == "unreadable":
        return [about]
    attributes = new_table("Attributes", "attribute", "value", "confidence", "status", "label source", "reason", left=2)
    for name in manifest.labels.names:
        cells = [row[f"{name}_{what}"] for what in ("confidence", "status", "label_source", "reason")]
        add_row(attributes, name, row[name], *(decimal(cell) for cell in cells))
    classes = new_table("Class probabilities", "class", "probability", "")
    probabilities = manifest.probabilities[place]
    order = np.argsort(-probabilities, kind="stable")
    for class_id in order[:_CLASSES_SHOWN].tolist():
        share = float(probabilities[class_id])
        add_row(classes, manifest.labels.class_name(class_id), decimal(share), "█" * round(_BAR_WIDTH * share))
    if len(order) > _CLASSES_SHOWN:
        rest = float(probabilities[order[_CLASSES_SHOWN:]].sum())
        add_row(classes, f"… and {len(order) - _CLASSES_SHOWN:,} more", decimal(rest), "")
    classes.columns[2].justify = "left"
    return [about, attributes, classes]


def _chosen(row: Mapping[Any, Any], name: str) -> str:
    """A face's value of an attribute, how decided and why: ``gender: female accepted, confidence 0.97 >= 0.95``."""
    if pd.isna(row[name]):
        return ""
    return f"{name}: {row[name]} {row[f'{name}_status']}, {row[f'{name}_reason']}"


def without_formulas(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Put a ' before texts that a spreadsheet would take for formulas; numbers stay as they are."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    texts = column.astype("str")
    return texts.mask(texts.str.match(_FORMULA).fillna(False).astype(bool), "'" + texts)


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """Make a table whose first `left` columns are texts, the others numbers."""
    table = Table(title=Text(title), title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    return table


def add_row(table: Table, *cells: object) -> None:
    """Add a row; nothing in it is taken for markup."""
    table.add_row(*(Text("" if cell is None or cell is pd.NA else str(cell)) for cell in cells))


def decimal(value: object) -> str:
    """Write a fraction to 3 decimals, rounded down as in reasons; what is missing as nothing, else what it is."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{math.floor(1000 * float(value) + 1e-4) / 1000:.3f}"
    return "" if value is None or value is pd.NA else str(value)


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), 7)
