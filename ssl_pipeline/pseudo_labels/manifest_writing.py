"""Writing the pseudo-label manifest: one row per candidate face, accepted, rejected or unreadable, with the reason.

A Parquet file with sorted rows and no timestamps, so that equal input gives equal bytes. The schema's metadata holds
label space, identity, targets, selection and format version as one JSON. Rows are built and written a batch at a time:
texts and class probabilities of all faces would take several kilobytes per face.

Shapes: N faces, M rows.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest_columns import (
    columns_of_faces,
    columns_of_selection,
    columns_of_unreadable,
    label_sources,
    manifest_schema,
    table_of,
)
from ssl_pipeline.pseudo_labels.manifest_file import (
    FORMAT,
    FORMAT_VERSION,
    METADATA_KEY,
    ROWS_PER_BATCH,
    ManifestIdentity,
    Targets,
)
from ssl_pipeline.pseudo_labels.posteriors import slices
from ssl_pipeline.pseudo_labels.selection import Selection
from ssl_pipeline.runs.files import atomic_path


def build_manifest(
    faces: pd.DataFrame,
    selection: Selection,
    *,
    labels: LabelSpace,
    unreadable: pd.DataFrame,
    identity: ManifestIdentity,
    targets: Targets,
    settings: Mapping[str, Any] | None = None,
    faults: Sequence[str] = (),
    shift: Mapping[str, Any] | None = None,
    read_rows: Callable[[IntArray], pd.DataFrame] | None = None,
) -> Iterator[pa.Table]:
    """Build a manifest's rows of all candidate faces, sorted by image id; the order of the input does not matter.

    Args:
        faces: the face table of the pool, N rows: `FACE_COLUMNS`, or only image_id where `read_rows` reads the others.
        selection: of those faces, in the same order.
        labels: the label space.
        unreadable: faces that could not be read: source, image_id, image_path, reason.
        identity: the inputs of the manifest.
        targets: whether the student's targets are values (hard) or class probabilities (soft).
        settings: of the selection, JSON-able.
        faults: found by the selection's guards.
        shift: between pool and validation faces, JSON-able, with `strong` and `words`.
        read_rows: returns `FACE_COLUMNS` of faces by their positions, which are asked for in the order of image ids.

    Yields:
        ``len(faces) + len(unreadable)`` rows with the columns of `manifest_schema`, `ROWS_PER_BATCH` in each table but the
        last; one empty table without any row. Weight is 0 if not accepted.

    Raises:
        ValueError: if the selection has another number of faces, or `faces` repeats an image id.
    """
    if len(faces) != len(selection.class_ids):
        raise ValueError(f"expected a selection of {len(faces)} faces, got {len(selection.class_ids)}")
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": asdict(identity),
        "labels": labels.to_dict(),
        "targets": targets,
        "selection": {
            "settings": settings or {},
            "thresholds": [asdict(row) for row in selection.thresholds],
            "faults": list(faults),
            "shift": shift,
        },
    }
    text = json.dumps(metadata, ensure_ascii=False)
    rows = _Rows(
        faces,
        selection,
        manifest_schema(labels).with_metadata({METADATA_KEY: text.encode()}),
        identity,
        unreadable,
        read_rows or faces.iloc.__getitem__,
    )
    for batch in slices(max(len(rows.order), 1), size=ROWS_PER_BATCH):
        yield rows.table(batch)


class _Rows:
    """Builds the rows of a manifest."""

    def __init__(
        self,
        faces: pd.DataFrame,
        selection: Selection,
        schema: pa.Schema,
        identity: ManifestIdentity,
        unreadable: pd.DataFrame,
        read_rows: Callable[[IntArray], pd.DataFrame],
    ) -> None:
        self._num_faces, self._selection, self._schema, self._read_rows = len(faces), selection, schema, read_rows
        self._constants = {
            "round": identity.round_index,
            "teacher_digest": identity.teacher_digest,
            "selection_digest": identity.selection_digest,
        }
        table = table_of(columns_of_unreadable(unreadable) | self._constants, len(unreadable), schema)
        self._unreadable = table.sort_by([("image_id", "ascending"), ("reason", "ascending")])
        self.order = _order(faces["image_id"], self._unreadable["image_id"])
        self._last_id: str | None = None

    def table(self, batch: slice) -> pa.Table:
        """Build a batch; batches are asked for in order."""
        rows, labels = self.order[batch], self._selection.posteriors.labels
        of_pool = rows < self._num_faces
        faces, selection = self._read_rows(rows[of_pool]), self._selection.take(rows[of_pool])
        if len(faces):
            if faces["image_id"].duplicated().any() or faces["image_id"].iloc[0] == self._last_id:
                raise ValueError("image ids of the pool must be unique")
            self._last_id = faces["image_id"].iloc[-1]
        columns = columns_of_faces(faces) | columns_of_selection(selection, labels)
        columns |= label_sources(faces, selection, labels) | self._constants
        table = table_of(columns, len(faces), self._schema)
        if not of_pool.all():
            table = pa.concat_tables([table, self._unreadable.take(rows[~of_pool] - self._num_faces)])
            table = table.take(np.argsort(np.argsort(~of_pool, kind="stable")))
        return table.combine_chunks()


def _order(image_ids: "pd.Series[Any]", unreadable: pa.ChunkedArray) -> IntArray:
    """Sort the pool's faces and then, numbered on, unreadable ones by image id, int [M]; of one id, the pool's is first."""
    of_pool = pa.array(image_ids, from_pandas=True)
    chunks = of_pool.chunks if isinstance(of_pool, pa.ChunkedArray) else [of_pool]
    kind = of_pool.type if len(of_pool) else pa.string()
    together = pa.chunked_array([*(chunks if len(of_pool) else []), *unreadable.cast(kind).chunks], kind)
    return np.asarray(pc.array_sort_indices(together)).astype(np.int64)


def write_manifest(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of `build_manifest` atomically, in groups of rows; equal rows give equal bytes."""
    with atomic_path(path) as temporary:
        tables = iter(tables)
        table = next(tables)
        with pq.ParquetWriter(temporary, table.schema, compression="zstd") as writer:
            while table is not None:
                writer.write_table(table, row_group_size=ROWS_PER_BATCH)
                del table  # before the next is built
                table = next(tables, None)
