"""Guaranteed precision: the lowest confidence threshold that passes exact binomial tests on held-out faces.

For one value, with probability at least 1 - δ over the draw of the held-out persons: at least `target` of the faces
predicted as this value with at least the chosen confidence are correct. This requires that held-out faces and pool are
exchangeable; docs/selection.md lists what is not guaranteed.

Shapes: M held-out faces, N faces of the pool, G thresholds of a grid.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray
from ssl_pipeline.pseudo_labels.criteria import DECIMALS

STEPS_PER_UNIT = 10_000
_SCALE = 10**DECIMALS


@dataclass(frozen=True)
class Evidence:
    """M held-out faces predicted as one value."""

    confidence: FloatArray
    """To 7 decimals, float [M]."""
    correct: BoolArray
    """bool [M]"""
    units: IntArray
    """The independent unit of each face, int [M]; see `faces.independence.independent_units`."""
    weights: FloatArray
    """float [M], > 0: how much likelier such a face is in the pool than among the held-out faces; 1 if equally likely."""

    def count(self, thresholds: FloatArray) -> "UnitCounts":
        """Count the units with a face at each threshold or above; a unit counts by the first of these faces.

        Its first face is one draw, whatever the number of its faces: so the counts are binomial, which counts of faces
        of the same persons, or of copies, are not.

        Args:
            thresholds: float [G].
        """
        rows = [np.flatnonzero(self.confidence >= threshold) for threshold in thresholds]
        firsts = [at_least[np.unique(self.units[at_least], return_index=True)[1]] for at_least in rows]
        weights = [self.weights[first] for first in firsts]
        right = [self.correct[first] for first in firsts]
        total = np.array([weight.sum() for weight in weights])
        squares = np.array([(weight**2).sum() for weight in weights])
        effective = np.divide(total**2, squares, out=np.zeros(len(rows)), where=squares > 0)
        share = np.array([weight[one].sum() for weight, one in zip(weights, right, strict=True)])
        share = np.divide(share, total, out=np.zeros(len(rows)), where=total > 0)
        return UnitCounts(
            np.array([one.sum() for one in right], dtype=np.int64),
            np.array([len(first) for first in firsts], dtype=np.int64),
            share * effective,
            effective,
        )


class UnitCounts(NamedTuple):
    """Independent units at each of G thresholds or above."""

    num_correct: IntArray
    """int [G]"""
    num_units: IntArray
    """int [G]"""
    effective_correct: FloatArray
    """float [G]: weighted share of correct units × `effective_units`; `num_correct` without weights."""
    effective_units: FloatArray
    """float [G]: (Σ w)² / Σ w² (Kish 1965); `num_units` without weights."""


class GuaranteeTest(NamedTuple):
    """The outcome of testing one value."""

    threshold: float | None
    """The lowest threshold that passed; None if the first failed."""
    reported: float
    """The threshold that the numbers below belong to: that one, else the first."""
    num_held_out: int
    """Held-out units at the reported threshold or above."""
    num_correct: int
    effective_units: float
    """`num_held_out` without weights, else less."""
    lower_bound: float
    """Of the precision, with confidence 1 - δ."""


def choose_threshold(grid: FloatArray, evidence: Evidence, *, target: float, delta: float) -> GuaranteeTest:
    """Test the thresholds of a grid on held-out faces, see `fixed_sequence`.

    Args:
        grid: float [G], descending, G ≥ 1.
        evidence: the held-out faces predicted as the value.
        target: the precision to guarantee.
        delta: δ.
    """
    counts = evidence.count(grid)
    last = int(fixed_sequence(counts.effective_correct, counts.effective_units, target=target, delta=delta))
    reported = max(last, 0)
    bound = precision_lower_bound(counts.effective_correct[reported], counts.effective_units[reported], delta=delta)
    return GuaranteeTest(
        threshold=float(grid[last]) if last >= 0 else None,
        reported=float(grid[reported]),
        num_held_out=int(counts.num_units[reported]),
        num_correct=int(counts.num_correct[reported]),
        effective_units=float(counts.effective_units[reported]),
        lower_bound=float(bound),
    )


def num_units_needed(target: float, delta: float) -> int:
    """Smallest number of held-out units, all correct, that passes a test: ceil(ln δ / ln target).

    >>> num_units_needed(0.9, 0.1), num_units_needed(0.95, 0.05)
    (22, 59)
    """
    return math.ceil(round(math.log(delta) / math.log(target), 9))


def precision_lower_bound(
    num_correct: npt.ArrayLike, num_units: npt.ArrayLike, *, delta: float
) -> npt.NDArray[np.float64]:
    """Exact one-sided binomial lower bound of a precision, with confidence 1 - δ (Clopper and Pearson 1934).

    Args:
        num_correct: any shape; whole numbers, or effective ones of weighted units.
        num_units: same shape.
        delta: δ, in (0, 1).

    Returns:
        float, same shape: the p for which `num_correct` or more have probability δ; 0 if none is correct.

    >>> precision_lower_bound([22, 0], [22, 5], delta=0.1).round(3)
    array([0.901, 0.   ])
    """
    correct = np.asarray(num_correct, dtype=np.float64)
    wrong = np.maximum(np.asarray(num_units, dtype=np.float64) - correct, 0)
    bound = beta.ppf(delta, np.where(correct > 0, correct, 1), wrong + 1)
    return np.asarray(np.where(correct > 0, bound, 0.0), dtype=np.float64)


def fixed_sequence(
    num_correct: npt.NDArray[Any], num_units: npt.NDArray[Any], *, target: float, delta: float
) -> npt.NDArray[np.int64]:
    """Test thresholds from the highest down, each at level δ, and stop at the first failure.

    A test is reached only if all before it passed, so the probability that any false one passes is at most δ for any
    number of thresholds (fixed sequence testing: Bauer 1991; Learn then Test, arXiv:2110.01052). The thresholds and
    their order must not depend on which predictions are correct.

    Args:
        num_correct: correct held-out units at each threshold or above, [..., G], the highest threshold first.
        num_units: all held-out units there, [..., G].
        target: the precision to guarantee.
        delta: δ.

    Returns:
        int [...], the index of the last threshold that passed; -1 if the first failed.

    >>> fixed_sequence(np.array([30, 50, 55, 90]), np.array([30, 51, 64, 93]), target=0.9, delta=0.1)
    array(1)
    """
    passes = precision_lower_bound(num_correct, num_units, delta=delta) >= target
    return np.asarray(np.cumprod(passes, axis=-1, dtype=np.int64).sum(axis=-1) - 1)


def confidence_steps(confidence: FloatArray) -> npt.NDArray[np.int64]:
    """Round confidences down to steps of 0.0001, int [N]; 0.95 as float32 is step 9,500."""
    rounded = np.rint(np.asarray(confidence, dtype=np.float64) * _SCALE).astype(np.int64)
    return np.asarray(rounded // (_SCALE // STEPS_PER_UNIT))


def threshold_grid(
    confidence: FloatArray, *, held_out_per_pool_face: float, num_needed: int, num_thresholds: int
) -> FloatArray:
    """Choose the thresholds to test for one value from the pool's confidences alone.

    At the first threshold, twice `num_needed` held-out units are expected, or a tenth of all if that is more, but at most
    all. The last includes every face, and those between split the pool's faces evenly. With fewer faces at the first
    threshold, a precise teacher fails too often by chance; with more, one that is precise only at high confidence fails.

    Args:
        confidence: of the pool's faces predicted as the value, float [N].
        held_out_per_pool_face: number of held-out units / number of faces in the pool, over all values.
        num_needed: held-out units that the guarantee needs, see `num_units_needed`.
        num_thresholds: maximum length of the grid.

    Returns:
        float [G], descending, multiples of 0.0001; empty if N is 0.
    """
    total = len(confidence)
    if not total:
        return np.zeros(0)
    counts = np.bincount(confidence_steps(confidence), minlength=STEPS_PER_UNIT + 1)
    num_at_least = np.cumsum(counts[::-1])[::-1]  # pool faces at each step or above
    expected = 2 * num_needed / held_out_per_pool_face if held_out_per_pool_face else total
    first = min(max(expected, total / 10), total)
    sizes = np.ceil(np.linspace(first, total, num_thresholds) if num_thresholds > 1 else [first]).astype(np.int64)
    steps = np.searchsorted(-num_at_least, -np.maximum(sizes, 1), side="right") - 1  # the highest step of that size
    return np.asarray(np.unique(steps)[::-1] / STEPS_PER_UNIT)
