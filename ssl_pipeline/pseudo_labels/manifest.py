"""The pseudo-label manifest: one row a candidate face, accepted, rejected or unreadable, with the reason.

A Parquet file. Its rows are sorted and it knows no time of day: the same input gives the same bytes. Label space,
identity, targets and format version lie as one JSON in the schema's metadata, so a manifest explains itself.

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
FORMAT_VERSION = 2

Targets = Literal["hard", "soft"]


@dataclass(frozen=True)
class ManifestIdentity:
    """What a manifest was made from."""

    run_name: str
    round_index: int
    """From 1."""
    faces_digest: str
    teacher_digest: str
    selection_digest: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read."""

    path: Path
    table: pa.Table
    """As `manifest_schema` says, sorted by image id."""
    labels: LabelSpace
    identity: ManifestIdentity
    targets: Targets
    selection: Mapping[str, Any]
    """How it was selected: `settings` as configured, `thresholds` as rows of `question.ThresholdRow`, `faults`, `shift`."""

    @cached_property
    def faces(self) -> pd.DataFrame:
        """The rows without their class probabilities; attributes are nullable categoricals in the order of codes."""
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
        given = column.is_valid().to_numpy(zero_copy_only=False)
        probabilities[given] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.labels.num_classes)
        return probabilities

    @cached_property
    def codes(self) -> IntArray:
        """The chosen values, accepted or not, int [N, A]; -1 where the face is unreadable."""
        return self.labels.encode(self.faces)

    @cached_property
    def accepted(self) -> BoolArray:
        """Mark the accepted pseudo-labels, bool [N, A]."""
        statuses = self.faces[[f"{name}_status" for name in self.labels.names]]
        return (statuses == "accepted").to_numpy(bool)

    @cached_property
    def taught(self) -> BoolArray:
        """Mark the values that were known or accepted, bool [N, A]."""
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
    """Put every candidate face into one table, sorted by image id, whatever the order of the rows given.

    Args:
        faces: the face table of the pool, N rows: image_id, image_path, content_hash, person_id, source, derived.
        selection: of those faces, in the same order.
        labels: the label space.
        unreadable: faces that could not be used: source, image_id, image_path, reason.
        identity: what the manifest is made from.
        targets: whether the student is taught by values (hard) or by class probabilities (soft).
        settings: the selection's, JSON-able.
        faults: what the selection's guards found.
        shift: how unlike the pool and the faces behind the selection are, JSON-able, with `strong` and `words`.

    Returns:
        ``len(faces) + len(unreadable)`` rows, as `manifest_schema` says. Weight is 0 where not accepted.

    Raises:
        ValueError: if the selection is of another number of faces, or an image id occurs twice in `faces`.
    """
    if len(faces) != len(selection.class_ids):
        raise ValueError(f"{len(faces)} faces need as many selections, got {len(selection.class_ids)}")
    if faces["image_id"].duplicated().any():
        raise ValueError("image ids of the pool must differ from each other")
    schema = manifest_schema(labels)
    decided = columns_of_faces(faces) | columns_of_selection(selection, labels)
    decided |= label_sources(faces, selection, labels)
    rejected = columns_of_unreadable(unreadable)
    table = pa.concat_tables([table_of(decided, len(faces), schema), table_of(rejected, len(unreadable), schema)])
    fixed = {"teacher_digest": identity.teacher_digest, "selection_digest": identity.selection_digest}
    for name, value in {**fixed, "round": identity.round_index}.items():
        place, field = schema.get_field_index(name), schema.field(name)
        table = table.set_column(place, field, pa.array([value] * len(table), field.type))
    order = pc.sort_indices(table, [(name, "ascending") for name in ("image_id", "status", "reason")])
    about = {
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
    text = json.dumps(about, ensure_ascii=False)
    return table.take(order).combine_chunks().replace_schema_metadata({METADATA_KEY: text.encode()})


def write_manifest(path: Path, table: pa.Table) -> None:
    """Write what `build_manifest` gives, atomically, the same bytes for the same table."""
    with atomic_path(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: if the file is missing, is not Parquet, is no manifest, or is a damaged one.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such file; `ssl-pipeline run` writes a run's manifest.parquet")
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = one_line(error)
        reason = reason.partition(f"{path}': ")[2] or reason  # pyarrow opens with the path, which is said already
        raise ManifestError(f"{path}: not a readable Parquet file ({reason.rstrip('.')}); {_CURE}") from None
    metadata = (table.schema.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise ManifestError(f"{path}: a Parquet file, but no pseudo-label manifest; {_CURE}")
    try:
        about = json.loads(metadata)
        if about["format"] != FORMAT:
            raise ManifestError(f"{path}: no pseudo-label manifest but a '{about['format']}'; {_CURE}")
        if about["format_version"] != FORMAT_VERSION:
            raise ManifestError(
                f"{path}: manifest format {about['format_version']}, this version reads {FORMAT_VERSION}; "
                "run `ssl-pipeline run` again"
            )
        labels, identity = LabelSpace.of(about["labels"]), ManifestIdentity(**about["identity"])
        targets: Targets = about["targets"]
        selection: dict[str, Any] = about["selection"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: the manifest's metadata is damaged ({one_line(error)}); {_CURE}") from None
    if faults := column_faults(table, labels):
        raise ManifestError(list_of_faults(f"{path}: a damaged manifest; run `ssl-pipeline run` again", faults))
    return Manifest(path=path, table=table, labels=labels, identity=identity, targets=targets, selection=selection)


def check_belongs(manifest: Manifest, *, labels: LabelSpace, faces_digest: str, run_name: str) -> None:
    """Refuse a manifest of another run, of other faces or of another label space.

    Args:
        manifest: as read.
        labels: the run's label space.
        faces_digest: digest of the run's faces.
        run_name: the run's name.

    Raises:
        ManifestError: saying what differs.
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
            f"a manifest that has aged: {manifest.path} was made in this run '{run_name}', but "
            f"{' and '.join(differences)}; run `ssl-pipeline run` for run '{run_name}' again"
        )
    differently = " and ".join(["", *differences]).removeprefix(" and")
    raise ManifestError(
        f"a manifest of another run: {manifest.path} was made in run '{identity.run_name}'{differently}; "
        f"run `ssl-pipeline run` for run '{run_name}' first"
    )


_CURE = "give a manifest.parquet that `ssl-pipeline run` wrote"
