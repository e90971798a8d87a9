"""The precision guarantee in simulation: how often it is broken in ten thousand draws with known truth.

    python -m benchmarks.precision_guarantee

A simulated teacher is a curve: the probability of being right at each confidence. A draw samples held-out faces, right or
wrong by that curve, and a pool, and chooses a threshold as `precision_guarantee` does. The guarantee is broken if a
threshold is chosen and the teacher's precision at or above it is below the target: in the whole population, which is what
is guaranteed, or among the accepted faces of the pool. Each line counts the draws that accept anything and the broken
guarantees of both kinds, next to the number allowed (δ of the draws, plus four standard deviations of sampling); then the
mean precision and the accepted share of the pool.
"""

import math
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
import typer

from ssl_pipeline.pseudo_labels.precision_guarantee import (
    Evidence,
    fixed_sequence,
    num_units_needed,
    threshold_grid,
)

Curve = Callable[[np.ndarray], np.ndarray]


def overconfident(confidence: np.ndarray) -> np.ndarray:
    """The curve of a network with logits twice too large: a confidence of 0.95 is right in 81 % of cases."""
    odds = (confidence / np.maximum(1 - confidence, 1e-12)) ** 0.5
    return np.asarray(odds / (1 + odds))


TEACHERS: dict[str, Curve] = {
    "calibrated": lambda confidence: confidence,
    "overconfident": overconfident,
    "worst at its surest": lambda confidence: np.where(confidence > 0.98, 0.88, 0.97),
    "just below 0.9": lambda confidence: np.full_like(confidence, 0.8999),  # any acceptance breaks the guarantee
}


class Result(NamedTuple):
    """Counts over the draws of one setting."""

    num_draws: int
    num_kept: int
    """Draws with a threshold for at least one value."""
    num_broken: int
    """Draws in which the population's precision is below the target at some value's threshold."""
    num_broken_in_pool: int
    """Draws in which the precision of the pool's accepted faces is below the target for some value."""
    precision: float
    """Mean precision of accepted faces, over the draws that accept any."""
    acceptance: float
    """Mean accepted share of the pool."""

    def most_allowed(self, delta: float) -> float:
        """Return δ of the draws plus four standard deviations of sampling."""
        return self.num_draws * delta + 4 * math.sqrt(self.num_draws * delta * (1 - delta))


def simulate(
    curve: Curve,
    *,
    num_draws: int,
    num_held_out: int,
    num_pool: int = 3000,
    target: float = 0.9,
    delta: float = 0.1,
    num_values: int = 1,
    num_thresholds: int = 20,
    seed: int = 0,
) -> Result:
    """Sample held-out faces and pools, choose thresholds, compare with the truth.

    Args:
        curve: probability of being right at each confidence.
        num_draws: number of draws.
        num_held_out: held-out faces per value.
        num_pool: faces of the pool per value.
        target: the guaranteed precision.
        delta: δ, for all values together.
        num_values: each value is tested at δ / num_values; one that fails breaks the guarantee of all.
        num_thresholds: size of the grid.
        seed: of the draws.
    """
    rng, test_delta = np.random.default_rng(seed), delta / num_values
    num_tests = num_draws * num_values
    thresholds = np.full((num_tests, num_thresholds), np.inf)
    num_right, num_faces = (
        np.zeros((num_tests, num_thresholds), np.int64),
        np.zeros((num_tests, num_thresholds), np.int64),
    )
    pools = sample_confidence(rng, (num_tests, num_pool)).astype(np.float32)
    for test in range(num_tests):
        grid = threshold_grid(
            pools[test],
            held_out_per_pool_face=num_held_out / num_pool,
            num_needed=num_units_needed(target, test_delta),
            num_thresholds=num_thresholds,
        )
        confidence = sample_confidence(rng, num_held_out)
        right = rng.random(num_held_out) < curve(confidence)
        thresholds[test, : len(grid)] = grid
        evidence = Evidence(confidence, right, np.arange(num_held_out))
        num_right[test, : len(grid)], num_faces[test, : len(grid)] = evidence.count(grid)
    last = fixed_sequence(num_right, num_faces, target=target, delta=test_delta)
    chosen = np.where(last >= 0, thresholds[np.arange(num_tests), np.maximum(last, 0)], np.inf)
    accepted = pools >= chosen[:, None]
    num_accepted = accepted.sum(axis=1)
    pool_precision = np.where(accepted, curve(pools.astype(np.float64)), 0).sum(axis=1) / np.maximum(num_accepted, 1)
    kept = num_accepted > 0
    per_draw = (num_draws, num_values)
    return Result(
        num_draws=num_draws,
        num_kept=int(kept.reshape(per_draw).any(axis=1).sum()),
        num_broken=int((kept & (population_precision(curve, chosen) < target)).reshape(per_draw).any(axis=1).sum()),
        num_broken_in_pool=int((kept & (pool_precision < target)).reshape(per_draw).any(axis=1).sum()),
        precision=float(pool_precision[kept].mean()) if kept.any() else math.nan,
        acceptance=float(num_accepted.mean() / num_pool),
    )


def sample_confidence(rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    """Sample confidences, most of them near 1: 1 - u³ / 2 for uniform u, to 7 decimals."""
    return np.round(1 - 0.5 * rng.random(shape) ** 3, 7)


def population_precision(curve: Curve, thresholds: np.ndarray) -> np.ndarray:
    """Compute the population's precision at or above each threshold, on a fine grid over u."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    confidence = 1 - 0.5 * u**3  # descending
    precision = np.cumsum(curve(confidence)) / np.arange(1, len(u) + 1)
    positions = np.searchsorted(-confidence, -np.minimum(thresholds, 1.0), side="right")
    return np.asarray(precision[np.clip(positions - 1, 0, len(u) - 1)])


def main(
    draws: Annotated[int, typer.Option(help="Draws per setting.")] = 10_000,
    target: Annotated[float, typer.Option()] = 0.9,
    delta: Annotated[float, typer.Option()] = 0.1,
) -> None:
    """Print a line per teacher, number of held-out faces and number of values."""
    started = time.perf_counter()
    print(f"{draws:,} draws each, precision {target} guaranteed with confidence {1 - delta:.4g}")
    print(
        f"{'teacher':20} {'values':>6} {'held-out':>6} {'kept':>6} {'broken':>6} {'in pool':>7} {'allowed':>7}", end=" "
    )
    print(f"{'precision':>6} {'accepted':>8}")
    for name, curve in TEACHERS.items():
        for num_values, num_held_out in ((1, 50), (1, 200), (1, 1000), (6, 200)):
            num_draws = draws if num_values == 1 else draws // 5
            result = simulate(
                curve, num_draws=num_draws, num_held_out=num_held_out, target=target, delta=delta, num_values=num_values
            )
            counts = f"{result.num_kept:6,} {result.num_broken:6,} {result.num_broken_in_pool:7,}"
            print(f"{name:20} {num_values:6} {num_held_out:6} {counts} {result.most_allowed(delta):7,.0f}", end=" ")
            print(f"{result.precision:6.3f} {result.acceptance:8.1%}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
