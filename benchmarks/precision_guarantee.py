"""Is a guaranteed precision kept? Ten thousand draws of held-out faces and pool, with the truth known.

    python -m benchmarks.precision_guarantee

A teacher is a curve: how often it is right at each confidence. A draw takes held-out faces, right or wrong by that curve,
and a pool, and chooses a threshold as `precision_guarantee` does. The guarantee is broken if a threshold is chosen and the
teacher's precision at it or above is below the target: in the whole population, which is what is guaranteed, or among the
accepted faces of the pool, by the curve. For each setting the lines count the draws in which something is accepted, the
broken guarantees of both kinds beside the most that are allowed (δ of the draws, and four standard deviations of
sampling), the precision in mean, and the share of the pool that is accepted.
"""

import math
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
import typer

from ssl_pipeline.pseudo_labels.precision_guarantee import (
    count_correct,
    fixed_sequence,
    num_faces_needed,
    threshold_grid,
)

Curve = Callable[[np.ndarray], np.ndarray]


def overconfident(confidence: np.ndarray) -> np.ndarray:
    """As if the network's logits were twice too large: 0.95 is right in 81 % of cases."""
    odds = (confidence / np.maximum(1 - confidence, 1e-12)) ** 0.5
    return np.asarray(odds / (1 + odds))


TEACHERS: dict[str, Curve] = {
    "calibrated": lambda confidence: confidence,
    "overconfident": overconfident,
    "worst at its surest": lambda confidence: np.where(confidence > 0.98, 0.88, 0.97),
    "just below 0.9": lambda confidence: np.full_like(confidence, 0.8999),  # whatever is accepted breaks the guarantee
}


class Result(NamedTuple):
    """What became of the draws of one setting."""

    num_draws: int
    num_kept: int
    """Draws in which some value got a threshold."""
    num_broken: int
    """Draws in which, at some value's threshold, the population's precision is below the target."""
    num_broken_in_pool: int
    """The same of the pool's accepted faces."""
    precision: float
    """Mean precision of accepted faces over the draws with any."""
    acceptance: float
    """Mean share of the pool."""

    def most_allowed(self, delta: float) -> float:
        """δ of the draws and four standard deviations of their sampling."""
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
    """Draw, choose, compare with the truth.

    Args:
        curve: probability of being right at each confidence.
        num_draws: how often.
        num_held_out: held-out faces of each value.
        num_pool: faces of the pool of each value.
        target: the guarantee.
        delta: δ, for all values at once if there are several.
        num_values: with several, each is tested at δ / their number, and one that fails breaks the guarantee of all.
        num_thresholds: of the grid.
        seed: of the draws.
    """
    rng, of_each = np.random.default_rng(seed), delta / num_values
    tests = num_draws * num_values
    thresholds = np.full((tests, num_thresholds), np.inf)
    num_right, num_faces = np.zeros((tests, num_thresholds), np.int64), np.zeros((tests, num_thresholds), np.int64)
    pools = draw_confidence(rng, (tests, num_pool)).astype(np.float32)
    for test in range(tests):
        grid = threshold_grid(
            pools[test],
            held_out_per_pool_face=num_held_out / num_pool,
            num_needed=num_faces_needed(target, of_each),
            num_thresholds=num_thresholds,
        )
        confidence = draw_confidence(rng, num_held_out)
        right = rng.random(num_held_out) < curve(confidence)
        thresholds[test, : len(grid)] = grid
        num_right[test, : len(grid)], num_faces[test, : len(grid)] = count_correct(confidence, right, grid)
    last = fixed_sequence(num_right, num_faces, target=target, delta=of_each)
    chosen = np.where(last >= 0, thresholds[np.arange(tests), np.maximum(last, 0)], np.inf)
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


def draw_confidence(rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    """Confidences that crowd near 1: 1 - u³ / 2, to 7 decimals."""
    return np.round(1 - 0.5 * rng.random(shape) ** 3, 7)


def population_precision(curve: Curve, thresholds: np.ndarray) -> np.ndarray:
    """The precision among all faces of the population at each threshold or above, by a fine grid over u."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    confidence = 1 - 0.5 * u**3  # falling
    precision = np.cumsum(curve(confidence)) / np.arange(1, len(u) + 1)
    places = np.searchsorted(-confidence, -np.minimum(thresholds, 1.0), side="right")
    return np.asarray(precision[np.clip(places - 1, 0, len(u) - 1)])


def main(
    draws: Annotated[int, typer.Option(help="For each setting.")] = 10_000,
    target: Annotated[float, typer.Option()] = 0.9,
    delta: Annotated[float, typer.Option()] = 0.1,
) -> None:
    """Print a line for each teacher, number of held-out faces and number of values."""
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
