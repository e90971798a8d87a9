"""Counts over a manifest, its rows by filter, and the precision of its accepted labels.

Shapes: N rows, A attributes.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.face_filter import STATUSES, FaceFilter, equals, rows_with, without_numbers
from ssl_pipeline.pseudo_labels.manifest_file import ManifestFile
from ssl_pipeline.pseudo_labels.summary_counts import AttributeCounts, count_texts

if TYPE_CHECKING:
    import pandas as pd

    from ssl_pipeline.pseudo_labels.manifest import Manifest

SORT_ORDERS = ("confidence", "-confidence", "image_id")


def summarize(manifest: "Manifest | ManifestFile") -> dict[str, Any]:
    """Count accepted, rejected and unreadable faces, by attribute, value, class, source and reason.

    The rows are read twice, batch by batch; the memory does not depend on their number.

    Returns:
        JSON-able. ``identity``, ``targets`` and ``selection`` (settings, thresholds, faults, shift) as in the manifest;
        ``counts``: candidates = accepted + rejected + unreadable; ``acceptance_rate``: the share of faces with an accepted
        pseudo-label among the readable ones with an unknown attribute, as the guards count, None without any; ``per_attribute``: numbers of known, derived (a subset of known), accepted and rejected labels,
        and ``per_value`` with the accepted ones and their mean, min and median confidence; ``per_class``: accepted
        faces per most probable class; ``per_source``: counts; ``rejection_reasons`` of attributes, without the measured
        number; ``unreadable_reasons``.
    """
    attributes = [AttributeCounts(attribute) for attribute in manifest.labels.attributes]
    shared = ["status", "source", "class_name", "reason"]
    columns = [*shared, *(name for attribute in attributes for name in attribute.columns)]
    per_source: dict[str, Counter[str]] = defaultdict(Counter)
    statuses, classes, unreadable, num_open, num_guessed = Counter[str](), Counter[str](), Counter[str](), 0, 0
    for table in manifest.tables(columns):
        statuses += count_texts(table["status"])
        for status in STATUSES:
            rows = table.select(shared).filter(rows_with(table["status"], status))
            for source, number in count_texts(rows["source"]).items():
                per_source[source][status] += number
            if status == "accepted":
                classes += count_texts(rows["class_name"])
            if status == "unreadable":
                for reason, number in count_texts(rows["reason"]).items():
                    unreadable[without_numbers(reason)] += number
        is_guessed, is_accepted = _guessed(table, manifest.labels)
        num_open, num_guessed = num_open + int(is_guessed.sum()), num_guessed + int(is_accepted.sum())
        for attribute in attributes:
            attribute.add(table)
    for table in manifest.tables([name for attribute in attributes for name in attribute.columns[:4]]):
        for attribute in attributes:
            attribute.add_median(table)
    return {
        "identity": asdict(manifest.identity),
        "targets": manifest.targets,
        "selection": dict(manifest.selection),
        "counts": _status_counts(statuses),
        "acceptance_rate": num_guessed / num_open if num_open else None,
        "per_attribute": {attribute.attribute.name: attribute.result() for attribute in attributes},
        "per_class": {name: classes[name] for name in manifest.labels.class_names},
        "per_source": {source: _status_counts(per_source[source]) for source in sorted(per_source)},
        "rejection_reasons": _most_common(sum((each.rejection_reasons for each in attributes), Counter())),
        "unreadable_reasons": _most_common(unreadable),
    }


def _guessed(table: pa.Table, labels: LabelSpace) -> tuple[BoolArray, BoolArray]:
    """Mark the readable faces with an unknown attribute, and those with an accepted pseudo-label, bool [N] each."""
    is_open, is_accepted = (np.zeros(len(table), bool) for _ in range(2))
    for name in labels.names:
        is_open |= ~equals(table[f"{name}_status"], "known")
        is_accepted |= equals(table[f"{name}_status"], "accepted")
    return is_open & ~equals(table["status"], "unreadable"), is_accepted


def precision(manifest: "Manifest | ManifestFile", truth: "pd.DataFrame") -> dict[str, dict[str, Any]]:
    """Compute the share of accepted pseudo-labels that are correct, where the truth is known, batch by batch.

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
    from ssl_pipeline.pseudo_labels.manifest import manifest_parts

    names = [*manifest.labels.names, "joint"]
    codes, num_correct, num = TrueCodes(truth, manifest.labels), np.zeros(len(names), int), np.zeros(len(names), int)
    columns = ["image_id", *manifest.labels.names, *(f"{name}_status" for name in manifest.labels.names)]
    for part in manifest_parts(manifest, columns):
        true_codes = codes.of(part.faces["image_id"])
        correct, counted = part.codes == true_codes, part.accepted & (true_codes != UNKNOWN)
        joint = part.accepted.any(axis=1) & (part.known_or_accepted & (true_codes != UNKNOWN)).all(axis=1)
        correct, counted = np.c_[correct, correct.all(axis=1)], np.c_[counted, joint]
        num_correct, num = num_correct + (correct & counted).sum(axis=0), num + counted.sum(axis=0)
    return {
        name: {"num": of_all, "precision": of_correct / of_all if of_all else None}
        for name, of_correct, of_all in zip(names, num_correct.tolist(), num.tolist(), strict=True)
    }


class TrueCodes:
    """The true value codes of faces by image id."""

    def __init__(self, truth: "pd.DataFrame", labels: LabelSpace) -> None:
        """Encode the truth, see `precision`."""
        import pandas as pd

        self._image_ids, self._codes = pd.Index(truth["image_id"]), labels.encode(truth).astype(np.int16)

    def of(self, image_ids: "pd.Series[Any] | pd.Index[str]") -> IntArray:
        """Return the codes of faces, int16 [N, A], -1 unknown."""
        import pandas as pd

        codes = np.full((len(image_ids), self._codes.shape[1]), UNKNOWN, np.int16)
        if len(self._image_ids):
            positions = self._image_ids.get_indexer(pd.Index(image_ids))
            codes[positions >= 0] = self._codes[positions[positions >= 0]]
        return codes


def first_faces(
    manifest: "Manifest | ManifestFile", *, sort: str, limit: int | None = None
) -> "tuple[pd.DataFrame, int]":
    """Return the first faces in an order, without class probabilities, and the number of all.

    No more than `limit` rows and a batch are in memory.

    Args:
        manifest: whose rows to sort, e.g. those that pass a filter (`ManifestFile.filtered`).
        sort: 'confidence' (ascending), '-confidence' (descending) or 'image_id'; missing confidences come last.
        limit: how many; None: all.

    Raises:
        ManifestError: if the order is undefined.
    """
    import pandas as pd

    from ssl_pipeline.pseudo_labels.manifest import manifest_parts
    from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema

    if sort not in SORT_ORDERS:
        raise ManifestError(f"sort '{sort}': expected one of {', '.join(SORT_ORDERS)}")
    columns = [name for name in manifest_schema(manifest.labels).names if name != "class_probabilities"]
    rows, num_rows = None, 0
    for part in manifest_parts(manifest, columns):
        num_rows += len(part.faces)
        candidates = part.faces if rows is None else pd.concat([rows, part.faces])
        rows = (
            candidates.sort_values("image_id", kind="stable")
            .sort_values(sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable", na_position="last")
            .head(len(candidates) if limit is None else limit)
        )
    return rows if rows is not None else pd.DataFrame({name: [] for name in columns}), num_rows


def filter_faces(
    manifest: "Manifest",
    *,
    status: str | None,
    attribute_values: Mapping[str, str],
    sort: str,
    source: str | None = None,
    reason: str | None = None,
) -> "pd.DataFrame":
    """Return the faces of a manifest in memory that pass a `FaceFilter`, sorted as `first_faces` does.

    Raises:
        ManifestError: if the status, an attribute, a value, the source or the order is undefined.
    """
    chosen = FaceFilter(status, attribute_values, source, reason)
    chosen.check(manifest.labels)
    if source is not None and source not in (sources := set(manifest.table["source"].unique().to_pylist())):
        raise ManifestError(f"'{source}' is no source of this manifest; it has {', '.join(sorted(sources))}")
    rows = manifest.table.filter(pa.array(chosen.mask(manifest.table, manifest.labels)))
    return first_faces(replace(manifest, table=rows), sort=sort)[0]


def _status_counts(counts: Counter[str]) -> dict[str, int]:
    return {"candidates": counts.total()} | {name: counts[name] for name in STATUSES}


def _most_common(counts: Counter[str]) -> dict[str, int]:
    """Sort texts by number, the most frequent first, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
