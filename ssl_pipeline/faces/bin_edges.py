"""Ages near a border between two values, of which the label is little better than a guess."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ssl_pipeline.labels import BoolArray, FloatArray


def near_bin_edge(
    numbers: FloatArray, bin_edges: Sequence[float], *, within: float, side: Literal["both", "below", "above"]
) -> BoolArray:
    """Mark the numbers that lie near a border b: b - within <= number < b below it, b <= number < b + within above.

    An age is in full years, so that 29 and 30 are the ages within one year of the border at 30.

    Args:
        numbers: float [N], NaN unknown, which is near to nothing.
        bin_edges: a value begins at its border.
        within: how near, above 0.
        side: of the border.

    Returns:
        bool [N].

    >>> near_bin_edge(np.array([28, 29, 30, 31, np.nan]), [30], within=1, side="both")
    array([False,  True,  True, False, False])
    """
    gaps = numbers[:, None] - np.asarray(bin_edges)[None, :]
    least, most = (0 if side == "above" else -within), (0 if side == "below" else within)
    return np.asarray(((gaps >= least) & (gaps < most)).any(axis=1))
