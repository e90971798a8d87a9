"""Acceptance criteria over arrays: confidences, ranks, adaptive thresholds, weights and disagreement.

Shapes: N faces, T members (views or teachers), V values of one attribute, or K classes.

Confidences are rounded to 7 decimals, about the resolution of float32, so that neither summation order nor storage as
float32 decides ties and comparisons with thresholds.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray

DECIMALS = 7

TieBreak: TypeAlias = "Sequence[Any] | npt.NDArray[Any] | pd.Series[Any]"


def most_probable(probabilities: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the most probable column of each row, the first among equals, and its probability to 7 decimals.

    Args:
        probabilities: float [N, V], V ≥ 1.

    Returns:
        int [N] and float [N].
    """
    rounded = np.round(np.asarray(probabilities, dtype=np.float64), DECIMALS)
    return rounded.argmax(axis=1).astype(np.int64), np.asarray(rounded.max(axis=1))


def order_invariant_mean(numbers: FloatArray) -> FloatArray:
    """Mean over the first axis, identical to the last bit for every order of the rows; float64 [...]."""
    if numbers.ndim > 1:  # column by column, in the order in which numpy adds up rows
        columns = [np.sort(column).astype(np.float64) for column in numbers.reshape(len(numbers), -1).T]
        totals = np.array([np.add.accumulate(column)[-1] for column in columns])
        return np.asarray(totals.reshape(numbers.shape[1:]) / len(numbers))
    return np.asarray(np.sort(numbers).astype(np.float64).mean())


def top_k_per_value(
    confidence: FloatArray, predicted: IntArray, *, k: int, num_values: int, tie_break: TieBreak
) -> tuple[BoolArray, IntArray]:
    """Mark the `k` most confident faces of every value (class balance of Noisy Student, arXiv:1911.04252).

    Args:
        confidence: float [N].
        predicted: the value of each face, int [N] in 0 … `num_values` - 1; -1 excludes the face.
        k: faces per value, at least 1.
        num_values: V.
        tie_break: [N], sortable; of two equal confidences, the smaller key comes first.

    Returns:
        bool [N], among the k; and int [N], the rank from 1 within the value, 0 for an excluded face.

    Raises:
        ValueError: if a value is out of range.

    >>> top_k_per_value(np.array([0.9, 0.7, 0.9]), np.array([0, 0, 0]), k=1, num_values=1, tie_break=["b", "c", "a"])
    (array([False, False,  True]), array([2, 3, 1]))
    """
    if len(predicted) and not UNKNOWN <= predicted.min() <= predicted.max() < num_values:
        raise ValueError(f"values must lie in -1 … {num_values - 1}, got {predicted.min()} … {predicted.max()}")
    keys = pa.array(tie_break) if len(tie_break) else pa.array([], pa.string())
    tie_ranks = np.asarray(pc.rank(keys, tiebreaker="dense"))
    order = np.lexsort((tie_ranks, -confidence, predicted))
    starts = np.searchsorted(predicted[order], np.arange(UNKNOWN, num_values))  # of each value in `order`
    rank = np.empty(len(predicted), dtype=np.int64)
    rank[order] = np.arange(1, len(predicted) + 1) - starts[predicted[order] - UNKNOWN]
    rank[predicted == UNKNOWN] = 0
    return (rank >= 1) & (rank <= k), rank


def curriculum_size(num_faces: int, *, round_index: int, step_percent: float) -> int:
    """Number of faces that a round accepts (Curriculum Labeling, arXiv:2001.06001, section 3).

    min(100, `round_index` · `step_percent`) percent of the pool, rounded up.

    >>> [curriculum_size(7, round_index=round_index, step_percent=30) for round_index in (1, 2, 3, 4)]
    [3, 5, 7, 7]
    """
    size = num_faces * min(100.0, round_index * step_percent) / 100
    return math.ceil(round(size, 6))  # 2 rounds of 30 % of 5 faces are 3, despite binary fractions


def self_adaptive_thresholds(probabilities: FloatArray) -> FloatArray:
    """The pool's mean confidence, lowered for rarely predicted values (FreeMatch, arXiv:2205.07246, section 4).

    τ(v) = τ · p̄(v) / max p̄, with τ the mean confidence and p̄ the mean probabilities. The paper's running means over
    batches are here means over the pool.

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


def mean_and_deviation(confidence: FloatArray) -> tuple[float, float]:
    """Mean μ and standard deviation σ (over N) of confidences, float [N], N ≥ 1."""
    mean = float(order_invariant_mean(confidence))
    return mean, math.sqrt(float(order_invariant_mean((confidence - mean) ** 2)))


def gaussian_weights(confidence: FloatArray, *, mean: float, deviation: float) -> FloatArray:
    """Weigh labels by a truncated Gaussian of their confidence (SoftMatch, arXiv:2301.10921, section 3).

    w = exp(-max(μ - c, 0)² / (2 σ²)): 1 from the mean μ upward, decreasing below it. If σ is 0, w is 0 below μ.

    Args:
        confidence: float [N].
        mean: μ over the pool; the paper uses running means over batches.
        deviation: σ over the pool.

    Returns:
        float [N], in [0, 1].

    >>> gaussian_weights(np.array([0.9, 0.8, 0.6]), mean=0.8, deviation=0.2).round(3)
    array([1.   , 1.   , 0.607])
    """
    below = np.maximum(mean - np.asarray(confidence, dtype=np.float64), 0.0)
    if deviation < 1e-9:  # equal confidences, up to the rounding of their mean
        return (below < 1e-9).astype(np.float64)
    return np.asarray(np.exp(-(below**2) / (2 * deviation**2)))


def vote_disagreement(members: FloatArray, predicted: IntArray) -> FloatArray:
    """Standard deviation over members of the predicted value's probability (UPS, arXiv:2101.06329, section 3).

    Args:
        members: probabilities by each view or teacher, float [T, N, V], T ≥ 2.
        predicted: int [N].

    Returns:
        float [N], the sample standard deviation (over T - 1), to 7 decimals.

    Raises:
        ValueError: with fewer than two members.
    """
    if len(members) < 2:
        raise ValueError(f"a deviation needs at least 2 members, got {len(members)}")
    probabilities = np.asarray(members, dtype=np.float64)[:, np.arange(len(predicted)), predicted]
    return np.asarray(np.round(probabilities.std(axis=0, ddof=1), DECIMALS))
