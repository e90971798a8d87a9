"""Random numbers that depend on their place only: seed, epoch and position in the epoch, not on earlier numbers.

Resuming a training therefore needs no saved generator, and how its batches are loaded, split or augmented changes nothing.
"""

import numpy as np
import numpy.typing as npt
import torch

from ssl_pipeline.labels import FloatArray, IntArray

_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF


def seed_generators(*numbers: int) -> None:
    """Seed torch's generators from a few integers, e.g. (seed, epoch, step)."""
    seed = int(_mixed(*numbers)) & 0x7FFFFFFFFFFFFFFF
    # not torch.manual_seed: while CUDA is not initialized, each call formats and queues a traceback
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def uniform_draws(seed: int, epoch: int, positions: IntArray, *, num: int) -> FloatArray:
    """Draw numbers for each place in an epoch.

    Args:
        seed: the run's, or a stream's.
        epoch: from 0.
        positions: in the epoch, int [B], from 0.
        num: draws for each position.

    Returns:
        float64 [B, num], uniform in [0, 1).
    """
    states = _mixed(seed, epoch, positions.astype(np.uint64))[:, None]
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64
        bits = _finalized(states + np.uint64(_GOLDEN) * np.arange(1, num + 1, dtype=np.uint64))
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53)


def _mixed(*numbers: int | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix integers into one; nearby numbers give unrelated results."""
    mixed = np.asarray(_GOLDEN, np.uint64)
    with np.errstate(over="ignore"):
        for number in numbers:
            added = np.uint64(number & _MASK) if isinstance(number, int) else number
            added = added + np.uint64(_GOLDEN) + (mixed << np.uint64(6)) + (mixed >> np.uint64(2))
            mixed = _finalized(mixed ^ added)
    return mixed


def _finalized(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))
