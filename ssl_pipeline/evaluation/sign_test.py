"""Exact sign test of two models over independent units, and Holm's correction over several tests.

Shapes: N faces, U units, T tests.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class SignTest:
    """Units on which the second model has more, or fewer, correct faces than the first."""

    num_units: int
    num_better: int
    num_worse: int
    p_value: float
    """Probability of at least `num_worse` worse units if better and worse ones are equally likely."""


def sign_test(first_is_correct: BoolArray, second_is_correct: BoolArray, units: IntArray) -> SignTest:
    """Test whether the second model is worse, one-sided; units on which both have equally many correct faces are ties.

    The test is exact for any number of units. With one face per unit it is McNemar's (Psychometrika 12, 1947).

    Args:
        first_is_correct: bool [N].
        second_is_correct: bool [N].
        units: the unit of each face, int [N], see `faces.independence`.
    """
    _, positions = np.unique(units, return_inverse=True)
    gains = np.bincount(positions, weights=second_is_correct.astype(np.float64) - first_is_correct)
    num_better, num_worse = int((gains > 0).sum()), int((gains < 0).sum())
    num_decided = num_better + num_worse
    p_value = binomtest(num_worse, num_decided, alternative="greater").pvalue if num_decided else 1.0
    return SignTest(len(gains), num_better, num_worse, float(p_value))


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values so that rejecting those ≤ α keeps the probability of any false rejection ≤ α.

    Holm, Scandinavian Journal of Statistics 6, 1979; valid under any dependence of the tests.

    Args:
        p_values: [T].

    Returns:
        float [T], in [0, 1].

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return adjusted
