"""Changes between two manifests of one label space: pseudo-labels gained, lost and changed."""

from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.summary import codes_of


def difference(
    before: Manifest, after: Manifest, *, truth: pd.DataFrame | None = None, num_examples: int = 3
) -> dict[str, Any]:
    """Compare the pseudo-labels of two manifests face by face.

    Args:
        before: the earlier manifest.
        after: a later one over the same labels, e.g. of another round, strategy or teacher.
        truth: true labels that the run hid, see `summary.precision`; None counts no right ones.
        num_examples: examples per kind of change, the first by image id.

    Returns:
        JSON-able. ``num_faces``: readable faces in before, after and both. ``per_attribute``: the counts ``kept`` (same
        value accepted in both), ``changed`` (different values accepted), ``gained`` and ``lost`` (accepted in one, even
        if the face is not in the other), ``other_value`` (different values guessed, accepted or not), ``examples``, one
        line each, and ``right``: of each kind but kept, the ``num`` labels whose truth is known and how many of them are
        right ``before`` and ``after``; None without `truth`.

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
    accepted = [_codes(manifest, manifest.accepted, all_ids) for manifest in (before, after)]
    guessed = [
        _codes(manifest, manifest.accepted | ~manifest.known_or_accepted, all_ids) for manifest in (before, after)
    ]
    true_codes = None if truth is None else codes_of(truth, all_ids, before.labels)
    per_attribute: dict[str, dict[str, Any]] = {}
    for position, attribute in enumerate(before.labels.attributes):
        old, new = (codes[:, position] for codes in accepted)
        kinds = _kinds(old, new)
        examples = [
            f"{all_ids[face]}: {_change(kind, attribute.values, int(old[face]), int(new[face]))}"
            for kind in ("changed", "gained", "lost")
            for face in np.flatnonzero(kinds[kind])[:num_examples].tolist()
        ]
        old_guess, new_guess = (codes[:, position] for codes in guessed)
        pairs = {kind: (marked, old, new) for kind, marked in kinds.items()}
        pairs["other_value"] = (_kinds(old_guess, new_guess)["changed"], old_guess, new_guess)
        counts = {kind: int(marked.sum()) for kind, (marked, _, _) in pairs.items()}
        right = (
            None
            if true_codes is None
            else {kind: _right(*pair, true_codes[:, position]) for kind, pair in pairs.items() if kind != "kept"}
        )
        per_attribute[attribute.name] = {**counts, "right": right, "examples": examples}
    num_faces = {"before": len(ids[0]), "after": len(ids[1]), "both": len(ids[0].intersection(ids[1]))}
    return {"num_faces": num_faces, "per_attribute": per_attribute}


def _kinds(old: IntArray, new: IntArray) -> dict[str, BoolArray]:
    """Mark the faces of each kind of change, bool [N]; -1 is no label."""
    return {
        "kept": (old != UNKNOWN) & (old == new),
        "changed": (old != UNKNOWN) & (new != UNKNOWN) & (old != new),
        "gained": (old == UNKNOWN) & (new != UNKNOWN),
        "lost": (old != UNKNOWN) & (new == UNKNOWN),
    }


def _right(marked: BoolArray, old: IntArray, new: IntArray, true: IntArray) -> dict[str, int]:
    known = marked & (true != UNKNOWN)
    before, after = (int((known & (codes == true)).sum()) for codes in (old, new))
    return {"num": int(known.sum()), "before": before, "after": after}


def _readable(manifest: Manifest) -> BoolArray:
    return (manifest.faces["status"] != "unreadable").to_numpy(bool)


def _codes(manifest: Manifest, marked: BoolArray, image_ids: "pd.Index[str]") -> IntArray:
    """Return the marked values, int [N, A]; -1 where none is marked or the face is absent."""
    readable = _readable(manifest)
    own = np.where(marked, manifest.codes, UNKNOWN)[readable]
    positions = pd.Index(manifest.faces.loc[readable, "image_id"]).get_indexer(image_ids)
    codes = np.full((len(image_ids), own.shape[1]), UNKNOWN, dtype=np.int64)
    codes[positions >= 0] = own[positions[positions >= 0]]
    return codes


def _change(kind: str, values: tuple[str, ...], old: int, new: int) -> str:
    match kind:
        case "changed":
            return f"changed from {values[old]} to {values[new]}"
        case "gained":
            return f"gained {values[new]}"
        case _:
            return f"lost {values[old]}"
