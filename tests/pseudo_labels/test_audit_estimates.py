"""Stratified sampling, exact intervals, and estimates weighted by stratum size."""

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_pipeline.pseudo_labels.audit import allocate, exact_interval, sample_stratified, weighted_precision


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


def test_without_judged_labels_the_interval_is_everything() -> None:
    assert exact_interval(0, 0) == (0, 1)
    nothing = weighted_precision([0, 0], [0, 0], [5, 6])
    assert (nothing.precision, nothing.lower, nothing.upper) == (None, 0, 1)


def test_one_stratum_or_a_proportional_sample_is_the_plain_exact_interval() -> None:
    for parts in ([18], [12, 6]):
        judged = np.array([20]) if len(parts) == 1 else np.array([14, 6])
        found = weighted_precision(parts, judged, judged * 50)
        assert found.precision == pytest.approx(18 / 20)
        assert (found.lower, found.upper) == pytest.approx(exact_interval(18, 20))


def test_the_estimate_is_the_mean_over_all_labels_with_their_stratums_share() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        sizes = rng.integers(10, 400, size=4)
        judged = rng.integers(0, 10, size=4)
        judged[0] += 1
        right = rng.binomial(judged, 0.8)
        # brute force: every label of a judged stratum gets its stratum's share
        labels = np.concatenate([np.full(n, r / j) for n, r, j in zip(sizes, right, judged, strict=True) if j])
        found = weighted_precision(right, judged, sizes)
        assert found.precision == pytest.approx(labels.mean())
        assert found.lower <= found.precision <= found.upper


def test_unequal_weights_widen_the_interval() -> None:
    found = weighted_precision([20, 20], [20, 20], [9000, 100])
    assert found.precision == 1 and found.lower < exact_interval(40, 40)[0]
    assert found.lower == pytest.approx(exact_interval(20, 20)[0], abs=0.01)  # the large one dominates


@pytest.mark.parametrize(
    ("sizes", "precisions"),
    [([9000, 500, 500], [0.9, 0.97, 0.6]), ([6000, 3000, 300, 100], [0.95, 0.9, 0.7, 0.5]), ([500, 500], [0.9, 0.8])],
)
def test_the_interval_covers_the_truth_at_its_nominal_rate(sizes: list[int], precisions: list[float]) -> None:
    rng = np.random.default_rng(0)
    judged = allocate(sizes, 100)
    truth = np.average(precisions, weights=sizes)
    found = [weighted_precision(rng.binomial(judged, precisions), judged, sizes) for _ in range(1000)]
    assert np.mean([one.lower <= truth <= one.upper for one in found]) >= 0.95
