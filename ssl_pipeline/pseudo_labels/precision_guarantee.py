"""Guaranteed precision: the lowest threshold that is right often enough on faces whose labels the teacher never saw.

The guarantee, for one value: with probability at least 1 - δ over the draw of the held-out faces, the teacher is right on
at least `target` of the faces that it calls so with at least the chosen confidence. It holds if held-out faces and pool
are exchangeable; see docs/selection.md for what it does not say.

Shapes: V values, G thresholds of a grid, S = 10,001 steps of confidence.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from ssl_pipeline.labels import FloatArray, IntArray
from ssl_pipeline.pseudo_labels.thresholds import DECIMALS

STEPS_PER_UNIT = 10_000
_ROUNDED = 10**DECIMALS


def faces_needed(target: float, delta: float) -> int:
    """How many held-out faces, all of them right, it takes to guarantee anything: ceil(ln δ / ln target).

    >>> faces_needed(0.9, 0.1), faces_needed(0.95, 0.05)
    (22, 59)
    """
    return math.ceil(round(math.log(delta) / math.log(target), 9))


def precision_lower_bound(
    num_right: npt.ArrayLike, num_faces: npt.ArrayLike, *, delta: float
) -> npt.NDArray[np.float64]:
    """The exact binomial bound below a precision, with confidence 1 - δ (Clopper and Pearson 1934, one-sided).

    Args:
        num_right: how many were right, int, any shape.
        num_faces: of how many.
        delta: δ, in (0, 1).

    Returns:
        float of the same shape: the p at which so many right or more have probability δ; 0 where none was right.

    >>> precision_lower_bound([22, 0], [22, 5], delta=0.1).round(3)
    array([0.901, 0.   ])
    """
    right, wrong = np.asarray(num_right), np.asarray(num_faces) - np.asarray(num_right)
    bound = beta.ppf(delta, np.maximum(right, 1), wrong + 1)
    return np.asarray(np.where(right > 0, bound, 0.0), dtype=np.float64)


def fixed_sequence(
    num_right: npt.NDArray[np.integer], num_faces: npt.NDArray[np.integer], *, target: float, delta: float
) -> npt.NDArray[np.int64]:
    """Test thresholds from the highest down, each at δ, and stop at the first that fails.

    Since a test is reached only when all before it have passed, the chance that any false one passes is at most δ
    (fixed sequence testing: Bauer 1991; Learn then Test, arXiv:2110.01052), however many thresholds there are, as long
    as the thresholds and their order do not depend on what turned out right.

    Args:
        num_right: held-out faces that were right at each threshold, int [..., G], from the highest threshold down.
        num_faces: of how many.
        target: the precision to guarantee.
        delta: δ.

    Returns:
        int [...], the last threshold that passed, -1 if the first failed.

    >>> fixed_sequence(np.array([30, 50, 55, 90]), np.array([30, 51, 64, 93]), target=0.9, delta=0.1)
    array(1)
    """
    passes = precision_lower_bound(num_right, num_faces, delta=delta) >= target
    return np.asarray(np.cumprod(passes, axis=-1, dtype=np.int64).sum(axis=-1) - 1)


def confidence_steps(confidence: FloatArray) -> npt.NDArray[np.int64]:
    """Number confidences by steps of 0.0001, rounded down, so that 0.95 as float32 is step 9,500; int [N]."""
    rounded = np.rint(np.asarray(confidence, dtype=np.float64) * _ROUNDED).astype(np.int64)
    return np.asarray(rounded // (_ROUNDED // STEPS_PER_UNIT))


def counts_by_confidence(
    confidence: FloatArray, chosen: npt.NDArray[np.integer], *, num_values: int
) -> npt.NDArray[np.int64]:
    """Count faces by value and by step of confidence. Counts of parts of a pool add up.

    Args:
        confidence: in [0, 1], float [N].
        chosen: int [N], in 0 … V - 1.
        num_values: V.

    Returns:
        int [V, S].
    """
    places = chosen.astype(np.int64) * (STEPS_PER_UNIT + 1) + confidence_steps(confidence)
    counts = np.bincount(places, minlength=num_values * (STEPS_PER_UNIT + 1))
    return counts.reshape(num_values, STEPS_PER_UNIT + 1).astype(np.int64)


def threshold_grid(counts: IntArray, *, unseen_per_pool_face: float, least: int, num_thresholds: int) -> FloatArray:
    """Choose the thresholds to test for one value, by the pool's confidences alone.

    Above the first threshold, twice `least` held-out faces are to be expected, or a tenth of all if that is more (all, if
    there are fewer), above the last all of them; between, they split the pool's faces evenly. Fewer at first would fail
    a good teacher too often by chance, more would miss one that is good only where it is surest.

    Args:
        counts: pool faces of the value by step of confidence, int [S].
        unseen_per_pool_face: how many held-out faces there are to each of the pool.
        least: held-out faces needed to guarantee anything.
        num_thresholds: at most so many.

    Returns:
        float [G], descending, multiples of 0.0001; none if the pool has no such face.
    """
    at_least = np.cumsum(counts[::-1])[::-1]  # pool faces at each step or above
    total = int(at_least[0])
    if not total:
        return np.zeros(0)
    first = min(max(2 * least / unseen_per_pool_face, total / 10) if unseen_per_pool_face else total, total)
    wanted = np.ceil(np.linspace(first, total, num_thresholds) if num_thresholds > 1 else [first]).astype(np.int64)
    steps = np.searchsorted(-at_least, -np.maximum(wanted, 1), side="right") - 1  # the highest step with so many
    return np.asarray(np.unique(steps)[::-1] / STEPS_PER_UNIT)


def count_right(
    confidence: FloatArray, right: npt.NDArray[np.bool_], thresholds: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the held-out faces of one value at each threshold or above, and those that were right.

    Args:
        confidence: to 7 decimals, float [M].
        right: bool [M].
        thresholds: float [G].

    Returns:
        right ones and all, int [G] each.
    """
    order = np.argsort(confidence, kind="stable")
    places = np.searchsorted(confidence[order], thresholds, side="left")
    right_from = np.concatenate([np.cumsum(right[order][::-1], dtype=np.int64)[::-1], [0]])
    return right_from[places], (len(confidence) - places).astype(np.int64)
