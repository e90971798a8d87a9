"""Stratified samples keep proportions, exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_pipeline.faces.sampling import stratified_sample


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), fraction=st.floats(0, 1), seed=st.integers(0, 2**31)
)
def test_a_stratified_sample_is_exact_proportional_and_complete(counts, fraction, seed):
    strata = np.repeat(np.arange(len(counts)), counts)
    size = round(fraction * len(strata))
    sample = stratified_sample(strata, size=size, rng=np.random.default_rng(seed))
    assert len(set(sample.tolist())) == len(sample) == size
    assert (np.diff(sample) > 0).all()
    sampled = np.bincount(strata[sample], minlength=len(counts))
    assert (sampled >= 1).all() or (size < len(counts) and sampled.max() <= 1)
    quotas = np.asarray(counts) * size / len(strata)
    if (quotas >= 1).all():
        assert (np.abs(sampled - quotas) < 1).all()


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [([90, 9, 1], 10, [8, 1, 1]), ([5, 90, 7], 2, [0, 1, 1]), ([600, 300, *[1] * 30], 60, [20, 10, *[1] * 30])],
)
def test_a_small_stratum_is_kept_at_the_cost_of_the_large(counts, size, expected):
    strata = np.repeat(np.arange(len(counts)), counts)
    sample = stratified_sample(strata, size=size, rng=np.random.default_rng(0))
    assert np.bincount(strata[sample], minlength=len(counts)).tolist() == expected


@pytest.mark.parametrize("size", [0, 5])
def test_a_sample_of_no_items_is_empty(size):
    assert stratified_sample([], size=size, rng=np.random.default_rng(0)).tolist() == []


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        stratified_sample([0, 1], size=-1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\[N\]"):
        stratified_sample(np.zeros((2, 2), dtype=np.int64), size=1, rng=np.random.default_rng(0))
