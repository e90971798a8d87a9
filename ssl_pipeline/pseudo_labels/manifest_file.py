"""A manifest on disk, opened without reading its rows: its metadata, and its rows by batches.

Imports neither pandas nor what selects, so that commands over a manifest start fast.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.face_filter import EVERY_FACE, FaceFilter
from ssl_pipeline.pseudo_labels.manifest_columns import (
    cast_columns,
    manifest_schema,
    one_line,
    type_faults,
    value_faults,
)

METADATA_KEY = b"ssl_pipeline"
FORMAT = "pseudo-label manifest"
FORMAT_VERSION = 4
ROWS_PER_BATCH = 32_768
DAMAGED = "a damaged manifest; run `ssl-pipeline run` again"
_CURE = "give a manifest.parquet that `ssl-pipeline run` wrote"

Targets = Literal["hard", "soft"]


@dataclass(frozen=True)
class ManifestIdentity:
    """The inputs of a manifest."""

    run_name: str
    round_index: int
    """From 1."""
    faces_digest: str
    teacher_digest: str
    selection_digest: str


@dataclass(frozen=True)
class ManifestFile:
    """A manifest of which no row has been read yet."""

    path: Path
    num_rows: int
    num_row_groups: int
    labels: LabelSpace
    identity: ManifestIdentity
    targets: Targets
    selection: Mapping[str, Any]
    """`settings` from the config, `thresholds` (see `strategies.ThresholdRow`), `faults` and `shift`."""
    schema_metadata: Mapping[bytes, bytes]
    """Of the Parquet file, as `build_manifest` writes it."""
    face_filter: FaceFilter = EVERY_FACE
    """Which rows `tables` yields."""

    def filtered(self, face_filter: FaceFilter) -> "ManifestFile":
        """Return the manifest with only the faces that pass.

        Raises:
            ManifestError: if the filter asks for something undefined, or for a source of no face.
        """
        face_filter.check(self.labels)
        if face_filter.source is not None:
            sources = {name for table in self.tables(["source"]) for name in table["source"].unique().to_pylist()}
            if face_filter.source not in sources:
                known = ", ".join(sorted(sources))
                raise ManifestError(f"'{face_filter.source}' is no source of this manifest; it has {known}")
        return replace(self, face_filter=face_filter)

    def columns(self, names: Sequence[str] | None) -> list[str]:
        """Return these columns, or all but the class probabilities.

        Raises:
            ManifestError: if there is no such column.
        """
        known = manifest_schema(self.labels).names
        if names is None:
            return [name for name in known if name != "class_probabilities"]
        if unknown := [name for name in names if name not in known]:
            raise ManifestError(f"{self.path}: no column {', '.join(unknown)}; it has {', '.join(known)}")
        return list(names)

    def tables(self, columns: Sequence[str] | None = None, *, row_group: int | None = None) -> Iterator[pa.Table]:
        """Yield the rows that pass the filter in order, at most `ROWS_PER_BATCH` at a time.

        Args:
            columns: of `manifest_schema`; None for all.
            row_group: only the rows of this one; None for all.

        Raises:
            ManifestError: if a column's type or value is wrong.
        """
        groups = None if row_group is None else [row_group]
        wanted = columns if columns is None else [*columns, *self.face_filter.columns(self.labels)]
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=wanted, use_threads=False):
                table = self._checked(pa.Table.from_batches([batch]))
                if self.face_filter != EVERY_FACE:
                    table = table.filter(pa.array(self.face_filter.mask(table, self.labels)))
                yield table if columns is None else table.select(list(columns))

    def row_groups_with(self, image_id: str) -> list[int]:
        """Return the row groups whose image ids may include this one, by their statistics."""
        with pq.ParquetFile(self.path) as file:
            position = file.schema_arrow.get_field_index("image_id")
            found = []
            for group in range(self.num_row_groups):
                statistics = file.metadata.row_group(group).column(position).statistics
                if statistics is None or not statistics.has_min_max or statistics.min <= image_id <= statistics.max:
                    found.append(group)
        return found

    def _checked(self, table: pa.Table) -> pa.Table:
        table = cast_columns(table, self.labels)
        if faults := type_faults(table, self.labels, table.column_names) or value_faults(table, self.labels):
            raise ManifestError(list_of_faults(f"{self.path}: {DAMAGED}", faults))
        return table


def open_manifest(path: Path) -> ManifestFile:
    """Open a manifest and read its metadata.

    Raises:
        ManifestError: if the file is missing, no manifest, of another format version, or lacks a column.
    """
    if not path.is_file():
        if found := sorted(path.glob("round-*/pseudo_labels/manifest.parquet")):
            raise ManifestError(f"{path}: a run; name one of its manifests: {', '.join(map(str, found))}")
        raise ManifestError(f"{path}: no such file; `ssl-pipeline run` writes a run's manifest.parquet")
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise unreadable_file(path, error) from None
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ManifestError(f"{path}: a Parquet file, but no pseudo-label manifest; {_CURE}")
    labels, identity, targets, selection = _parse(path, text)
    names = [name for name in manifest_schema(labels).names if name not in schema.names]
    if names:
        faults = [f"column '{name}' is missing" for name in names]
        raise ManifestError(list_of_faults(f"{path}: {DAMAGED}", faults))
    return ManifestFile(
        path,
        metadata.num_rows,
        metadata.num_row_groups,
        labels,
        identity,
        targets,
        selection,
        schema_metadata={METADATA_KEY: text},
    )


def unreadable_file(path: Path, error: Exception) -> ManifestError:
    """Return the error of a file that pyarrow cannot read."""
    reason = one_line(error)
    reason = reason.partition(f"{path}': ")[2] or reason  # pyarrow's message repeats the path
    return ManifestError(f"{path}: not a readable Parquet file ({reason.rstrip('.')}); {_CURE}")


def _parse(path: Path, text: bytes) -> tuple[LabelSpace, ManifestIdentity, Targets, Mapping[str, Any]]:
    try:
        metadata = json.loads(text)
        if metadata["format"] != FORMAT:
            raise ManifestError(f"{path}: no pseudo-label manifest but a '{metadata['format']}'; {_CURE}")
        if metadata["format_version"] != FORMAT_VERSION:
            raise ManifestError(
                f"{path}: manifest format {metadata['format_version']} of another release, this one reads "
                f"{FORMAT_VERSION}; run `ssl-pipeline run` again"
            )
        labels, identity = LabelSpace.of(metadata["labels"]), ManifestIdentity(**metadata["identity"])
        return labels, identity, metadata["targets"], metadata["selection"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: the manifest's metadata is damaged ({one_line(error)}); {_CURE}") from None
