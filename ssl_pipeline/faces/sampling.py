"""Sampling that keeps proportions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import IntArray


def stratified_sample(
    strata: IntArray | Sequence[int] | Sequence[str], *, size: int, rng: np.random.Generator
) -> IntArray:
    """Draw items at random so that every stratum keeps its share.

    Shares are proportional, rounded by largest remainder. No stratum that has items comes to nothing while `size`
    allows one of each; with less room than strata, the largest have one item each. `rng` breaks ties.

    Args:
        strata: the stratum of each item, [N], integers or strings.
        size: the number of items to draw, at least 0; at most N are there to draw.
        rng: the only source of chance.

    Returns:
        Indices into `strata`, ascending, int [min(size, N)].

    Raises:
        ValueError: if `size` is negative or `strata` has not one dimension.

    >>> stratified_sample([0, 0, 0, 0, 0, 0, 1, 1, 1], size=3, rng=np.random.default_rng(0)).size
    3
    """
    items = np.asarray(strata)
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    if items.ndim != 1:
        raise ValueError(f"strata must be [N], got {list(items.shape)}")
    if size >= len(items):
        return np.arange(len(items), dtype=np.int64)
    _, stratum, counts = np.unique(items, return_inverse=True, return_counts=True)
    shuffled = rng.permutation(len(items))
    room = shares(counts, size=size, rng=rng)
    kept = [shuffled[stratum[shuffled] == position][:number] for position, number in enumerate(room)]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def shares(counts: npt.NDArray[np.integer[Any]], *, size: int, rng: np.random.Generator) -> IntArray:
    """Divide `size` places over strata of the given counts, as `stratified_sample` says.

    Args:
        counts: items in each stratum, positive, int [S].
        size: places, at most the sum of counts.
        rng: breaks ties.

    Returns:
        Places of each stratum, int [S]; they sum to `size` and exceed no count.

    >>> shares(np.array([90, 9, 1]), size=10, rng=np.random.default_rng(0))
    array([8, 1, 1])
    """
    lots = rng.permutation(len(counts))
    places = np.zeros(len(counts), dtype=np.int64)
    if size <= len(counts):
        places[np.lexsort((lots, -counts))[:size]] = 1
        return places
    proportional = np.ones(len(counts), dtype=bool)
    while True:  # a stratum whose share is below one has one; the others divide the rest
        rest = size - int((~proportional).sum())
        total = int(counts[proportional].sum())
        below_one = proportional & (counts * rest < total)
        if not below_one.any():
            break
        proportional &= ~below_one
    places[:] = np.where(proportional, counts * rest // total, 1)
    remainders = np.where(proportional, counts * rest % total, -1)
    places[np.lexsort((lots, -remainders))[: size - int(places.sum())]] += 1
    return places
