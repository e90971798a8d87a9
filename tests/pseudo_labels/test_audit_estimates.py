"""Stratified sampling, exact intervals, and estimates weighted by stratum size."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ssl_pipeline.pseudo_labels.audit import allocate, estimate_precision, exact_interval, sample_stratified
from ssl_pipeline.pseudo_labels.stratified_interval import lower_bounds, upper_bounds


@pytest.mark.parametrize(
    ("sizes", "num", "expected"),
    [
        ([100, 100], 10, [5, 5]),
        ([100, 2, 100], 11, [5, 2, 4]),  # what does not divide goes to the first of the largest
        ([50, 100], 3, [1, 2]),
        ([3, 4], 100, [3, 4]),
        ([0, 7], 5, [0, 5]),
        ([], 5, []),
    ],
)
def test_strata_get_equal_shares_and_small_ones_give_all(sizes: list[int], num: int, expected: list[int]) -> None:
    assert allocate(sizes, num).tolist() == expected


def test_the_sample_has_the_allocated_number_per_stratum_without_repetition() -> None:
    strata = np.random.default_rng(0).choice(4, size=500, p=[0.7, 0.2, 0.09, 0.01])
    places = sample_stratified(strata, 60, seed=1)
    assert len(set(places.tolist())) == 60
    assert np.bincount(strata[places]).tolist() == allocate(np.bincount(strata), 60).tolist()
    assert places.tolist() == sample_stratified(strata, 60, seed=1).tolist()
    assert places.tolist() != sample_stratified(strata, 60, seed=2).tolist()


def test_every_label_of_a_stratum_is_equally_likely() -> None:
    drawn = np.concatenate([sample_stratified(np.array([0] * 8 + [1] * 4), 4, seed=seed) for seed in range(2000)])
    counts = np.bincount(drawn, minlength=12)
    assert np.abs(counts[:8] / 2000 - 2 / 8).max() < 0.05 and np.abs(counts[8:] / 2000 - 2 / 4).max() < 0.05


@pytest.mark.parametrize("num_judged", [1, 7, 40])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_equals_scipys_exact_one(num_judged: int, confidence: float) -> None:
    for num_right in range(num_judged + 1):
        reference = binomtest(num_right, num_judged).proportion_ci(confidence, method="exact")
        interval = exact_interval(num_right, num_judged, confidence=confidence)
        assert interval == pytest.approx((reference.low, reference.high), abs=1e-9)


def strata(yes: Any, no: Any, sizes: Any, *, unsure: Any = 0, num_units: Any = None) -> pd.DataFrame:
    """Strata whose faces are all independent, unless `num_units` says otherwise."""
    table = pd.DataFrame({"yes": yes, "no": no, "size": sizes}).assign(unsure=unsure)
    return table.assign(num_units=table["yes"] + table["no"] + table["unsure"] if num_units is None else num_units)


def test_without_judged_labels_the_interval_is_everything() -> None:
    assert exact_interval(0, 0) == (0, 1)
    nothing = estimate_precision(strata([0, 0], [0, 0], [5, 6]))
    assert (nothing.precision, nothing.lower, nothing.upper) == (None, 0, 1)


def test_one_stratum_has_the_exact_interval() -> None:
    found = estimate_precision(strata([18], [2], [1000]))
    assert (found.precision, found.lower, found.upper) == (0.9, *exact_interval(18, 20))


def test_unsure_answers_are_wrong_in_the_lower_bound_and_right_in_the_upper() -> None:
    found = estimate_precision(strata([60], [0], [1000], unsure=[40]))
    assert (found.precision, found.lower, found.upper) == (1.0, exact_interval(60, 100)[0], 1.0)
    both = estimate_precision(strata([30, 30], [5, 0], [500, 500], unsure=[0, 20]))
    assert both.lower == estimate_precision(strata([30, 30], [5, 20], [500, 500])).lower
    assert both.upper == estimate_precision(strata([30, 50], [5, 0], [500, 500])).upper


def test_the_weight_of_a_stratum_without_answers_is_wrong_below_and_right_above() -> None:
    alone = estimate_precision(strata([30, 20], [3, 1], [150, 50]))
    found = estimate_precision(strata([30, 20, 0], [3, 1, 0], [150, 50, 800]))
    assert found.lower == pytest.approx(0.2 * alone.lower)
    assert found.upper == pytest.approx(0.2 * alone.upper + 0.8)


def test_faces_of_one_unit_count_once() -> None:
    found = estimate_precision(strata([60], [0], [1000], num_units=[5]))
    assert (found.lower, found.upper) == exact_interval(5, 5)
    several = estimate_precision(strata([60, 60], [0, 0], [500, 500], num_units=[5, 60]))
    assert several.lower < estimate_precision(strata([60, 60], [0, 0], [500, 500])).lower - 0.1


def test_the_estimate_is_the_mean_over_all_labels_with_their_stratums_share() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        sizes, judged = rng.integers(10, 400, size=4), rng.integers(1, 10, size=4)
        right = rng.binomial(judged, 0.8)
        labels = np.concatenate([np.full(n, r / j) for n, r, j in zip(sizes, right, judged, strict=True)])
        found = estimate_precision(strata(right, judged - right, sizes))
        assert found.precision == pytest.approx(labels.mean())
        assert 0 <= found.lower <= found.precision <= found.upper <= 1


def test_equal_strata_without_a_mistake_have_the_bound_of_one_sample() -> None:
    found = estimate_precision(strata([10] * 10, [0] * 10, [50] * 10))
    assert (found.lower, found.upper) == (pytest.approx(exact_interval(100, 100)[0], abs=1e-6), 1.0)


@pytest.mark.parametrize(
    ("sizes", "precisions"),
    [
        ([9000, 500, 500], [0.9, 0.97, 0.6]),
        ([6000, *[824] * 17], [0.7, *[1.0] * 17]),  # Kish's effective size covers 81 % of these
        ([400] * 50, [0.9] * 50),
    ],
)
def test_the_interval_covers_the_truth_at_its_nominal_rate(sizes: list[int], precisions: list[float]) -> None:
    judged = allocate(sizes, 100)
    weights = np.array(sizes) / sum(sizes)
    drawn = np.random.default_rng(0).binomial(judged, precisions, size=(200, len(sizes)))
    results, positions = np.unique(drawn, axis=0, return_inverse=True)
    lower, upper = (
        bound(results.astype(float), judged.astype(float), weights, alpha=0.025)[positions.ravel()]
        for bound in (lower_bounds, upper_bounds)
    )
    truth = weights @ precisions
    assert ((lower <= truth) & (truth <= upper)).mean() >= 0.94
