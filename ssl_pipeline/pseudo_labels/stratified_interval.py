"""Confidence interval of a stratified proportion: test inversion with the strata's likeliest proportions.

A bound is the proportion p at which a result as extreme as the observed estimate has probability α. Among the strata's
proportions whose weighted mean is p, the likeliest are taken (profile likelihood bounds: Kabaila and Lloyd, *Statistics
& Probability Letters* 50, 2000), each stratum with two further answers at the overall estimate, so that a stratum with few
answers is not taken for perfect. The probability is the saddlepoint approximation of Lugannani and Rice (*Advances in
Applied Probability* 12, 1980). `benchmarks.audit_intervals` measures coverage and width beside other methods.

Shapes: D results, H strata.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from ssl_pipeline.labels import BoolArray, FloatArray

_NUM_PRIOR = 2.0
"""Further answers per stratum, at the overall estimate; with 1, 50 strata of 2 answers are covered in 93.6 % (0.7 each)."""


def lower_bounds(correct: FloatArray, judged: FloatArray, weights: FloatArray, *, alpha: float) -> FloatArray:
    """Bound the weighted proportion of correct labels from below, with one-sided error α.

    Args:
        correct: float [D, H], between 0 and `judged`.
        judged: answers per stratum, float [H], > 0.
        weights: share of each stratum, float [H], sums to 1.
        alpha: in (0, 0.5).

    Returns:
        float [D], in [0, 1].
    """
    return _bound(correct, judged, weights, _largest_step(judged - correct, judged, weights), alpha)


def upper_bounds(correct: FloatArray, judged: FloatArray, weights: FloatArray, *, alpha: float) -> FloatArray:
    """Bound the weighted proportion of correct labels from above; as `lower_bounds`."""
    wrong = judged - correct
    return 1 - _bound(wrong, judged, weights, _largest_step(wrong, judged, weights), alpha)


def _largest_step(wrong: FloatArray, judged: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the largest change of the estimate by one answer in a stratum with wrong ones, float [D]."""
    return np.asarray(np.where(wrong > 0, weights / judged, 0.0).max(axis=1))


def _bound(correct: FloatArray, judged: FloatArray, weights: FloatArray, step: FloatArray, alpha: float) -> FloatArray:
    """Lower the proportions along the profile until the tail at the estimate, less half a step, has probability α."""
    scale = weights / judged
    estimate = correct @ scale
    all_correct = (correct == judged).all(axis=1)

    def exceeds(multiplier: FloatArray) -> BoolArray:
        proportions = _likeliest(correct + _NUM_PRIOR * estimate[:, None], judged + _NUM_PRIOR, weights, multiplier)
        tail = _tail(proportions, judged, scale, estimate - step / 2)
        exact = np.exp((judged * np.log(np.maximum(proportions, 1e-300))).sum(axis=1))
        return np.asarray(np.where(all_correct, exact, tail) >= alpha)

    multiplier = _bisect(exceeds, len(correct), -3.0, 25.0)
    bound = _likeliest(correct + _NUM_PRIOR * estimate[:, None], judged + _NUM_PRIOR, weights, multiplier) @ weights
    return np.asarray(np.where((correct == 0).all(axis=1), 0.0, np.clip(bound, 0.0, 1.0)))


def _likeliest(correct: FloatArray, judged: FloatArray, weights: FloatArray, multiplier: FloatArray) -> FloatArray:
    """Solve x/p - (n - x)/(1 - p) = λ w for each stratum's proportion p, float [D, H]; λ = sinh(multiplier), [D]."""
    slope = np.sinh(multiplier)[:, None] * weights
    middle = judged + slope
    root = np.sqrt(np.maximum(middle**2 - 4 * slope * correct, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        proportions = np.where(middle > 0, 2 * correct / (middle + root), (middle - root) / (2 * slope))
    return np.asarray(np.clip(np.nan_to_num(proportions), 0.0, 1.0))


def _tail(proportions: FloatArray, judged: FloatArray, scale: FloatArray, value: FloatArray) -> FloatArray:
    """Approximate the probability that Σ scale · Binomial(judged, proportions) is at least `value`, float [D]."""

    def tilted(tilt: FloatArray) -> tuple[FloatArray, FloatArray]:
        exponent = np.clip(np.sinh(tilt)[:, None] * scale, -600.0, 600.0)
        weighted = proportions * np.exp(exponent)
        return weighted / (1 - proportions + weighted), exponent

    tilt = _bisect(lambda tilt: (judged * scale * tilted(tilt)[0]).sum(axis=1) < value, len(value), -16.0, 16.0)
    mean, exponent = tilted(tilt)
    theta = np.sinh(tilt)
    variance = (judged * scale**2 * mean * (1 - mean)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cumulant = (judged * np.log1p(proportions * np.expm1(exponent))).sum(axis=1)
        r = np.sign(theta) * np.sqrt(np.maximum(2 * (theta * value - cumulant), 0.0))
        tail = ndtr(-r) + np.exp(-(r**2) / 2) / np.sqrt(2 * np.pi) * (1 / (theta * np.sqrt(variance)) - 1 / r)
    return np.asarray(np.where(np.isfinite(tail) & (np.abs(r) > 1e-4), np.clip(tail, 0.0, 1.0), 0.5))


def _bisect(
    is_below: Callable[[FloatArray], npt.NDArray[np.bool_]], num: int, low: float, high: float, *, num_steps: int = 36
) -> FloatArray:
    """Find where a condition that holds for small arguments ends, for each of `num` results; float [D]."""
    lows, highs = np.full(num, low), np.full(num, high)
    for _ in range(num_steps):
        middle = (lows + highs) / 2
        below = is_below(middle)
        lows, highs = np.where(below, middle, lows), np.where(below, highs, middle)
    return np.asarray((lows + highs) / 2)
