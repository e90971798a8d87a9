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
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.selection import Selection
from ssl_pipeline.runs import atomic_path

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
    """How it was selected: `settings` as configured, `thresholds` as rows of `question.ThresholdRow`, `faults`."""

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
        decisions = self.faces[[f"{name}_decision" for name in self.labels.names]]
        return (decisions == "accepted").to_numpy(bool)

    @cached_property
    def taught(self) -> BoolArray:
        """Mark the values that were known or accepted, bool [N, A]."""
        decisions = self.faces[[f"{name}_decision" for name in self.labels.names]]
        return decisions.isin(["known", "accepted"]).to_numpy(bool)


def manifest_schema(labels: LabelSpace) -> pa.Schema:
    """Give the columns of a manifest. Per attribute a: the chosen value, ``a_confidence`` and so on.

    Confidences are float64, so that each still compares with its threshold as it did when it was decided.

    Raises:
        ManifestError: if an attribute is called like another column.
    """
    fields = [(name, pa.string()) for name in ("image_id", "image_path", "content_hash", "person_id", "source")]
    fields += [("round", pa.int32()), ("decision", pa.string()), ("reason", pa.string()), ("weight", pa.float32())]
    fields += [("class_id", pa.int32()), ("class_name", pa.string()), ("confidence", pa.float64())]
    for name in labels.names:
        fields += [(name, pa.dictionary(pa.int32(), pa.string())), (f"{name}_confidence", pa.float64())]
        fields += [(f"{name}_weight", pa.float32())]
        fields += [(f"{name}_{what}", pa.string()) for what in ("decision", "reason", "label_source")]
    fields += [("class_probabilities", _list_type(labels))]
    fields += [("teacher_digest", pa.string()), ("selection_digest", pa.string())]
    names = [name for name, _ in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ManifestError(f"attributes must be called otherwise than a manifest's own columns: rename {twice}")
    return pa.schema(fields)


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
) -> pa.Table:
    """Put every candidate face into one table, sorted by image id, whatever the order of the rows given.

    Args:
        faces: the face table of the pool, N rows: image_id, image_path, content_hash, person_id, source.
        selection: of those faces, in the same order.
        labels: the label space.
        unreadable: faces that could not be used: source, image_id, image_path, reason.
        identity: what the manifest is made from.
        targets: whether the student is taught by values (hard) or by class probabilities (soft).
        settings: the selection's, JSON-able.
        faults: what the selection's guards found.

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
    decided = _columns_of_faces(faces) | _columns_of_selection(selection, labels)
    rejected = _columns_of_unreadable(unreadable)
    table = pa.concat_tables([_table(decided, len(faces), schema), _table(rejected, len(unreadable), schema)])
    fixed = {"teacher_digest": identity.teacher_digest, "selection_digest": identity.selection_digest}
    for name, value in {**fixed, "round": identity.round_index}.items():
        place, field = schema.get_field_index(name), schema.field(name)
        table = table.set_column(place, field, pa.array([value] * len(table), field.type))
    order = pc.sort_indices(table, [(name, "ascending") for name in ("image_id", "decision", "reason")])
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
        raise ManifestError(f"{path}: no such file; flows.pseudo_label writes a run's manifest.parquet")
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = _one_line(error)
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
                "run flows.pseudo_label again"
            )
        labels, identity = LabelSpace.of(about["labels"]), ManifestIdentity(**about["identity"])
        targets: Targets = about["targets"]
        selection: dict[str, Any] = about["selection"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: the manifest's metadata is damaged ({_one_line(error)}); {_CURE}") from None
    if faults := _faults(table, labels):
        raise ManifestError(list_of_faults(f"{path}: a damaged manifest; run flows.pseudo_label again", faults))
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
            f"{' and '.join(differences)}; run flows.pseudo_label for run '{run_name}' again"
        )
    differently = " and ".join(["", *differences]).removeprefix(" and")
    raise ManifestError(
        f"a manifest of another run: {manifest.path} was made in run '{identity.run_name}'{differently}; "
        f"run flows.pseudo_label for run '{run_name}' first"
    )


_CURE = "give a manifest.parquet that flows.pseudo_label wrote"


def _list_type(labels: LabelSpace) -> Any:
    """The type of class probabilities; its element is called as Parquet calls it, so that it reads back the same."""
    return pa.list_(pa.field("element", pa.float32()), labels.num_classes)


def _columns_of_faces(faces: pd.DataFrame) -> dict[str, Any]:
    return {name: faces[name] for name in ("image_id", "image_path", "content_hash", "person_id", "source")}


def _columns_of_selection(selection: Selection, labels: LabelSpace) -> dict[str, Any]:
    """Lay out a selection by columns, in the order of its faces."""
    accepted = selection.accepted_faces
    class_names = np.array(labels.class_names, dtype=object)
    probabilities = pa.array(selection.probabilities.astype(np.float32).ravel())
    columns: dict[str, Any] = {
        "decision": np.where(accepted, "accepted", "rejected").astype(object),
        "reason": _joined(selection.reasons, labels),
        "weight": selection.face_weights.astype(np.float32),
        "class_id": selection.class_ids.astype(np.int32),
        "class_name": class_names[selection.class_ids],
        "confidence": selection.confidence,
        "class_probabilities": pa.FixedSizeListArray.from_arrays(probabilities, type=_list_type(labels)),
    }
    for position, attribute in enumerate(labels.attributes):
        known, kept = selection.known[:, position], selection.accepted[:, position]
        codes = selection.attribute_codes[:, position].astype(np.int32)
        # one shared dictionary, so that the file's bytes do not depend on which value comes first
        values = pa.array(list(attribute.values), pa.string())
        columns[attribute.name] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == UNKNOWN), values)
        columns[f"{attribute.name}_confidence"] = selection.attribute_confidence[:, position]
        columns[f"{attribute.name}_weight"] = np.where(known, 1, selection.weights[:, position]).astype(np.float32)
        columns[f"{attribute.name}_decision"] = np.select([known, kept], ["known", "accepted"], "rejected").astype(
            object
        )
        columns[f"{attribute.name}_reason"] = selection.reasons[:, position]
        columns[f"{attribute.name}_label_source"] = np.array([None, "pseudo", "human"], dtype=object)[
            np.select([known, kept], [2, 1], 0)
        ]
    return columns


def _columns_of_unreadable(unreadable: pd.DataFrame) -> dict[str, Any]:
    return {
        **{name: unreadable[name] for name in ("image_id", "image_path", "source")},
        "decision": ["unreadable"] * len(unreadable),
        "reason": [_one_line(reason) for reason in unreadable["reason"]],
        "weight": np.zeros(len(unreadable), np.float32),
    }


def _table(columns: Mapping[str, Any], num_rows: int, schema: pa.Schema) -> pa.Table:
    """Make a table of the schema; a column that is not given is null."""
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(num_rows, field.type)
        elif not isinstance(column, pa.Array):
            column = pa.array(column, field.type, from_pandas=True)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=schema)


def _joined(reasons: npt.NDArray[np.object_], labels: LabelSpace) -> npt.NDArray[np.object_]:
    """Join the attributes' reasons [N, A] to one line a face, [N]."""
    joined = np.full(len(reasons), "", dtype=object)
    for position, name in enumerate(labels.names):
        joined = joined + ("; " if position else "") + f"{name}: " + reasons[:, position]
    return joined


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _faults(table: pa.Table, labels: LabelSpace) -> list[str]:
    """Find what keeps a table from being a manifest over a label space: columns, types, values."""
    faults = []
    for field in manifest_schema(labels):
        if field.name not in table.column_names:
            faults.append(f"column '{field.name}' is missing")
        elif table.schema.field(field.name).type != field.type:
            faults.append(f"column '{field.name}': expected {field.type}, got {table.schema.field(field.name).type}")
    if faults:
        return faults
    allowed: dict[str, set[str | None]] = {"decision": {"accepted", "rejected", "unreadable"}}
    for attribute in labels.attributes:
        allowed[attribute.name] = {*attribute.values, None}
        allowed[f"{attribute.name}_decision"] = {"known", "accepted", "rejected", None}
    for name, values in allowed.items():
        strange = sorted(set(table[name].unique().to_pylist()) - values, key=str)
        faults += [f"column '{name}': '{value}' is no value of it" for value in strange]
    return faults
