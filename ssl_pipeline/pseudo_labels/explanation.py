"""Single faces of a manifest: all recorded values, and the thresholds behind each status."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema
from ssl_pipeline.runs.answers import Answer, verdicts

_MAX_COMPARED = 20_000
"""Image ids that are searched for ones similar to a mistyped id."""


def describe_face(manifest: Manifest, image_id: str) -> list[dict[str, Any]]:
    """Collect all recorded values of a face.

    Returns:
        One entry per row of the face (two if an unreadable file has the same id): ``columns``, the values that do not
        belong to an attribute; ``attributes``, name → value, confidence, status, label_source and reason; and
        ``class_probabilities``, class name → probability, highest first. The last two are empty if unreadable.

    Raises:
        ManifestError: if there is no such face; the message names similar ids.
    """
    shared = manifest_schema(LabelSpace(())).names
    descriptions = []
    for position in _positions(manifest, image_id):
        row: dict[Any, Any] = manifest.faces.iloc[position].to_dict()
        attributes, class_probabilities = {}, {}
        if row["status"] != "unreadable":
            for name in manifest.labels.names:
                details = {
                    field: row[f"{name}_{field}"] for field in ("confidence", "status", "label_source", "reason")
                }
                attributes[name] = {"value": row[name], **details}
            probabilities = manifest.probabilities[position]
            order = np.argsort(-probabilities, kind="stable").tolist()
            class_probabilities = {manifest.labels.class_name(index): float(probabilities[index]) for index in order}
        descriptions.append(
            {
                "columns": {name: row[name] for name in shared if name in row},
                "attributes": attributes,
                "class_probabilities": class_probabilities,
            }
        )
    return descriptions


def explain(manifest: Manifest, image_id: str, answers: Iterable[Answer] = ()) -> list[dict[str, Any]]:
    """Collect the numbers that determined each attribute's status of a face.

    Returns:
        One JSON-able entry per row of the face (two if an unreadable file has the same id): image_id, status, reason,
        weight; ``known``, attribute → known value; ``attributes``, each with value, confidence, status, weight, reason
        and ``threshold``, the applied row of the manifest's thresholds, None without one; ``answers``, attribute → what
        people answered, of the given ones.

    Raises:
        ManifestError: if there is no such face; the message names similar ids.
    """
    explanations, said = [], verdicts(answers)
    for position in _positions(manifest, image_id):
        face: dict[Any, Any] = manifest.faces.iloc[position].to_dict()
        selected = [name for name in manifest.labels.names if isinstance(face[f"{name}_status"], str)]
        known = {name: str(face[name]) for name in selected if face[f"{name}_status"] == "known"}
        attributes = {}
        for name in selected:
            details = {field: face[f"{name}_{field}"] for field in ("confidence", "status", "weight", "reason")}
            threshold = None if name in known else _applied_threshold(manifest, face, name, known)
            attributes[name] = {"value": str(face[name]), **details, "threshold": threshold}
        shared = {name: face[name] for name in ("image_id", "status", "reason", "weight")}
        words = {name: said[label].words for name in selected if (label := (face["content_hash"], name)) in said}
        explanations.append({**shared, "known": known, "attributes": attributes, "answers": words})
    return explanations


def _applied_threshold(
    manifest: Manifest, face: Mapping[Any, Any], name: str, known: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the threshold row for the face's value, or its class, given which attributes are known."""
    per_class = manifest.selection["settings"].get("per") == "class"
    key = ("class", face["class_name"]) if per_class else (name, face[name])
    for row in manifest.selection["thresholds"]:
        if (row["attribute"], row["value"]) == key and row["known_attributes"] in (None, ", ".join(known)):
            return dict(row)
    return None


def _positions(manifest: Manifest, image_id: str) -> list[int]:
    """Return the positions of a face's rows."""
    image_ids = manifest.faces["image_id"]
    positions = np.flatnonzero((image_ids == image_id).to_numpy(bool))
    if not len(positions):
        similar = difflib.get_close_matches(image_id, _comparable(image_ids, image_id), n=3, cutoff=0.5)
        hint = f"similar: {', '.join(similar)}" if similar else "`ssl-pipeline manifest show` lists image ids"
        raise ManifestError(f"{manifest.path}: no face '{image_id}' among {len(image_ids):,}; {hint}")
    return [int(position) for position in positions]


def _comparable(image_ids: "pd.Series[Any]", image_id: str) -> list[str]:
    """Return the image ids that contain the last part of `image_id`; without any, the first ones."""
    last = re.split(r"[:/]", image_id)[-1]
    containing = image_ids[image_ids.str.contains(last, case=False, regex=False)] if last else image_ids[:0]
    return [str(text) for text in (containing if len(containing) else image_ids)[:_MAX_COMPARED]]
