"""Counts behind the summary of a manifest, added up batch by batch in memory that does not grow with the rows.

Shapes: N rows of a batch, V values of one attribute.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.labels import Attribute, FloatArray, IntArray
from ssl_pipeline.pseudo_labels.face_filter import equals, rows_with, text_array, without_measured

DECIMALS = 7
"""Of confidences, see `criteria.DECIMALS`, whose module takes longer to import."""
_FINE = 4096
_SCALE: int = 10**DECIMALS
_NUM_COARSE = _SCALE // _FINE + 1


def count_texts(column: Any) -> Counter[str]:
    """Count the texts of a column; nulls are not counted."""
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column.drop_null()).to_pylist()})


class AttributeCounts:
    """Labels of an attribute by status, and the confidences of the accepted ones by value.

    The median is exact to `DECIMALS` decimals, which confidences have: a first pass counts them in coarse bins, a second
    one in fine bins within the coarse bin of the median (a radix selection).
    """

    def __init__(self, attribute: Attribute) -> None:
        self.attribute = attribute
        self.statuses: Counter[str] = Counter()
        self.num_derived = 0
        self.rejection_reasons: Counter[str] = Counter()
        num_values = len(attribute.values)
        self._sum, self._min = np.zeros(num_values), np.full(num_values, np.inf)
        self._coarse = np.zeros((num_values, _NUM_COARSE), np.int64)
        self._fine = np.zeros((2, num_values, _FINE), np.int64)

    @property
    def columns(self) -> list[str]:
        """The columns that `add` reads."""
        name = self.attribute.name
        return [name, *(f"{name}_{suffix}" for suffix in ("status", "label_source", "confidence", "reason"))]

    def add(self, table: pa.Table) -> None:
        """Count a batch, in the first pass."""
        name = self.attribute.name
        self.statuses += count_texts(table[f"{name}_status"])
        self.num_derived += int(equals(table[f"{name}_label_source"], "derived").sum())
        reasons = table[f"{name}_reason"].filter(rows_with(table[f"{name}_status"], "rejected"))
        for reason, number in count_texts(reasons).items():
            self.rejection_reasons[f"{name}: " + without_measured(reason)] += number
        codes, confidences = self._accepted(table)
        np.add.at(self._sum, codes, confidences)
        np.minimum.at(self._min, codes, confidences)
        self._coarse += _histogram(codes, _exact(confidences) // _FINE, self._coarse.shape)

    def add_median(self, table: pa.Table) -> None:
        """Count a batch, in the second pass."""
        codes, confidences = self._accepted(table)
        coarse, fine = np.divmod(_exact(confidences), _FINE)
        for half, bins in enumerate(self._median_bins()):
            inside = coarse == bins[codes]
            self._fine[half] += _histogram(codes[inside], fine[inside], self._fine[half].shape)

    def result(self) -> dict[str, Any]:
        """Return the numbers of known, accepted, rejected and derived labels, and those per value."""
        counts = {status: self.statuses[status] for status in ("known", "accepted", "rejected")}
        per_value = {}
        for code, value in enumerate(self.attribute.values):
            num = int(self._coarse[code].sum())
            per_value[value] = {
                "accepted": num,
                "mean_confidence": round(float(self._sum[code]) / num, DECIMALS) if num else None,
                "min_confidence": round(float(self._min[code]), DECIMALS) if num else None,
                "median_confidence": self._median(code) if num else None,
            }
        return {**counts, "derived": self.num_derived, "per_value": per_value}

    def _accepted(self, table: pa.Table) -> tuple[IntArray, FloatArray]:
        """Return value codes and confidences of the accepted labels."""
        name = self.attribute.name
        accepted = table.filter(rows_with(table[f"{name}_status"], "accepted"))
        values = text_array(self.attribute.values)
        codes = pc.index_in(accepted[name].cast(pa.string()), value_set=values)
        return np.asarray(codes, np.int64), np.asarray(accepted[f"{name}_confidence"], np.float64)

    def _ranks(self, half: int) -> IntArray:
        """Return the rank of the lower or upper middle confidence of each value, from 0."""
        num = self._coarse.sum(axis=1)
        return np.asarray(np.maximum(num - 1 + half, 0) // 2)

    def _median_bins(self) -> list[IntArray]:
        """Return the coarse bin of the lower and of the upper middle confidence, int [V] each."""
        cumulative = np.cumsum(self._coarse, axis=1)
        return [np.asarray((cumulative <= self._ranks(half)[:, None]).sum(axis=1)) for half in (0, 1)]

    def _median(self, code: int) -> float:
        middle = []
        for half, bins in enumerate(self._median_bins()):
            rank = int(self._ranks(half)[code]) - int(self._coarse[code, : bins[code]].sum())
            fine = int((np.cumsum(self._fine[half, code]) <= rank).sum())
            middle.append(int(bins[code]) * _FINE + fine)
        return round(sum(middle) / 2 / _SCALE, DECIMALS)


def _exact(confidences: FloatArray) -> IntArray:
    return np.asarray(np.rint(confidences * _SCALE), np.int64)


def _histogram(rows: IntArray, bins: IntArray, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.asarray(np.bincount(rows * shape[1] + bins, minlength=shape[0] * shape[1]).reshape(shape), np.int64)
