"""Selection streamed over columns decides as selection over whole arrays does."""

import numpy as np
import pytest

from ssl_pipeline.pseudo_labels.precision_guarantee import counts_by_confidence
from ssl_pipeline.pseudo_labels.streaming import ColumnPool, at_least, count_columns, top_k_cutoffs, within_cutoffs
from ssl_pipeline.pseudo_labels.thresholds import top_k_per_value


def pool_of(seed: int, num: int = 500, *, rows_at_once: int = 64, decimals: int = 2) -> ColumnPool:
    """Confidences of two decimals, so that many are equal."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, num).round(decimals).astype(np.float32)
    return ColumnPool(confidence, rng.integers(0, 4, num).astype(np.uint8), rows_at_once)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 7, 60, 1000])
@pytest.mark.parametrize("rows_at_once", [1, 64, 5000])
def test_streamed_top_k_picks_exactly_the_k_best_and_of_equals_the_first(seed: int, k: int, rows_at_once: int) -> None:
    pool = pool_of(seed, 200, rows_at_once=rows_at_once)
    among, _ = top_k_per_value(
        pool.confidence.astype(np.float64).round(7),
        pool.labels.astype(np.int64),
        k=k,
        num_values=5,
        tie_break=np.arange(200),
    )
    streamed = np.concatenate(list(within_cutoffs(pool, top_k_cutoffs(pool, k=k, num_values=5))))
    assert streamed.tolist() == among.tolist()


def test_streamed_thresholds_accept_as_whole_arrays_do() -> None:
    pool, thresholds = pool_of(1), np.array([0.9, 0.75, np.inf, 0.0])
    streamed = np.concatenate(list(at_least(pool, thresholds)))
    whole = pool.confidence.astype(np.float64).round(7) >= thresholds[pool.labels]
    assert streamed.tolist() == whole.tolist()
    assert not streamed[pool.labels == 2].any() and streamed[pool.labels == 3].all()
    assert streamed[(pool.labels == 0) & (pool.confidence == np.float32(0.9))].all()


def test_streamed_counts_are_the_whole_ones() -> None:
    pool = pool_of(2, decimals=6)
    whole = counts_by_confidence(pool.confidence, pool.labels, num_values=4)
    assert (count_columns(pool, num_values=4) == whole).all()


def test_an_empty_pool_has_no_cutoffs() -> None:
    pool = pool_of(0, 0)
    cutoffs = top_k_cutoffs(pool, k=3, num_values=4)
    assert list(within_cutoffs(pool, cutoffs)) == [] and cutoffs.last_row.tolist() == [-1] * 4
