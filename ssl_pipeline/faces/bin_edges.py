"""Ages near a bin edge, where a label is uncertain."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ssl_pipeline.labels import BoolArray, FloatArray


def near_bin_edge(
    numbers: FloatArray, bin_edges: Sequence[float], *, within: float, side: Literal["both", "below", "above"]
) -> BoolArray:
    """Mark the numbers near a bin edge e: e - within <= number < e below it, e <= number < e + within above it.

    Ages are full years, so 29 and 30 are the ages within one year of the edge at 30.

    Args:
        numbers: float [N]; NaN (unknown) is never near.
        bin_edges: lower edges of the bins; a bin includes its lower edge.
        within: distance, above 0.
        side: side of the edge.

    Returns:
        bool [N].

    >>> near_bin_edge(np.array([28, 29, 30, 31, np.nan]), [30], within=1, side="both")
    array([False,  True,  True, False, False])
    """
    distances = numbers[:, None] - np.asarray(bin_edges)[None, :]
    lower, upper = (0 if side == "above" else -within), (0 if side == "below" else within)
    return np.asarray(((distances >= lower) & (distances < upper)).any(axis=1))
