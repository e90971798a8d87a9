"""Changes between two manifests of one label space: pseudo-labels gained, lost and changed."""

from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray
from ssl_pipeline.pseudo_labels.manifest import Manifest


def difference(before: Manifest, after: Manifest, *, num_examples: int = 3) -> dict[str, Any]:
    """Compare the accepted pseudo-labels of two manifests face by face.

    Args:
        before: the earlier manifest.
        after: a later one over the same labels, e.g. of another round, strategy or teacher.
        num_examples: examples per kind of change, the first by image id.

    Returns:
        JSON-able. ``num_faces``: readable faces in before, after and both. ``per_attribute``: the counts ``kept`` (same
        value accepted in both), ``changed`` (different values accepted), ``gained`` and ``lost`` (accepted in one, even
        if the face is not in the other), and ``examples``, one line each.

    Raises:
        ManifestError: if the labels differ.
    """
    if before.labels != after.labels:
        raise ManifestError(
            f"manifests of different labels cannot be compared: {before.path} has {before.labels.to_dict()}, "
            f"{after.path} has {after.labels.to_dict()}"
        )
    ids = [pd.Index(manifest.faces.loc[_readable(manifest), "image_id"]) for manifest in (before, after)]
    all_ids = ids[0].union(ids[1])
    codes_before, codes_after = _accepted_codes(before, all_ids), _accepted_codes(after, all_ids)
    per_attribute: dict[str, dict[str, Any]] = {}
    for position, attribute in enumerate(before.labels.attributes):
        old, new = codes_before[:, position], codes_after[:, position]
        kinds: dict[str, BoolArray] = {
            "kept": (old != UNKNOWN) & (old == new),
            "changed": (old != UNKNOWN) & (new != UNKNOWN) & (old != new),
            "gained": (old == UNKNOWN) & (new != UNKNOWN),
            "lost": (old != UNKNOWN) & (new == UNKNOWN),
        }
        examples = [
            f"{all_ids[face]}: {_change(kind, attribute.values, int(old[face]), int(new[face]))}"
            for kind in ("changed", "gained", "lost")
            for face in np.flatnonzero(kinds[kind])[:num_examples].tolist()
        ]
        counts = {kind: int(marked.sum()) for kind, marked in kinds.items()}
        per_attribute[attribute.name] = {**counts, "examples": examples}
    num_faces = {"before": len(ids[0]), "after": len(ids[1]), "both": len(ids[0].intersection(ids[1]))}
    return {"num_faces": num_faces, "per_attribute": per_attribute}


def _readable(manifest: Manifest) -> BoolArray:
    return (manifest.faces["status"] != "unreadable").to_numpy(bool)


def _accepted_codes(manifest: Manifest, image_ids: "pd.Index[str]") -> IntArray:
    """Return the accepted values, int [N, A]; -1 where none is accepted or the face is absent."""
    readable = _readable(manifest)
    accepted = np.where(manifest.accepted, manifest.codes, UNKNOWN)[readable]
    positions = pd.Index(manifest.faces.loc[readable, "image_id"]).get_indexer(image_ids)
    codes = np.full((len(image_ids), accepted.shape[1]), UNKNOWN, dtype=np.int64)
    codes[positions >= 0] = accepted[positions[positions >= 0]]
    return codes


def _change(kind: str, values: tuple[str, ...], old: int, new: int) -> str:
    match kind:
        case "changed":
            return f"changed from {values[old]} to {values[new]}"
        case "gained":
            return f"gained {values[new]}"
        case _:
            return f"lost {values[old]}"
