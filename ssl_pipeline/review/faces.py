"""The faces of a review: a round's manifest and the labeled faces, as arrays.

Shapes: N faces, first the readable ones of the manifest in its order, then the labeled ones that are not for testing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.labels import BoolArray, IntArray
from ssl_pipeline.pseudo_labels.face_filter import without_measured
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of
from ssl_pipeline.runs.records import finished_stage

STATUSES = ("accepted", "rejected", "known", "labeled")
"""Of a label: accepted or rejected guess; known of a face of the pool; label of a labeled face."""

_NOT_READ = (
    *("image_path", "person_id", "picture_id", "round", "reason", "weight", "class_name", "confidence"),
    *("class_probabilities", "teacher_digest", "selection_digest"),
)


@dataclass(frozen=True)
class Category:
    """Texts of N faces as numbers."""

    codes: npt.NDArray[np.int32]
    """int32 [N]; -1 without a text."""
    names: tuple[str, ...]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Category":
        """Encode a column of texts, null is -1; names are sorted."""
        values = column.unique().drop_null().cast(pa.string()).sort()
        codes = pc.fill_null(pc.index_in(column.cast(pa.string()), value_set=values), -1)
        return cls(codes.to_numpy().astype(np.int32), tuple(values.to_pylist()))

    def rename(self, names: Mapping[str, str]) -> "Category":
        """Replace names; those that become equal are one."""
        renamed = [names.get(name, name) for name in self.names]
        unique = sorted(set(renamed))
        positions = np.array([*(unique.index(name) for name in renamed), -1], dtype=np.int32)
        return Category(positions[self.codes], tuple(unique))


@dataclass(frozen=True)
class Labels:
    """The labels of one attribute."""

    codes: npt.NDArray[np.int8]
    """int8 [N], the value; -1 unknown, with a labeled face only."""
    confidence: npt.NDArray[np.float32]
    """float32 [N]; NaN where the value is known."""
    status: npt.NDArray[np.int8]
    """int8 [N], of `STATUSES`."""
    reason: Category
    """With the measured number."""

    @cached_property
    def kind(self) -> Category:
        """The reasons without the measured number."""
        return self.reason.rename({name: without_measured(name) for name in self.reason.names})


@dataclass(frozen=True)
class ReviewFaces:
    """N faces that can be reviewed."""

    manifest: Manifest
    """Without the columns that a review does not need."""
    digest: str
    """Of the prepared faces."""
    num_pool: int
    num_unreadable: int
    image_ids: pa.Array
    content_hashes: pa.Array
    pixel_rows: IntArray
    """int [N], rows of `pixels`."""
    source: Category
    origin: Category
    """The group, where the source tells one."""
    labels: tuple[Labels, ...]
    """Per attribute."""
    class_ids: IntArray
    """int [N]; -1 for labeled faces."""
    manifest_rows: IntArray
    """int [P], rows of the manifest's file."""
    pixels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixel_rows)

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool's faces, float32 [P, K]."""
        column = pq.read_table(self.manifest.path, columns=["class_probabilities"], partitioning=None)
        chosen = column["class_probabilities"].combine_chunks().take(pa.array(self.manifest_rows))
        return np.asarray(chosen.flatten().to_numpy(zero_copy_only=False).reshape(self.num_pool, -1))

    def rows_of(self, image_ids: "list[str]") -> IntArray:
        """Return the rows of image ids, int; -1 if there is no such face."""
        found = pc.index_in(pa.array(image_ids, pa.string()), value_set=self.image_ids)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    @cached_property
    def _by_hash(self) -> IntArray:
        """Rows in the order of their content hashes, int [N]: a scan per answer would be too slow for a million faces."""
        return np.asarray(pc.sort_indices(self.content_hashes).to_numpy(), np.int64)

    def rows_with(self, content_hash: str) -> list[int]:
        """Return the rows of a content; equal pictures share one."""
        place = bisect_left(self._by_hash, content_hash, key=self._hash_of)
        end = bisect_right(self._by_hash, content_hash, lo=place, key=self._hash_of)
        return sorted(self._by_hash[place:end].tolist())

    def _hash_of(self, row: Any) -> str:
        return str(self.content_hashes[int(row)].as_py())

    def contains(self, text: str) -> BoolArray:
        """Mark the faces whose image id contains a text, in upper or lower case, bool [N]."""
        matches = pc.match_substring(self.image_ids, text, ignore_case=True)
        return np.asarray(matches.to_numpy(zero_copy_only=False), bool)


def reviewed_round(run: RunDir) -> int:
    """Return the last round whose selection a student was trained on; before that, the last one with a manifest.

    Raises:
        RunError: if no round has a manifest.
    """
    rounds = [int(path.parent.parent.name[-2:]) for path in run.root.glob("round-*/pseudo_labels/manifest.parquet")]
    if not rounds:
        raise RunError(
            f"{run.root}: no round has a manifest.parquet yet; run `ssl-pipeline run` with this run's config first"
        )
    return max([number for number in rounds if (run.student(number) / "done.json").is_file()] or rounds)


def read_review_faces(run: RunDir, round_index: int) -> ReviewFaces:
    """Read the faces of a round.

    Raises:
        ManifestError: if the manifest is damaged, or made of other faces than the run has now.
        RunError: if the faces are not prepared.
    """
    path = run.pseudo_labels(round_index) / "manifest.parquet"
    manifest = read_manifest(path, without=_NOT_READ)
    record = finished_stage(run.faces, cure="run `ssl-pipeline run` with this run's config first")
    digest = digest_of(record.outputs)
    if digest != manifest.identity.faces_digest:
        raise ManifestError(f"{path}: made of other faces than the run has now; run `ssl-pipeline run` again")
    is_readable = pc.not_equal(manifest.table["status"], "unreadable")
    pool = manifest.table.filter(is_readable)
    labeled = _labeled(run.faces / "labeled.parquet")
    ids = pa.concat_arrays([pool["image_id"].combine_chunks(), labeled["image_id"].combine_chunks()])
    pixel_rows, origins = _prepared(run.faces / "unlabeled.parquet", pool["image_id"])
    return ReviewFaces(
        manifest=manifest,
        digest=digest,
        num_pool=len(pool),
        num_unreadable=len(manifest.table) - len(pool),
        image_ids=ids,
        content_hashes=pa.concat_arrays([table["content_hash"].combine_chunks() for table in (pool, labeled)]),
        pixel_rows=np.concatenate([pixel_rows, labeled["pixel_row"].to_numpy()]),
        source=_joined(pool["source"], labeled["source"]),
        origin=_joined(origins, labeled["origin"]),
        labels=tuple(_labels_of(attribute, pool, labeled) for attribute in manifest.labels.attributes),
        class_ids=np.concatenate([pool["class_id"].to_numpy(), np.full(len(labeled), -1)]).astype(np.int64),
        manifest_rows=np.flatnonzero(is_readable.to_numpy()),
        pixels=open_pixels(run.faces / "pixels.npy"),
    )


def _labeled(path: Path) -> pa.Table:
    table = pq.read_table(path)
    for name in ("image_id", "content_hash", "source", "origin"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    return table.filter(pc.not_equal(table["split"], "test"))


def _prepared(path: Path, image_ids: pa.ChunkedArray) -> tuple[IntArray, pa.ChunkedArray]:
    """Return the rows of pixels and the origins of the pool's faces."""
    table = pq.read_table(path, columns=["image_id", "pixel_row", "origin"])
    table_ids = table["image_id"].cast(pa.string())
    if table_ids.equals(image_ids):  # as written, both sorted
        return table["pixel_row"].to_numpy(), table["origin"].cast(pa.string())
    positions = pc.index_in(image_ids, value_set=table_ids.combine_chunks())
    return table["pixel_row"].take(positions).to_numpy(), table["origin"].cast(pa.string()).take(positions)


def _joined(*columns: Any) -> Category:
    chunks = [chunk for column in columns for chunk in column.chunks]
    return Category.of(pa.chunked_array(chunks, type=pa.string()))


def _labels_of(attribute: Any, pool: pa.Table, labeled: pa.Table) -> Labels:
    name, values = attribute.name, pa.array(attribute.values, pa.string())
    codes = [
        pc.fill_null(pc.index_in(table[name].cast(pa.string()), value_set=values), -1).to_numpy()
        for table in (pool, labeled)
    ]
    status = pc.index_in(pool[f"{name}_status"], value_set=pa.array(STATUSES)).to_numpy()
    is_known = status == STATUSES.index("known")
    confidence = np.where(is_known, np.nan, pool[f"{name}_confidence"].to_numpy())
    splits = pc.binary_join_element_wise("labeled by a person", labeled["split"].cast(pa.string()), ", ")
    return Labels(
        codes=np.concatenate(codes).astype(np.int8),
        confidence=np.concatenate([confidence, np.full(len(labeled), np.nan)]).astype(np.float32),
        status=np.concatenate([status, np.full(len(labeled), STATUSES.index("labeled"))]).astype(np.int8),
        reason=_joined(pool[f"{name}_reason"], splits),
    )
