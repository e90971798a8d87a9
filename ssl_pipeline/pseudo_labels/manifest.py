"""Reading pseudo-label manifests, whole, by batches or a face; `manifest_writing` says what they are.

Shapes: N rows, A attributes, K classes.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.labels import BoolArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest_columns import (
    cast_columns,
    manifest_schema,
    type_faults,
    value_faults,
)
from ssl_pipeline.pseudo_labels.manifest_file import (
    DAMAGED,
    ManifestFile,
    ManifestIdentity,
    Targets,
    open_manifest,
    unreadable_file,
)

_MAX_COMPARED = 20_000
"""Image ids that are searched for ones similar to a mistyped id."""


@dataclass(frozen=True)
class Manifest:
    """A manifest read from its file."""

    path: Path
    table: pa.Table
    """Columns of `manifest_schema`, sorted by image id."""
    labels: LabelSpace
    identity: ManifestIdentity
    targets: Targets
    selection: Mapping[str, Any]
    """`settings` from the config, `thresholds` (see `strategies.ThresholdRow`), `faults` and `shift`."""

    @classmethod
    def of(cls, file: "AnyManifest", table: pa.Table) -> "Manifest":
        """Return rows of a file as a manifest of their own."""
        return cls(file.path, table, file.labels, file.identity, file.targets, file.selection)

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.table)

    def tables(self, columns: Sequence[str] | None = None, *, row_group: int | None = None) -> Iterator[pa.Table]:
        """Yield all rows, as `ManifestFile.tables` does."""
        yield self.table if columns is None else self.table.select(list(columns))

    def row_groups_with(self, image_id: str) -> list[int]:
        """Return the one group of rows that a manifest in memory has."""
        return [0]

    @cached_property
    def faces(self) -> pd.DataFrame:
        """The rows without class probabilities; attributes are nullable categoricals in the order of codes."""
        names = [name for name in self.table.column_names if name != "class_probabilities"]
        frame: pd.DataFrame = self.table.select(names).to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
        for attribute in self.labels.attributes:
            if attribute.name in frame:
                frame[attribute.name] = pd.Categorical(frame[attribute.name], categories=list(attribute.values))
        return frame

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities, float [N, K], rows sum to 1; NaN where the face is unreadable."""
        column = self.table["class_probabilities"].combine_chunks()
        probabilities = np.full((len(column), self.labels.num_classes), np.nan, dtype=np.float32)
        readable = column.is_valid().to_numpy(zero_copy_only=False)
        probabilities[readable] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.labels.num_classes)
        return probabilities

    @cached_property
    def codes(self) -> IntArray:
        """The selected values, accepted or not, int [N, A]; -1 where the face is unreadable."""
        return self.labels.encode(self.faces)

    @cached_property
    def accepted(self) -> BoolArray:
        """Mark the accepted pseudo-labels, bool [N, A]."""
        statuses = self.faces[[f"{name}_status" for name in self.labels.names]]
        return (statuses == "accepted").to_numpy(bool)

    @cached_property
    def known_or_accepted(self) -> BoolArray:
        """Mark the values that a student is trained on, bool [N, A]."""
        statuses = self.faces[[f"{name}_status" for name in self.labels.names]]
        return statuses.isin(["known", "accepted"]).to_numpy(bool)


AnyManifest = Manifest | ManifestFile


def read_manifest(path: Path, without: Sequence[str] = ()) -> Manifest:
    """Read a manifest.

    Args:
        path: the file.
        without: columns that are neither read nor checked, and missing in `Manifest.table`.

    Raises:
        ManifestError: if the file is missing, no manifest, of another format version, or damaged.
    """
    file = open_manifest(path)
    try:
        columns = [name for name in pq.read_schema(path).names if name not in without] if without else None
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise unreadable_file(path, error) from None
    table = cast_columns(table, file.labels)
    names = [name for name in manifest_schema(file.labels).names if name not in without]
    if faults := type_faults(table, file.labels, names) or value_faults(table, file.labels):
        raise ManifestError(list_of_faults(f"{path}: {DAMAGED}", faults))
    return Manifest.of(file, table)


def manifest_parts(file: "AnyManifest", columns: Sequence[str] | None = None) -> Iterator[Manifest]:
    """Yield the rows of a file in order, by batches, each as a manifest of its own; `columns` None: all."""
    for table in file.tables(columns):
        yield Manifest.of(file, table)


def read_face(file: "AnyManifest", image_id: str) -> Manifest:
    """Read the rows of one face (two if an unreadable file has the same id); only groups of rows that may have it.

    Raises:
        ManifestError: if there is no such face; the message names similar ids.
    """
    found = [
        rows
        for group in file.row_groups_with(image_id)
        for table in file.tables(row_group=group)
        if len(rows := table.filter(pc.equal(table["image_id"], image_id)))
    ]
    if not found:
        raise ManifestError(f"{file.path}: no face '{image_id}' among {file.num_rows:,}; {_hint(file, image_id)}")
    return Manifest.of(file, pa.concat_tables(found))


def _hint(file: "AnyManifest", image_id: str) -> str:
    """Name ids like a mistyped one: among those with its last part, or else among the first."""
    last, first, containing = re.split(r"[:/]", image_id)[-1], [], []  # type: tuple[str, list[str], list[str]]
    for table in file.tables(["image_id"]):
        image_ids = table["image_id"]
        first += image_ids.slice(0, _MAX_COMPARED - len(first)).to_pylist()
        if last:
            matching = image_ids.filter(pc.match_substring(image_ids, last, ignore_case=True))
            containing += matching.slice(0, _MAX_COMPARED - len(containing)).to_pylist()
    similar = difflib.get_close_matches(image_id, containing or first, n=3, cutoff=0.5)
    return f"similar: {', '.join(similar)}" if similar else "`ssl-pipeline manifest show` lists image ids"


def check_belongs(manifest: AnyManifest, *, labels: LabelSpace, faces_digest: str, run_name: str) -> None:
    """Refuse a manifest of another run, of other faces or of another label space.

    Args:
        manifest: the manifest.
        labels: the run's label space.
        faces_digest: digest of the run's faces.
        run_name: the run's name.

    Raises:
        ManifestError: with the differences.
    """
    identity = manifest.identity
    differences = []
    if identity.faces_digest != faces_digest:
        differences.append("from other faces")
    if manifest.labels != labels:
        differences.append(f"with other labels {manifest.labels.to_dict()}")
    if identity.run_name == run_name and not differences:
        return
    if identity.run_name == run_name:
        raise ManifestError(
            f"an outdated manifest: {manifest.path} was made in this run '{run_name}', but "
            f"{' and '.join(differences)}; run `ssl-pipeline run` for run '{run_name}' again"
        )
    details = f" {' and '.join(differences)}" if differences else ""
    raise ManifestError(
        f"a manifest of another run: {manifest.path} was made in run '{identity.run_name}'{details}; "
        f"run `ssl-pipeline run` for run '{run_name}' first"
    )
