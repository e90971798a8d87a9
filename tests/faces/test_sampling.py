"""Sampling keeps proportions, exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_pipeline.faces.sampling import shares, stratified_sample


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), fraction=st.floats(0, 1), seed=st.integers(0, 2**31)
)
def test_a_stratified_sample_is_exact_fair_and_complete(counts, fraction, seed):
    strata = np.repeat(np.arange(len(counts)), counts)
    size = round(fraction * len(strata))
    kept = stratified_sample(strata, size=size, rng=np.random.default_rng(seed))
    assert len(set(kept.tolist())) == len(kept) == size
    assert (np.diff(kept) > 0).all()
    taken = np.bincount(strata[kept], minlength=len(counts))
    assert (taken >= 1).all() or (size < len(counts) and taken.max() <= 1)
    quotas = np.asarray(counts) * size / len(strata)
    if (quotas >= 1).all():
        assert (np.abs(taken - quotas) < 1).all()


def test_shares_keep_a_small_stratum_at_the_cost_of_the_large():
    assert shares(np.array([90, 9, 1]), size=10, rng=np.random.default_rng(0)).tolist() == [8, 1, 1]
    assert shares(np.array([5, 90, 7]), size=2, rng=np.random.default_rng(0)).tolist() == [0, 1, 1]


def test_a_stratified_sample_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="at least 0"):
        stratified_sample([0, 1], size=-1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\[N\]"):
        stratified_sample(np.zeros((2, 2), dtype=np.int64), size=1, rng=np.random.default_rng(0))
