"""The pseudo-label manifest: one row per candidate face, accepted, rejected or unreadable, with the reason.

A Parquet file with sorted rows and no timestamps, so that equal input gives equal bytes. The schema's metadata holds
label space, identity, targets, selection and format version as one JSON.

Shapes: N rows, A attributes, K classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

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
    column_faults,
    columns_of_faces,
    columns_of_selection,
    columns_of_unreadable,
    label_sources,
    manifest_schema,
    one_line,
    table_of,
)
from ssl_pipeline.pseudo_labels.selection import Selection
from ssl_pipeline.runs.files import atomic_path

METADATA_KEY = b"ssl_pipeline"
FORMAT = "pseudo-label manifest"
FORMAT_VERSION = 4

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

    @cached_property
    def faces(self) -> pd.DataFrame:
        """The rows without class probabilities; attributes are nullable categoricals in the order of codes."""
        frame: pd.DataFrame = self.table.drop_columns(["class_probabilities"]).to_pandas(
            types_mapper={pa.int32(): pd.Int32Dtype()}.get
        )
        for attribute in self.labels.attributes:
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
) -> pa.Table:
    """Build a manifest's table of all candidate faces, sorted by image id; the order of the input does not matter.

    Args:
        faces: the face table of the pool, N rows: image_id, image_path, content_hash, person_id, source, derived.
        selection: of those faces, in the same order.
        labels: the label space.
        unreadable: faces that could not be read: source, image_id, image_path, reason.
        identity: the inputs of the manifest.
        targets: whether the student's targets are values (hard) or class probabilities (soft).
        settings: of the selection, JSON-able.
        faults: found by the selection's guards.
        shift: between pool and validation faces, JSON-able, with `strong` and `words`.

    Returns:
        ``len(faces) + len(unreadable)`` rows with the columns of `manifest_schema`. Weight is 0 if not accepted.

    Raises:
        ValueError: if the selection has another number of faces, or `faces` repeats an image id.
    """
    if len(faces) != len(selection.class_ids):
        raise ValueError(f"expected a selection of {len(faces)} faces, got {len(selection.class_ids)}")
    if faces["image_id"].duplicated().any():
        raise ValueError("image ids of the pool must be unique")
    schema = manifest_schema(labels)
    columns = columns_of_faces(faces) | columns_of_selection(selection, labels)
    columns |= label_sources(faces, selection, labels)
    tables = [table_of(columns, len(faces), schema)]
    tables += [table_of(columns_of_unreadable(unreadable), len(unreadable), schema)]
    table = pa.concat_tables(tables)
    constants = {"teacher_digest": identity.teacher_digest, "selection_digest": identity.selection_digest}
    for name, value in {**constants, "round": identity.round_index}.items():
        position, field = schema.get_field_index(name), schema.field(name)
        table = table.set_column(position, field, pa.array([value] * len(table), field.type))
    order = pc.sort_indices(table, [(name, "ascending") for name in ("image_id", "status", "reason")])
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
    return table.take(order).combine_chunks().replace_schema_metadata({METADATA_KEY: text.encode()})


def write_manifest(path: Path, table: pa.Table) -> None:
    """Write a table of `build_manifest` atomically; equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_manifest(path: Path, without: Sequence[str] = ()) -> Manifest:
    """Read a manifest.

    Args:
        path: the file.
        without: columns that are neither read nor checked, and missing in `Manifest.table`.

    Raises:
        ManifestError: if the file is missing, no manifest, of another format version, or damaged.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such file; `ssl-pipeline run` writes a run's manifest.parquet")
    try:
        columns = [name for name in pq.read_schema(path).names if name not in without] if without else None
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = one_line(error)
        reason = reason.partition(f"{path}': ")[2] or reason  # pyarrow's message repeats the path
        raise ManifestError(f"{path}: not a readable Parquet file ({reason.rstrip('.')}); {_CURE}") from None
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ManifestError(f"{path}: a Parquet file, but no pseudo-label manifest; {_CURE}")
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
        targets: Targets = metadata["targets"]
        selection: dict[str, Any] = metadata["selection"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: the manifest's metadata is damaged ({one_line(error)}); {_CURE}") from None
    table = cast_columns(table, labels)
    if faults := column_faults(table, labels, without=without):
        raise ManifestError(list_of_faults(f"{path}: a damaged manifest; run `ssl-pipeline run` again", faults))
    return Manifest(path=path, table=table, labels=labels, identity=identity, targets=targets, selection=selection)


def check_belongs(manifest: Manifest, *, labels: LabelSpace, faces_digest: str, run_name: str) -> None:
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


_CURE = "give a manifest.parquet that `ssl-pipeline run` wrote"
