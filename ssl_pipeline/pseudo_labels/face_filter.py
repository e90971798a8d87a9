"""Which faces of a manifest to look at: by status, values, source and reason.

Shapes: N rows.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import BoolArray, LabelSpace

STATUSES = ("accepted", "rejected", "unreadable")
_MEASURED = re.compile(r"^((?:class )?confidence|rank|weight|deviation) [\d.]+")


@dataclass(frozen=True)
class FaceFilter:
    """Conditions that all have to hold; without any, all faces pass."""

    status: str | None = None
    """accepted, rejected or unreadable."""
    values: Mapping[str, str] = field(default_factory=dict)
    """``{attribute: value}``."""
    source: str | None = None
    """Name of a source."""
    reason: str | None = None
    """Part of the face's reason or of an attribute's, in upper or lower case, with the measured number or, as the summary
    counts reasons, without it."""

    def check(self, labels: LabelSpace) -> None:
        """Refuse an undefined status, attribute or value.

        Raises:
            ManifestError: with the defined ones.
        """
        if self.status is not None and self.status not in STATUSES:
            raise ManifestError(f"status '{self.status}': expected one of {', '.join(STATUSES)}")
        defined = labels.to_dict()
        for name, value in self.values.items():
            if name not in defined:
                raise ManifestError(f"'{name}' is no attribute of this manifest; it has {', '.join(defined)}")
            if value not in defined[name]:
                raise ManifestError(f"'{value}' is no value of '{name}'; it has {', '.join(defined[name])}")

    def columns(self, labels: LabelSpace) -> list[str]:
        """The columns that `mask` needs."""
        needed = [("status", self.status), ("source", self.source), *self.values.items()]
        needed += [(name, self.reason) for name in self._reason_columns(labels).values()]
        return [name for name, wanted in needed if wanted is not None]

    def mask(self, table: pa.Table, labels: LabelSpace) -> BoolArray:
        """Mark the rows that pass, bool [N]."""
        passes = np.ones(len(table), dtype=bool)
        for name, value in [("status", self.status), ("source", self.source), *self.values.items()]:
            if value is not None:
                passes &= equals(table[name].cast(pa.string()), value)
        if self.reason is not None:
            has_reason = np.zeros(len(table), dtype=bool)
            for prefix, name in self._reason_columns(labels).items():
                has_reason |= _contains(table[name], prefix, self.reason.lower())
            passes &= has_reason
        return passes

    @staticmethod
    def _reason_columns(labels: LabelSpace) -> dict[str, str]:
        """Return {text that the summary puts before a column's reasons: the column}."""
        return {"": "reason", **{f"{name}: ": f"{name}_reason" for name in labels.names}}


EVERY_FACE = FaceFilter()


def text_array(texts: Sequence[str]) -> pa.Array:
    """Return an array of texts; `pa.array` and `pa.scalar` would import pandas, which takes most of a second."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def rows_with(column: Any, value: str) -> pa.ChunkedArray:
    """Mark the rows of a column that equal a value; null equals none."""
    return pc.is_in(column, value_set=text_array([value]))


def equals(column: Any, value: str) -> BoolArray:
    """Mark the rows of a column that equal a value, bool [N]; null equals none."""
    return np.asarray(rows_with(column, value))


def without_measured(reason: str) -> str:
    """Return a reason without the measured number that it begins with, e.g. ``confidence < 0.95``."""
    return _MEASURED.sub(r"\1", reason)


def without_numbers(text: str) -> str:
    """Replace each number in a reason by …, so that equal reasons count together."""
    return re.sub(r"\d+", "…", text)


def _contains(column: Any, prefix: str, wanted: str) -> BoolArray:
    """Mark the rows whose text contains another, in any of three ways to write numbers, bool [N]."""
    texts = column.unique().drop_null()
    matching = [
        text
        for text in texts.to_pylist()
        if any(wanted in (prefix + form).lower() for form in (text, without_measured(text), without_numbers(text)))
    ]
    return np.asarray(pc.is_in(column, value_set=text_array(matching)))
