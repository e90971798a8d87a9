"""Changes between two manifests of one label space: pseudo-labels gained, lost and changed."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray
from ssl_pipeline.pseudo_labels.manifest import AnyManifest, Manifest
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema
from ssl_pipeline.pseudo_labels.summary import TrueCodes

_KINDS = ("kept", "changed", "gained", "lost", "other_value")
_EXAMPLES = ("changed", "gained", "lost")


def difference(
    before: AnyManifest, after: AnyManifest, *, truth: pd.DataFrame | None = None, num_examples: int = 3
) -> dict[str, Any]:
    """Compare the pseudo-labels of two manifests face by face; both are read side by side, batch by batch.

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
        ManifestError: if the labels differ, or a file is not sorted by image id.
    """
    if before.labels != after.labels:
        raise ManifestError(
            f"manifests of different labels cannot be compared: {before.path} has {before.labels.to_dict()}, "
            f"{after.path} has {after.labels.to_dict()}"
        )
    num_faces: Counter[str] = Counter(before=0, after=0, both=0)
    counts: dict[str, Counter[str]] = {name: Counter() for name in before.labels.names}
    right: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    examples: dict[tuple[str, str], list[str]] = defaultdict(list)
    true_codes = None if truth is None else TrueCodes(truth, before.labels)
    for old, new in _side_by_side(before, after):
        changes = _Changes(old, new, true_codes)
        num_faces.update(changes.num_faces)
        for position, attribute in enumerate(before.labels.attributes):
            for kind, (marked, values, new_values) in changes.of_attribute(position).items():
                counts[attribute.name][kind] += int(marked.sum())
                if changes.true_codes is not None and kind != "kept":
                    right[attribute.name, kind].update(
                        _right(marked, values, new_values, changes.true_codes[:, position])
                    )
                if kind in _EXAMPLES:
                    shown = examples[attribute.name, kind]
                    for face in np.flatnonzero(marked)[: num_examples - len(shown)].tolist():
                        change = _change(kind, attribute.values, int(values[face]), int(new_values[face]))
                        shown.append(f"{changes.image_ids[face]}: {change}")
    per_attribute = {
        name: {
            **{kind: number[kind] for kind in _KINDS},
            "right": None if truth is None else {kind: _numbers(right[name, kind]) for kind in _KINDS[1:]},
            "examples": [example for kind in _EXAMPLES for example in examples[name, kind]],
        }
        for name, number in counts.items()
    }
    return {"num_faces": dict(num_faces), "per_attribute": per_attribute}


class _Changes:
    """The readable faces of two parts of manifests that end at the same image id."""

    def __init__(self, old: Manifest, new: Manifest, true_codes: TrueCodes | None) -> None:
        ids = [pd.Index(part.faces.loc[_readable(part), "image_id"]) for part in (old, new)]
        self.image_ids = ids[0].union(ids[1])
        both = ids[0].intersection(ids[1])
        self.num_faces = {"before": len(ids[0]), "after": len(ids[1]), "both": len(both)}
        self.true_codes = None if true_codes is None else true_codes.of(self.image_ids)
        self._accepted = [_codes(part, part.accepted, self.image_ids) for part in (old, new)]
        self._guessed = [_codes(part, part.accepted | ~part.known_or_accepted, self.image_ids) for part in (old, new)]

    def of_attribute(self, position: int) -> dict[str, tuple[BoolArray, IntArray, IntArray]]:
        """Return for each kind of change the faces, bool [N], and the values before and after, int [N]."""
        old, new = (codes[:, position] for codes in self._accepted)
        old_guess, new_guess = (codes[:, position] for codes in self._guessed)
        changes = {kind: (marked, old, new) for kind, marked in _kinds(old, new).items()}
        return {**changes, "other_value": (_kinds(old_guess, new_guess)["changed"], old_guess, new_guess)}


def _side_by_side(before: AnyManifest, after: AnyManifest) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield parts of both manifests that end at the same image id."""
    manifests = (before, after)
    columns = ["image_id", "status", *(f"{name}{end}" for name in before.labels.names for end in ("", "_status"))]
    streams = [_sorted_tables(manifest, columns) for manifest in manifests]
    pending = [next(stream, None) for stream in streams]
    while any(table is not None for table in pending):
        # each part ends where the first of the two batches does
        end = min(table["image_id"][-1].as_py() for table in pending if table is not None)
        parts = []
        for index, table in enumerate(pending):
            if table is None:
                parts.append(_empty(manifests[index], columns))
                continue
            num = int(pc.sum(pc.less_equal(table["image_id"], end)).as_py() or 0)
            parts.append(Manifest.of(manifests[index], table.slice(0, num)))
            pending[index] = table.slice(num) if num < len(table) else next(streams[index], None)
        yield parts[0], parts[1]


def _sorted_tables(manifest: AnyManifest, columns: list[str]) -> Iterator[pa.Table]:
    last = ""
    for table in manifest.tables(columns):
        if not len(table):
            continue
        image_ids = table["image_id"].combine_chunks()
        is_sorted = pc.all(pc.less_equal(image_ids[:-1], image_ids[1:])).as_py() is not False
        if not is_sorted or image_ids[0].as_py() < last:
            raise ManifestError(f"{manifest.path}: its rows are not sorted by image_id; sort them to compare manifests")
        last = image_ids[-1].as_py()
        yield table


def _empty(manifest: AnyManifest, columns: list[str]) -> Manifest:
    schema = manifest_schema(manifest.labels)
    return Manifest.of(manifest, pa.schema([schema.field(name) for name in columns]).empty_table())


def _numbers(right: Counter[str]) -> dict[str, int]:
    return {name: right[name] for name in ("num", "before", "after")}


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
