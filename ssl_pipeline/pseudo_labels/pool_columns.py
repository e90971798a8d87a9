"""A manifest's columns as arrays of numbers, read in batches, so that a pool of a million faces fits; rows by position.

Shapes: N rows, A attributes, K classes, n chosen rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest_file import open_manifest

STATUSES = ("accepted", "rejected", "unreadable")
ATTRIBUTE_STATUSES = ("known", "accepted", "rejected")
_BATCH = 65_536


@dataclass(frozen=True)
class PoolColumns:
    """What a report needs of every row of a manifest; texts of chosen rows come from `rows`."""

    path: Path
    labels: LabelSpace
    metadata: Mapping[str, Any]
    """identity, targets and selection, as the manifest has them."""
    image_ids: pa.ChunkedArray
    """text [N]"""
    status: npt.NDArray[np.int16]
    """Positions in `STATUSES`, [N]."""
    class_ids: npt.NDArray[np.int32]
    """Most probable class, -1 where the face is unreadable, [N]."""
    codes: npt.NDArray[np.int16]
    """Selected values, -1 unknown, [N, A]."""
    confidence: npt.NDArray[np.float32]
    """Of the selected values, NaN where the face is unreadable, [N, A]."""
    attribute_status: npt.NDArray[np.int16]
    """Positions in `ATTRIBUTE_STATUSES`, -1 where the face is unreadable, [N, A]."""
    picture: npt.NDArray[np.int32]
    """Copies of a picture have the same number; -1 where the face is unreadable, [N]."""

    def __len__(self) -> int:
        return len(self.status)

    def is_accepted(self) -> BoolArray:
        """Mark the accepted labels, bool [N, A]."""
        return np.asarray(self.attribute_status == ATTRIBUTE_STATUSES.index("accepted"))

    def is_rejected(self) -> BoolArray:
        """Mark the rejected labels, bool [N, A]."""
        return np.asarray(self.attribute_status == ATTRIBUTE_STATUSES.index("rejected"))

    def rows(self, positions: IntArray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read columns of chosen rows, in the order of `positions` [n]."""
        order = np.argsort(positions, kind="stable")
        wanted, taken, start = positions[order], [], 0
        for batch in _batches(self.path, columns):
            inside = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
            if len(inside):
                taken += batch.take(pa.array(inside)).to_pylist()
            start += len(batch)
        ordered: list[dict[str, Any]] = [{}] * len(positions)
        for row, position in zip(taken, order.tolist(), strict=True):
            ordered[position] = row
        return ordered


def read_pool(path: Path) -> PoolColumns:
    """Read a manifest's columns.

    Raises:
        ManifestError: see `manifest_file.open_manifest`.
    """
    file = open_manifest(path)
    labels = file.labels
    fields = [f"{name}{end}" for name in labels.names for end in ("", "_confidence", "_status")]
    parts = [_numbers(batch, labels) for batch in _batches(path, ["image_id", "status", "class_id", *fields])]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "image_ids"}
    pictures = pq.read_table(path, columns=["picture_id"], partitioning=None)["picture_id"].combine_chunks()
    return PoolColumns(
        path=path,
        labels=labels,
        metadata={"identity": asdict(file.identity), "targets": file.targets, "selection": file.selection},
        image_ids=pa.chunked_array([part["image_ids"] for part in parts]),
        picture=_fill(pictures.dictionary_encode().indices, np.int32),
        **joined,
    )


def align(ids: pa.ChunkedArray, table: pa.Table, column: str) -> pa.ChunkedArray:
    """Return a column of a table with an `image_id`, in the order of `ids`; null where the table lacks the id."""
    positions = pc.index_in(ids.cast(pa.string()), value_set=table["image_id"].cast(pa.string()).combine_chunks())
    values = table[column]
    values = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    return values.take(positions)


def value_codes(column: pa.ChunkedArray, values: Sequence[str]) -> npt.NDArray[np.int16]:
    """Return the positions of texts among `values`, -1 where there is none, int16 [N]."""
    positions = pc.index_in(column.cast(pa.string()), value_set=pa.array(list(values), pa.string()))
    return np.asarray(_fill(positions, np.int16))


def even_sample(strata: IntArray, num: int, *, seed: int) -> IntArray:
    """Draw up to `num` positions, from every stratum as many as it has and as are needed; sorted, without replacement.

    >>> even_sample(np.array([0, 0, 0, 0, 1, 2]), 4, seed=0).tolist()[-2:]
    [4, 5]
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    return np.sort(order[np.argsort(_ranks(strata[order]), kind="stable")][:num])


def first_of_each(keys: FloatArray, strata: IntArray, rows: BoolArray, num: int) -> IntArray:
    """Return up to `num` of the marked positions, those with the lowest keys of every stratum in turn.

    Args:
        keys: float [N].
        strata: int [N], e.g. the classes.
        rows: bool [N], which positions may be drawn.
        num: how many.
    """
    positions = np.flatnonzero(rows)
    positions = positions[np.lexsort((positions, keys[positions], strata[positions]))]
    return positions[np.lexsort((keys[positions], _ranks(strata[positions])))][:num]


def _ranks(sorted_strata: IntArray) -> IntArray:
    """Return each position's rank in its stratum; equal strata lie together."""
    starts = np.flatnonzero(np.r_[True, sorted_strata[1:] != sorted_strata[:-1]])[: len(sorted_strata)]
    lengths = np.diff(np.r_[starts, len(sorted_strata)])
    return np.arange(len(sorted_strata)) - np.repeat(starts, lengths)


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH, columns=list(columns))


def _numbers(batch: pa.RecordBatch, labels: LabelSpace) -> dict[str, Any]:
    codes = [value_codes(_decoded(batch[item.name]), item.values) for item in labels.attributes]
    statuses = [value_codes(batch[f"{name}_status"], ATTRIBUTE_STATUSES) for name in labels.names]
    confidences = [
        batch[f"{name}_confidence"].to_numpy(zero_copy_only=False).astype(np.float32) for name in labels.names
    ]
    return {
        "image_ids": batch["image_id"],
        "status": value_codes(batch["status"], STATUSES),
        "class_ids": _fill(batch["class_id"], np.int32),
        "codes": np.stack(codes, axis=1),
        "confidence": np.stack(confidences, axis=1),
        "attribute_status": np.stack(statuses, axis=1),
    }


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _fill(column: Any, dtype: Any) -> Any:
    return pc.fill_null(column.cast(pa.int64()), -1).to_numpy(zero_copy_only=False).astype(dtype)
