"""Guaranteed precision: the lowest confidence threshold that passes exact binomial tests on held-out faces.

For one value, with probability at least 1 - δ over the draw of the held-out persons: at least `target` of the faces
predicted as this value with at least the chosen confidence are correct. This requires that held-out faces and pool are
exchangeable; docs/selection.md lists what is not guaranteed.

Shapes: M held-out faces, N faces of the pool, G thresholds of a grid.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

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

    def count(self, thresholds: FloatArray) -> tuple[IntArray, IntArray]:
        """Count the units with a face at each threshold or above; a unit counts by the first of these faces.

        Its first face is one draw, whatever the number of its faces: so the counts are binomial, which counts of faces
        of the same persons, or of copies, are not.

        Args:
            thresholds: float [G].

        Returns:
            The units that are correct and all, int [G] each.
        """
        num_correct, num_units = [], []
        for threshold in thresholds:
            rows = np.flatnonzero(self.confidence >= threshold)
            firsts = rows[np.unique(self.units[rows], return_index=True)[1]]
            num_correct.append(self.correct[firsts].sum())
            num_units.append(len(firsts))
        return np.array(num_correct, dtype=np.int64), np.array(num_units, dtype=np.int64)


class GuaranteeTest(NamedTuple):
    """The outcome of testing one value."""

    threshold: float | None
    """The lowest threshold that passed; None if the first failed."""
    reported: float
    """The threshold that the numbers below belong to: that one, else the first."""
    num_held_out: int
    """Held-out units at the reported threshold or above."""
    num_correct: int
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
    num_correct, num_units = evidence.count(grid)
    last = int(fixed_sequence(num_correct, num_units, target=target, delta=delta))
    reported = max(last, 0)
    return GuaranteeTest(
        threshold=float(grid[last]) if last >= 0 else None,
        reported=float(grid[reported]),
        num_held_out=int(num_units[reported]),
        num_correct=int(num_correct[reported]),
        lower_bound=float(precision_lower_bound(num_correct[reported], num_units[reported], delta=delta)),
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
        num_correct: int, any shape.
        num_units: int, same shape.
        delta: δ, in (0, 1).

    Returns:
        float, same shape: the p for which `num_correct` or more have probability δ; 0 if none is correct.

    >>> precision_lower_bound([22, 0], [22, 5], delta=0.1).round(3)
    array([0.901, 0.   ])
    """
    correct, wrong = np.asarray(num_correct), np.asarray(num_units) - np.asarray(num_correct)
    bound = beta.ppf(delta, np.maximum(correct, 1), wrong + 1)
    return np.asarray(np.where(correct > 0, bound, 0.0), dtype=np.float64)


def fixed_sequence(
    num_correct: npt.NDArray[np.integer], num_units: npt.NDArray[np.integer], *, target: float, delta: float
) -> npt.NDArray[np.int64]:
    """Test thresholds from the highest down, each at level δ, and stop at the first failure.

    A test is reached only if all before it passed, so the probability that any false one passes is at most δ for any
    number of thresholds (fixed sequence testing: Bauer 1991; Learn then Test, arXiv:2110.01052). The thresholds and
    their order must not depend on which predictions are correct.

    Args:
        num_correct: correct held-out units at each threshold or above, int [..., G], the highest threshold first.
        num_units: all held-out units there, int [..., G].
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
