"""Single faces of a manifest: all recorded values, and the thresholds behind each status."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest import AnyManifest, Manifest, read_face
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema
from ssl_pipeline.runs.answers import Answer, verdicts


def describe_face(file: AnyManifest, image_id: str) -> list[dict[str, Any]]:
    """Collect all recorded values of a face.

    Returns:
        One entry per row of the face (two if an unreadable file has the same id): ``columns``, the values that do not
        belong to an attribute; ``attributes``, name → value, confidence, status, label_source and reason; and
        ``class_probabilities``, class name → probability, highest first. The last two are empty if unreadable.

    Raises:
        ManifestError: if there is no such face; the message names similar ids.
    """
    manifest = read_face(file, image_id)
    shared = manifest_schema(LabelSpace(())).names
    descriptions = []
    for position in range(len(manifest.faces)):
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


def explain(file: AnyManifest, image_id: str, answers: Iterable[Answer] = ()) -> list[dict[str, Any]]:
    """Collect the numbers that determined each attribute's status of a face.

    Returns:
        One JSON-able entry per row of the face (two if an unreadable file has the same id): image_id, status, reason,
        weight; ``known``, attribute → known value; ``attributes``, each with value, confidence, status, weight, reason
        and ``threshold``, the applied row of the manifest's thresholds, None without one; ``answers``, attribute → what
        people answered, of the given ones.

    Raises:
        ManifestError: if there is no such face; the message names similar ids.
    """
    manifest, explanations, said = read_face(file, image_id), [], verdicts(answers)
    for position in range(len(manifest.faces)):
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
