"""Columns of a manifest: schema, values from a selection, and validation.

Shapes: N rows, A attributes, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.pseudo_labels.selection import Selection

_IDENTITY = ("image_id", "image_path", "content_hash", "person_id", "picture_id", "source")


def manifest_schema(labels: LabelSpace) -> pa.Schema:
    """Return the columns of a manifest. Per attribute a: ``a``, the selected value, ``a_confidence`` and so on.

    Confidences are float64, so that they still compare with their thresholds as they did in the selection.

    Raises:
        ManifestError: if an attribute has the name of another column.
    """
    fields = [(name, pa.string()) for name in _IDENTITY]
    fields += [("round", pa.int32()), ("status", pa.string()), ("reason", pa.string()), ("weight", pa.float32())]
    fields += [("class_id", pa.int32()), ("class_name", pa.string()), ("confidence", pa.float64())]
    for name in labels.names:
        fields += [(name, pa.dictionary(pa.int32(), pa.string())), (f"{name}_confidence", pa.float64())]
        fields += [(f"{name}_weight", pa.float32())]
        fields += [(f"{name}_{suffix}", pa.string()) for suffix in ("status", "reason", "label_source")]
    fields += [("class_probabilities", _list_type(labels))]
    fields += [("teacher_digest", pa.string()), ("selection_digest", pa.string())]
    names = [name for name, _ in fields]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ManifestError(f"attributes must not have the names of a manifest's columns: rename {repeated}")
    return pa.schema(fields)


def columns_of_faces(faces: pd.DataFrame) -> dict[str, Any]:
    """Return the identity columns of a face table."""
    return {name: faces[name] for name in _IDENTITY}


def columns_of_selection(selection: Selection, labels: LabelSpace) -> dict[str, Any]:
    """Return the columns of a selection, in the order of its faces."""
    class_names = np.array(labels.class_names, dtype=object)
    probabilities = pa.array(selection.probabilities.astype(np.float32).ravel())
    columns: dict[str, Any] = {
        "status": np.where(selection.accepted_faces, "accepted", "rejected").astype(object),
        "reason": _join_reasons(selection.reasons, labels),
        "weight": selection.face_weights.astype(np.float32),
        "class_id": selection.class_ids.astype(np.int32),
        "class_name": class_names[selection.class_ids],
        "confidence": selection.confidence,
        "class_probabilities": pa.FixedSizeListArray.from_arrays(probabilities, type=_list_type(labels)),
    }
    for position, attribute in enumerate(labels.attributes):
        known, accepted = selection.known[:, position], selection.accepted[:, position]
        codes = selection.attribute_codes[:, position].astype(np.int32)
        # a fixed dictionary: the file's bytes must not depend on the value of the first face
        values = pa.array(list(attribute.values), pa.string())
        columns[attribute.name] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == UNKNOWN), values)
        columns[f"{attribute.name}_confidence"] = selection.attribute_confidence[:, position]
        columns[f"{attribute.name}_weight"] = np.where(known, 1, selection.weights[:, position]).astype(np.float32)
        columns[f"{attribute.name}_status"] = np.select([known, accepted], ["known", "accepted"], "rejected").astype(
            object
        )
        columns[f"{attribute.name}_reason"] = selection.reasons[:, position]
    return columns


def label_sources(faces: pd.DataFrame, selection: Selection, labels: LabelSpace) -> dict[str, Any]:
    """Return each attribute's label source: human, derived (known by construction), pseudo, or None if rejected."""
    derived = [str(names).split(",") if isinstance(names, str) else [] for names in faces["derived"]]
    columns = {}
    for position, name in enumerate(labels.names):
        by_construction = np.array([name in names for names in derived], dtype=bool)
        known, accepted = selection.known[:, position], selection.accepted[:, position]
        columns[f"{name}_label_source"] = np.select(
            [known & by_construction, known, accepted], ["derived", "human", "pseudo"], ""
        ).astype(object)
        columns[f"{name}_label_source"][~(known | accepted)] = None
    return columns


def columns_of_unreadable(unreadable: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of faces that could not be read, with their reasons."""
    return {
        **{name: unreadable[name] for name in ("image_id", "image_path", "source")},
        "status": ["unreadable"] * len(unreadable),
        "reason": [one_line(reason) for reason in unreadable["reason"]],
        "weight": np.zeros(len(unreadable), np.float32),
    }


def table_of(columns: Mapping[str, Any], num_rows: int, schema: pa.Schema) -> pa.Table:
    """Build a table of the schema; missing columns are null."""
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(num_rows, field.type)
        elif not isinstance(column, pa.Array):
            column = pa.array(column, field.type, from_pandas=True)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=schema)


def _join_reasons(reasons: npt.NDArray[np.object_], labels: LabelSpace) -> npt.NDArray[np.object_]:
    """Join the attributes' reasons [N, A] to one line per face, [N]."""
    joined = np.full(len(reasons), "", dtype=object)
    for position, name in enumerate(labels.names):
        joined = joined + ("; " if position else "") + f"{name}: " + reasons[:, position]
    return joined


def cast_columns(table: pa.Table, labels: LabelSpace) -> pa.Table:
    """Cast columns to the types of the schema where that changes no value, e.g. after pandas or polars.

    They write large strings, categories, lists of any length, and int64 for int32.
    """
    for position, name in enumerate(table.column_names):
        index = manifest_schema(labels).get_field_index(name)
        column, field = table[name], None if index == -1 else manifest_schema(labels).field(index)
        if field is None or column.type == field.type:
            continue
        try:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            cast = column.cast(field.type)
            is_equal = cast.cast(column.type).equals(column)
        except (pa.ArrowException, NotImplementedError):
            continue  # `column_faults` names the type
        if is_equal:
            table = table.set_column(position, field, cast)
    return table


def column_faults(table: pa.Table, labels: LabelSpace, *, without: Sequence[str] = ()) -> list[str]:
    """Describe missing columns, wrong types and undefined values of a manifest's table, read `without` columns."""
    faults = []
    for field in manifest_schema(labels):
        if field.name in without:
            continue
        if field.name not in table.column_names:
            faults.append(f"column '{field.name}' is missing")
        elif table.schema.field(field.name).type != field.type:
            faults.append(f"column '{field.name}': expected {field.type}, got {table.schema.field(field.name).type}")
    if faults:
        return faults
    allowed: dict[str, set[str | None]] = {"status": {"accepted", "rejected", "unreadable"}}
    for attribute in labels.attributes:
        allowed[attribute.name] = {*attribute.values, None}
        allowed[f"{attribute.name}_status"] = {"known", "accepted", "rejected", None}
    for name, values in allowed.items():
        if name in without:
            continue
        undefined = sorted(set(table[name].unique().to_pylist()) - values, key=str)
        faults += [f"column '{name}': undefined value '{value}'" for value in undefined]
    return faults


def _list_type(labels: LabelSpace) -> Any:
    """Type of the class probabilities; named as Parquet names the element, so that the schema is equal when read back."""
    return pa.list_(pa.field("element", pa.float32()), labels.num_classes)


def one_line(text: object) -> str:
    """Replace line breaks and repeated spaces by one space."""
    return " ".join(str(text).split())
