"""Who passes a threshold or a rank: ideas over arrays, one a strategy.

Shapes: N faces, T members (views or teachers), V values of one attribute, or K classes.

Confidences are rounded to 7 decimals, about the resolution of float32. So neither the order of a summation nor a
probability stored as float32 decides a tie, or whether a confidence of 0.95 reaches a threshold of 0.95.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray

DECIMALS = 7

TieBreak: TypeAlias = "Sequence[Any] | npt.NDArray[Any] | pd.Series[Any]"


def most_probable(probabilities: FloatArray) -> tuple[IntArray, FloatArray]:
    """Give the most probable column of each row, the first among equals, and its probability to 7 decimals.

    Args:
        probabilities: float [N, V], V ≥ 1.

    Returns:
        int [N] and float [N].
    """
    rounded = np.round(np.asarray(probabilities, dtype=np.float64), DECIMALS)
    return rounded.argmax(axis=1).astype(np.int64), np.asarray(rounded.max(axis=1))


def order_invariant_mean(numbers: FloatArray) -> FloatArray:
    """Mean over the first axis, to the last bit the same whatever the order of the faces; float64 [...]."""
    return np.asarray(np.sort(np.asarray(numbers, dtype=np.float64), axis=0).mean(axis=0))


def confident(probabilities: FloatArray, *, confidence_threshold: float) -> BoolArray:
    """Mark the faces whose most probable class is sure enough (FixMatch, arXiv:2001.07685).

    Args:
        probabilities: calibrated, float [N, K], rows sum to 1.
        confidence_threshold: smallest accepted confidence, in (0, 1]; equality accepts.

    Returns:
        bool [N].

    Raises:
        ValueError: if probabilities is not [N, K].

    >>> confident(np.array([[0.95, 0.05], [0.6, 0.4]]), confidence_threshold=0.95)
    array([ True, False])
    """
    if np.ndim(probabilities) != 2:
        raise ValueError(f"probabilities must be [N, K], got {list(np.shape(probabilities))}")
    return most_probable(probabilities)[1] >= confidence_threshold


def top_k_per_value(
    confidence: FloatArray, chosen: IntArray, *, k: int, num_values: int, tie_break: TieBreak
) -> tuple[BoolArray, IntArray]:
    """Mark the `k` surest faces of every value (the balance of Noisy Student, arXiv:1911.04252).

    Args:
        confidence: float [N].
        chosen: the value each face competes for, int [N] in 0 … `num_values` - 1; -1 does not compete.
        k: how many of each value, at least 1.
        num_values: V.
        tie_break: [N], sortable; of two faces equally sure, the smaller comes first.

    Returns:
        bool [N], among the k; and int [N], the rank from 1 within the value, 0 for a face that does not compete.

    Raises:
        ValueError: if a value is out of range.

    >>> top_k_per_value(np.array([0.9, 0.7, 0.9]), np.array([0, 0, 0]), k=1, num_values=1, tie_break=["b", "c", "a"])
    (array([False, False,  True]), array([2, 3, 1]))
    """
    if len(chosen) and not UNKNOWN <= chosen.min() <= chosen.max() < num_values:
        raise ValueError(f"chosen values must lie in -1 … {num_values - 1}, got {chosen.min()} … {chosen.max()}")
    _, places = np.unique(np.asarray(tie_break, dtype=object), return_inverse=True)
    order = np.lexsort((places, -confidence, chosen))
    starts = np.searchsorted(chosen[order], np.arange(UNKNOWN, num_values))  # the first place of each value
    rank = np.empty(len(chosen), dtype=np.int64)
    rank[order] = np.arange(1, len(chosen) + 1) - starts[chosen[order] - UNKNOWN]
    rank[chosen == UNKNOWN] = 0
    return (rank >= 1) & (rank <= k), rank


def curriculum_size(num_faces: int, *, round_index: int, step_percent: float) -> int:
    """How many of the pool's faces a round accepts (Curriculum Labeling, arXiv:2001.06001, section 3).

    The surest `round_index` · `step_percent` percent, rounded up, until all are.

    >>> [curriculum_size(7, round_index=round_index, step_percent=30) for round_index in (1, 2, 3, 4)]
    [3, 5, 7, 7]
    """
    exactly = num_faces * min(100.0, round_index * step_percent) / 100
    return math.ceil(round(exactly, 6))  # 2 rounds of 30 % of 5 faces are 3, whatever 0.6 is in binary


def self_adaptive_thresholds(probabilities: FloatArray) -> FloatArray:
    """The pool's mean confidence, lowered for values that are rarely predicted (FreeMatch, arXiv:2205.07246, section 4).

    τ(v) = τ · p̄(v) / max p̄, with τ the mean confidence and p̄ the mean probabilities; the paper's running means over
    batches are here means over the whole pool.

    Args:
        probabilities: of the pool, float [N, V], rows sum to 1, N ≥ 1.

    Returns:
        float [V], to 7 decimals.

    >>> self_adaptive_thresholds(np.array([[0.9, 0.1], [0.6, 0.4]]))
    array([0.75, 0.25])
    """
    mean = order_invariant_mean(probabilities)
    mean_confidence = order_invariant_mean(most_probable(probabilities)[1])
    return np.asarray(np.round(mean_confidence * mean / mean.max(), DECIMALS))


def deviation_of_chosen(members: FloatArray, chosen: IntArray) -> FloatArray:
    """How much members differ in the probability of each face's chosen value (UPS, arXiv:2101.06329, section 3).

    Args:
        members: probabilities of each view or teacher, float [T, N, V], T ≥ 2.
        chosen: int [N].

    Returns:
        float [N], the sample standard deviation (over T - 1), to 7 decimals.

    Raises:
        ValueError: with fewer than two members.
    """
    if len(members) < 2:
        raise ValueError(f"a deviation needs at least 2 members, got {len(members)}")
    of_chosen = np.asarray(members, dtype=np.float64)[:, np.arange(len(chosen)), chosen]
    return np.asarray(np.round(of_chosen.std(axis=0, ddof=1), DECIMALS))
