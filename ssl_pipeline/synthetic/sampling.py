"""Random choices and colors for drawn people and masks."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Rgb = tuple[int, int, int]
ChoiceT = TypeVar("ChoiceT", bound=str)


def choose(rng: np.random.Generator, shares: Mapping[ChoiceT, float]) -> ChoiceT:
    """Choose one key in proportion to its share; the result depends on the order of the keys.

    Args:
        rng: generator.
        shares: {key: share}, shares of any sum above 0.
    """
    edges = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(edges, rng.uniform(0, edges[-1]), side="right"))]


def jitter(
    rng: np.random.Generator,
    color: Sequence[float],
    *,
    spread: float,
    channel_spread: float,
    limits: tuple[int, int] = (0, 255),
) -> Rgb:
    """Shift a color as a whole, then each channel by itself; spreads are standard deviations in gray levels."""
    shifted = np.asarray(color) + rng.normal(0, spread) + rng.normal(0, channel_spread, 3)
    red, green, blue = np.clip(shifted, *limits).astype(int).tolist()
    return red, green, blue
