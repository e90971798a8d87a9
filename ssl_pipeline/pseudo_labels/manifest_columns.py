"""Columns of a manifest: schema, values from a selection, and validation.

Shapes: N rows, A attributes, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, LabelSpace

if TYPE_CHECKING:
    import pandas as pd

    from ssl_pipeline.pseudo_labels.selection import Selection

_IDENTITY = ("image_id", "image_path", "content_hash", "person_id", "picture_id", "source")
FACE_COLUMNS = (*_IDENTITY, "derived")
"""Columns of a face table that a manifest needs."""


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


def columns_of_faces(faces: "pd.DataFrame") -> dict[str, Any]:
    """Return the identity columns of a face table."""
    return {name: faces[name] for name in _IDENTITY}


def columns_of_selection(selection: "Selection", labels: LabelSpace) -> dict[str, Any]:
    """Return the columns of a selection, in the order of its faces."""
    probabilities = pa.array(selection.probabilities.astype(np.float32).ravel())
    reasons = [pa.array(reasons, pa.string()) for reasons in selection.reasons.T]
    columns: dict[str, Any] = {
        "status": _texts(selection.accepted_faces, ["rejected", "accepted"]),
        "reason": _join_reasons(reasons, labels),
        "weight": selection.face_weights.astype(np.float32),
        "class_id": selection.class_ids.astype(np.int32),
        "class_name": _texts(selection.class_ids, labels.class_names),
        "confidence": selection.confidence,
        "class_probabilities": pa.FixedSizeListArray.from_arrays(probabilities, type=_list_type(labels)),
    }
    weights, confidences = selection.weights, selection.attribute_confidence
    for position, attribute in enumerate(labels.attributes):
        known, accepted = selection.known[:, position], selection.accepted[:, position]
        codes = selection.attribute_codes[:, position].astype(np.int32)
        # a fixed dictionary: the file's bytes must not depend on the value of the first face
        values = pa.array(list(attribute.values), pa.string())
        columns[attribute.name] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == UNKNOWN), values)
        columns[f"{attribute.name}_confidence"] = confidences[:, position]
        columns[f"{attribute.name}_weight"] = np.where(known, 1, weights[:, position]).astype(np.float32)
        columns[f"{attribute.name}_status"] = _texts(
            np.select([known, accepted], [0, 1], 2), ["known", "accepted", "rejected"]
        )
        columns[f"{attribute.name}_reason"] = reasons[position]
    return columns


def label_sources(faces: "pd.DataFrame", selection: "Selection", labels: LabelSpace) -> dict[str, Any]:
    """Return each attribute's label source: human, derived (known by construction), pseudo, or None if rejected."""
    import pandas as pd

    codes, lists = pd.factorize(faces["derived"])  # code -1: none
    columns = {}
    for position, name in enumerate(labels.names):
        by_construction = np.array([*(name in str(names).split(",") for names in lists), False], bool)[codes]
        known, accepted = selection.known[:, position], selection.accepted[:, position]
        sources = np.select([known & by_construction, known, accepted], [0, 1, 2], UNKNOWN)
        columns[f"{name}_label_source"] = _texts(sources, ["derived", "human", "pseudo"])
    return columns


def columns_of_unreadable(unreadable: "pd.DataFrame") -> dict[str, Any]:
    """Return the columns of faces that could not be read, with their reasons."""
    return {
        **{name: unreadable[name] for name in ("image_id", "image_path", "source")},
        "status": ["unreadable"] * len(unreadable),
        "reason": [one_line(reason) for reason in unreadable["reason"]],
        "weight": np.zeros(len(unreadable), np.float32),
    }


def table_of(columns: Mapping[str, Any], num_rows: int, schema: pa.Schema) -> pa.Table:
    """Build a table of the schema; missing columns are null, and a single text or number stands for every row."""
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(num_rows, field.type)
        elif isinstance(column, str | int):
            column = pa.repeat(pa.scalar(column, field.type), num_rows)
        elif not isinstance(column, pa.Array):
            column = pa.array(column, field.type, from_pandas=True)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=schema)


def _join_reasons(reasons: Sequence[pa.Array], labels: LabelSpace) -> pa.Array:
    """Join the attributes' reasons, [N] each, to one line per face."""
    named = [(f"{'; ' if position else ''}{name}: ", reasons[position]) for position, name in enumerate(labels.names)]
    return pc.binary_join_element_wise(*(part for pair in named for part in pair), "")


def _texts(codes: npt.ArrayLike, texts: Sequence[str]) -> pa.Array:
    """Return the text of each code, of [N]; null for -1."""
    numbers = np.asarray(codes, np.int64)
    return pa.array(list(texts), pa.string()).take(pa.array(numbers, mask=numbers == UNKNOWN))


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


def type_faults(table: pa.Table, labels: LabelSpace, names: Sequence[str]) -> list[str]:
    """Describe which of these columns are missing or have a wrong type."""
    schema, faults = manifest_schema(labels), []
    for field in (schema.field(name) for name in names if name in schema.names):
        if field.name not in table.column_names:
            faults.append(f"column '{field.name}' is missing")
        elif table.schema.field(field.name).type != field.type:
            faults.append(f"column '{field.name}': expected {field.type}, got {table.schema.field(field.name).type}")
    return faults


def value_faults(table: pa.Table, labels: LabelSpace) -> list[str]:
    """Describe undefined values in the columns of a table."""
    allowed: dict[str, set[str | None]] = {"status": {"accepted", "rejected", "unreadable"}}
    for attribute in labels.attributes:
        allowed[attribute.name] = {*attribute.values, None}
        allowed[f"{attribute.name}_status"] = {"known", "accepted", "rejected", None}
    faults = []
    for name, values in allowed.items():
        present = set(table[name].unique().to_pylist()) if name in table.column_names else set()
        faults += [f"column '{name}': undefined value '{value}'" for value in sorted(present - values, key=str)]
    return faults


def _list_type(labels: LabelSpace) -> Any:
    """Type of the class probabilities; named as Parquet names the element, so that the schema is equal when read back."""
    return pa.list_(pa.field("element", pa.float32()), labels.num_classes)


def one_line(text: object) -> str:
    """Replace line breaks and repeated spaces by one space."""
    return " ".join(str(text).split())
