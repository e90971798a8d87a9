"""Stratified sampling of an exact size that keeps rare strata."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ssl_pipeline.labels import IntArray


def stratified_sample(
    strata: IntArray | Sequence[int] | Sequence[str], *, size: int, rng: np.random.Generator
) -> IntArray:
    """Sample items without replacement, in proportion to the size of their strata.

    Quotas are rounded by the largest remainder. Every stratum gets at least one item if `size` allows it; if not, the
    largest strata get one item each. (scikit-learn's `resample(stratify=...)` drops rare strata.)

    Args:
        strata: stratum of each item, [N], integers or strings.
        size: number of items to sample, at least 0; all N are returned if it exceeds N.
        rng: random generator; also breaks ties.

    Returns:
        Indices into `strata`, ascending, int [min(size, N)].

    Raises:
        ValueError: if `size` is negative or `strata` is not one-dimensional.

    >>> stratified_sample([0, 0, 0, 0, 0, 0, 1, 1, 1], size=3, rng=np.random.default_rng(0)).size
    3
    """
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    if np.ndim(strata) != 1:
        raise ValueError(f"strata must be [N], got {list(np.shape(strata))}")
    order = rng.permutation(len(strata))
    shuffled = pd.Series(np.asarray(strata)[order])
    groups = shuffled.groupby(shuffled)
    counts, rank = groups.transform("size").to_numpy(), groups.cumcount().to_numpy()
    quotas = counts * size / max(len(strata), 1)
    excess = rank + 1 - quotas
    # Items within the quota come first, then those that exceed it least: the largest remainders.
    priority = np.where(excess > 0, excess, excess / np.maximum(quotas, 1))
    first_of_stratum = np.where(rank == 0, -counts, 0)
    return np.sort(order[np.lexsort((priority, first_of_stratum))[:size]]).astype(np.int64)
