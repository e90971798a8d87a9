"""Counts over a manifest, its rows by filter, and the precision of its accepted labels.

Shapes: N rows, A attributes.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest

STATUSES = ("accepted", "rejected", "unreadable")
_SORT_ORDERS = ("confidence", "-confidence", "image_id")
_MEASURED = re.compile(r"^((?:class )?confidence|rank|weight|deviation) [\d.]+")


def summarize(manifest: Manifest) -> dict[str, Any]:
    """Count accepted, rejected and unreadable faces, by attribute, value, class, source and reason.

    Returns:
        JSON-able. ``identity``, ``targets`` and ``selection`` (settings, thresholds, faults, shift) as in the manifest;
        ``counts``: candidates = accepted + rejected + unreadable; ``acceptance_rate``: the share of faces with an accepted
        pseudo-label among the readable ones with an unknown attribute, as the guards count, None without any; ``per_attribute``: numbers of known, derived (a subset of known), accepted and rejected labels,
        and ``per_value`` with the accepted ones and their mean, min and median confidence; ``per_class``: accepted
        faces per most probable class; ``per_source``: counts; ``rejection_reasons`` of attributes, without the measured
        number; ``unreadable_reasons``.
    """
    faces = manifest.faces
    counts = _status_counts(faces["status"])
    statuses = faces[[f"{name}_status" for name in manifest.labels.names]]
    num_guessed = int(((statuses != "known").any(axis=1) & (faces["status"] != "unreadable")).sum())
    accepted = faces[faces["status"] == "accepted"]
    classes = accepted["class_name"].value_counts()
    unreadable = faces.loc[faces["status"] == "unreadable", "reason"]
    return {
        "identity": asdict(manifest.identity),
        "targets": manifest.targets,
        "selection": dict(manifest.selection),
        "counts": counts,
        "acceptance_rate": int(manifest.accepted.any(axis=1).sum()) / num_guessed if num_guessed else None,
        "per_attribute": {name: _attribute_counts(manifest, name) for name in manifest.labels.names},
        "per_class": {name: int(classes.get(name, 0)) for name in manifest.labels.class_names},
        "per_source": {
            str(source): _status_counts(rows) for source, rows in faces.groupby("source", sort=True)["status"]
        },
        "rejection_reasons": _rejection_reasons(manifest),
        "unreadable_reasons": _most_common(_without_numbers(unreadable)),
    }


def precision(manifest: Manifest, truth: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Compute the share of accepted pseudo-labels that are correct, where the truth is known.

    Args:
        manifest: the manifest.
        truth: image_id and one nullable column per attribute; its faces need not be those of the manifest.

    Returns:
        Per attribute and for 'joint': ``{"num": n, "precision": x}``, where n counts accepted labels with known truth
        and x is their correct share in [0, 1], None if n is 0. Joint counts faces with an accepted and no rejected
        label; a face is correct if all its attributes are.

    Raises:
        ValueError: if the truth holds an undefined value.
    """
    true_codes = codes_of(truth, pd.Index(manifest.faces["image_id"]), manifest.labels)
    correct = manifest.codes == true_codes
    accepted = manifest.accepted
    result = {
        name: _share(correct[:, position], accepted[:, position] & (true_codes[:, position] != UNKNOWN))
        for position, name in enumerate(manifest.labels.names)
    }
    complete = accepted.any(axis=1) & manifest.known_or_accepted.all(axis=1) & (true_codes != UNKNOWN).all(axis=1)
    return result | {"joint": _share(correct.all(axis=1), complete)}


def codes_of(truth: pd.DataFrame, image_ids: "pd.Index[str]", labels: LabelSpace) -> IntArray:
    """Return the true value codes of faces, int [N, A], -1 unknown; `truth` as for `precision`."""
    positions = pd.Index(truth["image_id"]).get_indexer(image_ids)
    codes = np.full((len(image_ids), len(labels.attributes)), UNKNOWN, dtype=np.int64)
    codes[positions >= 0] = labels.encode(truth)[positions[positions >= 0]]
    return codes


def filter_faces(
    manifest: Manifest,
    *,
    status: str | None,
    attribute_values: Mapping[str, str],
    sort: str,
    source: str | None = None,
    reason: str | None = None,
) -> pd.DataFrame:
    """Return the faces of a status, of chosen values, of a source and with a reason, sorted.

    Args:
        manifest: the manifest.
        status: accepted, rejected or unreadable; None for all.
        attribute_values: required values, ``{attribute: value}``.
        source: name of a source; None for all.
        reason: part of the face's reason or of an attribute's, in upper or lower case, without the measured number (as
            the summary counts reasons) or with it; None for all.
        sort: 'confidence' (ascending), '-confidence' (descending) or 'image_id'; missing confidences come last.

    Raises:
        ManifestError: if the status, an attribute, a value, the source or the order is undefined.
    """
    if sort not in _SORT_ORDERS:
        raise ManifestError(f"sort '{sort}': expected one of {', '.join(_SORT_ORDERS)}")
    matches = _matches(manifest, status, attribute_values)
    if source is not None:
        matches &= _is_of_source(manifest.faces, source)
    if reason is not None:
        matches &= _has_reason(manifest, reason)
    rows = manifest.faces[matches]
    return rows.sort_values("image_id", kind="stable").sort_values(
        sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable", na_position="last"
    )


def _status_counts(statuses: "pd.Series[Any]") -> dict[str, int]:
    counts = statuses.value_counts()
    return {"candidates": len(statuses)} | {name: int(counts.get(name, 0)) for name in STATUSES}


def _attribute_counts(manifest: Manifest, name: str) -> dict[str, Any]:
    faces = manifest.faces
    statuses = faces[f"{name}_status"]
    accepted = faces[statuses == "accepted"]
    per_value = {
        str(value): {
            "accepted": len(confidences),
            "mean_confidence": _number(confidences.mean()),
            "min_confidence": _number(confidences.min()),
            "median_confidence": _number(confidences.median()),
        }
        for value, confidences in accepted.groupby(name, observed=False)[f"{name}_confidence"]
    }
    counts = {status: int((statuses == status).sum()) for status in ("known", "accepted", "rejected")}
    counts["derived"] = int((faces[f"{name}_label_source"] == "derived").sum())
    return {**counts, "per_value": per_value}


def _rejection_reasons(manifest: Manifest) -> dict[str, int]:
    """Count the reasons of rejected attributes without the measured number, e.g. ``age: confidence < 0.95``."""
    reasons = [pd.Series([], dtype="str")]
    for name in manifest.labels.names:
        rejected = manifest.faces.loc[manifest.faces[f"{name}_status"] == "rejected", f"{name}_reason"]
        reasons.append(f"{name}: " + rejected.str.replace(_MEASURED, r"\1", regex=True))
    return _most_common(pd.concat(reasons))


def _most_common(texts: "pd.Series[Any]") -> dict[str, int]:
    """Count texts, the most frequent first, then by name."""
    counts = {str(text): int(number) for text, number in texts.value_counts().items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _share(correct: BoolArray, counted: BoolArray) -> dict[str, Any]:
    num = int(counted.sum())
    return {"num": num, "precision": float(correct[counted].mean()) if num else None}


def _matches(manifest: Manifest, status: str | None, attribute_values: Mapping[str, str]) -> BoolArray:
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


def without_measured(reason: str) -> str:
    """Return an attribute's reason without the measured number, e.g. ``confidence < 0.95``."""
    return _MEASURED.sub(r"\1", reason)


def _without_numbers(texts: "pd.Series[Any]") -> "pd.Series[Any]":
    return texts.str.replace(r"\d+", "…", regex=True)


def _is_of_source(faces: pd.DataFrame, source: str) -> BoolArray:
    sources = sorted(set(faces["source"].astype(str)))
    if source not in sources:
        raise ManifestError(f"'{source}' is no source of this manifest; it has {', '.join(sources)}")
    return (faces["source"] == source).to_numpy(bool)


def _has_reason(manifest: Manifest, reason: str) -> BoolArray:
    """Mark the rows where a reason contains the text, as written or without the measured number, bool [N]."""
    found = np.zeros(len(manifest.faces), dtype=bool)
    for prefix, column in [("", "reason"), *((f"{name}: ", f"{name}_reason") for name in manifest.labels.names)]:
        written = prefix + manifest.faces[column].fillna("").astype(str)
        shortened = prefix + manifest.faces[column].fillna("").astype(str).str.replace(_MEASURED, r"\1", regex=True)
        for texts in (written, shortened, _without_numbers(written)):
            found |= texts.str.contains(reason, case=False, regex=False).to_numpy(bool)
    return found


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), 7)
