"""How pure accepted pseudo-labels are, told from a sample that a person has looked at.

The labels are parted into strata, by value or by class. Every stratum is sampled alike, so that each can be judged by
itself; what holds for several of them together weighs each by its size.

Shapes: N labels, H strata.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from ssl_pipeline.labels import IntArray

CONFIDENCE = 0.95
"""Of every interval, two-sided."""


@dataclass(frozen=True)
class PrecisionEstimate:
    """The share of labels that are right, in [0, 1], with its interval."""

    precision: float | None
    """None where nothing was judged."""
    lower: float
    upper: float


def allocate(sizes: npt.ArrayLike, num: int) -> IntArray:
    """Share a sample out to strata alike: a small one gives all it has, the others divide the rest evenly.

    Equal shares, not proportional ones, since a guarantee is made of each value, and rare values are judged by few.

    Args:
        sizes: labels in each stratum, int [H].
        num: labels to draw; more than there are takes all.

    Returns:
        int [H], at most `sizes`; what does not divide goes to the largest strata, of equal ones to the first.

    >>> allocate([500, 3, 40], 24)
    array([11,  3, 10])
    """
    left = np.array(sizes, dtype=np.int64)
    given = np.zeros_like(left)
    missing = min(num, int(left.sum()))
    while missing:
        open_strata = np.flatnonzero(left > 0)
        share = missing // len(open_strata)
        if share == 0:
            open_strata = open_strata[np.argsort(-left[open_strata], kind="stable")][:missing]
            share = 1
        part = np.minimum(left[open_strata], share)
        given[open_strata] += part
        left[open_strata] -= part
        missing -= int(part.sum())
    return given


def sample_stratified(strata: IntArray, num: int, *, seed: int) -> IntArray:
    """Draw labels of every stratum, without replacement.

    Args:
        strata: the stratum of each label, int [N], from 0.
        num: labels to draw in all; see `allocate`.
        seed: the same one draws the same labels from the same strata.

    Returns:
        Their places, int [min(num, N)], rising within each stratum, stratum by stratum.
    """
    rng = np.random.default_rng(seed)
    shares = allocate(np.bincount(strata), num)
    drawn = [
        np.sort(rng.choice(np.flatnonzero(strata == stratum), size=share, replace=False))
        for stratum, share in enumerate(shares)
    ]
    return np.concatenate([np.zeros(0, np.int64), *drawn])


def exact_interval(num_right: float, num_judged: float, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact binomial interval of a share (Clopper and Pearson 1934), two-sided.

    Args:
        num_right: how many were right; a fraction where `num_judged` is an effective number.
        num_judged: of how many, at least `num_right`; 0 gives (0, 1).
        confidence: in (0, 1).

    >>> [round(bound, 3) for bound in exact_interval(19, 20)]
    [0.751, 0.999]
    """
    tail = (1 - confidence) / 2
    wrong = num_judged - num_right
    lower = float(beta.ppf(tail, num_right, wrong + 1)) if num_right > 0 else 0.0
    upper = float(beta.isf(tail, num_right + 1, wrong)) if wrong > 0 else 1.0
    return lower, upper


def weighted_precision(
    num_right: npt.ArrayLike, num_judged: npt.ArrayLike, sizes: npt.ArrayLike, *, confidence: float = CONFIDENCE
) -> PrecisionEstimate:
    """Estimate the precision of several strata together, each weighed by its size.

    p = Σ w_h · right_h / judged_h with w_h = size_h / Σ size. Its interval is the exact binomial one of
    n = 1 / Σ (w_h² / judged_h) labels of which p · n are right: the number of labels that tell as much as these do
    (Kish, *Survey Sampling*, 1965), whatever each stratum's precision. Where strata were sampled in proportion n is the
    number judged, and the interval covers at least as often as it says (Hoeffding 1956); elsewhere it does nearly.

    Args:
        num_right: int [H].
        num_judged: int [H]; a stratum of which nothing was judged is left out, with its weight.
        sizes: labels in each stratum, int [H].
        confidence: of the interval, in (0, 1).
    """
    right, judged, weights = (np.asarray(of, dtype=np.float64) for of in (num_right, num_judged, sizes))
    told = judged > 0
    if not told.any():
        return PrecisionEstimate(None, 0.0, 1.0)
    right, judged, weights = right[told], judged[told], weights[told] / weights[told].sum()
    precision = float(np.clip(weights @ (right / judged), 0, 1))
    if (right == judged).all():
        precision = 1.0  # where rounding would leave a trace of a wrong one
    effective = 1 / float((weights**2 / judged).sum())
    return PrecisionEstimate(precision, *exact_interval(precision * effective, effective, confidence=confidence))
