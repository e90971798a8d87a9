"""Selection over pools too large for tables: a column of confidences and one of labels, read in chunks.

A pool is anything that gives its chunks anew each time it is iterated over, as `ColumnPool` does for two (memory-mapped)
columns. Memory holds a chunk, and counts or at most k rows a value, never the pool.

Shapes: N rows in all, n in a chunk, V values, S = 10,001 steps of confidence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray
from ssl_pipeline.pseudo_labels.precision_guarantee import counts_by_confidence
from ssl_pipeline.pseudo_labels.thresholds import DECIMALS

Confidences = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Chunk = tuple[Confidences, Labels]

ROWS_AT_ONCE = 1 << 20
_ROUNDED = 10**DECIMALS


@dataclass(frozen=True)
class ColumnPool:
    """Two columns of one pool, rows in the order of image ids, read in chunks as often as is needed."""

    confidence: Confidences
    """float32 [N], in [0, 1]."""
    labels: Labels
    """uint8 [N], the most probable value of each face."""
    rows_at_once: int = ROWS_AT_ONCE

    def __iter__(self) -> Iterator[Chunk]:
        for start in range(0, len(self.labels), self.rows_at_once):
            rows = slice(start, start + self.rows_at_once)
            yield np.asarray(self.confidence[rows]), np.asarray(self.labels[rows])


def count_columns(pool: Iterable[Chunk], *, num_values: int) -> IntArray:
    """Count faces by value and step of confidence, int [V, S]; what `threshold_grid` asks for."""
    counts = counts_by_confidence(np.zeros(0), np.zeros(0, np.int64), num_values=num_values)
    for confidence, labels in pool:
        counts += counts_by_confidence(confidence, labels, num_values=num_values)
    return counts


def at_least(pool: Iterable[Chunk], thresholds: FloatArray) -> Iterator[BoolArray]:
    """Mark, chunk by chunk, the rows whose confidence reaches their value's threshold, float [V]; infinite for none.

    Equality accepts, as in `thresholds.confident`, on confidences rounded to 7 decimals.
    """
    limits = np.where(np.isfinite(thresholds), np.rint(np.minimum(thresholds, 2.0) * _ROUNDED), np.inf)
    for confidence, labels in pool:
        yield np.asarray(_ranks(confidence) >= limits[labels])


@dataclass(frozen=True)
class Cutoffs:
    """Where the k surest rows of each value end: all above `rank`, and of equals those up to `last_row`."""

    rank: IntArray
    """int [V], confidence in steps of 1e-7."""
    last_row: IntArray
    """int [V], rows from 0."""


def top_k_cutoffs(pool: Iterable[Chunk], *, k: int, num_values: int) -> Cutoffs:
    """Find the `k` surest rows of every value; of equals the earlier row comes first (see `thresholds.top_k_per_value`).

    One pass. Once k rows of a value are at hand, only those that beat the worst of them are looked at.

    Args:
        pool: in the order of image ids.
        k: how many of each value, at least 1.
        num_values: V.
    """
    best = [np.zeros(0, np.int64) for _ in range(num_values)]  # ranks of the rows kept, in order of rows
    rows = [np.zeros(0, np.int64) for _ in range(num_values)]
    waiting = np.full(num_values, -1, dtype=np.int64)  # the rank to beat
    start = 0
    for confidence, labels in pool:
        ranks = _ranks(confidence)
        hopeful = np.flatnonzero(ranks > waiting[labels])
        of = labels[hopeful]
        for value in np.unique(of).tolist():
            places = hopeful[of == value]
            best[value] = np.concatenate([best[value], ranks[places]])
            rows[value] = np.concatenate([rows[value], places + start])
            if len(best[value]) >= k:
                kept = _first_k(best[value], k)
                best[value], rows[value] = best[value][kept], rows[value][kept]
                waiting[value] = best[value].min()
        start += len(labels)
    rank = np.array([kept.min() if len(kept) else 0 for kept in best], dtype=np.int64)
    last = [int(rows[value][best[value] == rank[value]].max(initial=-1)) for value in range(num_values)]
    return Cutoffs(rank, np.array(last, dtype=np.int64))


def within_cutoffs(pool: Iterable[Chunk], cutoffs: Cutoffs) -> Iterator[BoolArray]:
    """Mark, chunk by chunk, the rows that `top_k_cutoffs` found."""
    start = 0
    for confidence, labels in pool:
        ranks, limits = _ranks(confidence), cutoffs.rank[labels]
        accepted = ranks > limits
        equal = np.flatnonzero(ranks == limits)
        accepted[equal] = equal + start <= cutoffs.last_row[labels[equal]]
        yield accepted
        start += len(labels)


def _ranks(confidence: Confidences) -> IntArray:
    """Confidences in steps of 1e-7, int [n], as everywhere rounded to 7 decimals."""
    return np.asarray(np.rint(confidence.astype(np.float64) * _ROUNDED), dtype=np.int64)


def _first_k(ranks: IntArray, k: int) -> IntArray:
    """Places of the k highest ranks, the earlier among equals, ascending."""
    limit = np.partition(ranks, len(ranks) - k)[len(ranks) - k]
    above, equal = np.flatnonzero(ranks > limit), np.flatnonzero(ranks == limit)
    return np.sort(np.concatenate([above, equal[: k - len(above)]])).astype(np.int64)
