"""Ranking scores against values computed by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from ssl_pipeline.evaluation.ranking import ranking_scores, true_class_ranks


def test_scores_computed_by_hand() -> None:
    # the true classes rank first, second and third
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6]])
    truth = np.array([0, 1, 0])
    assert true_class_ranks(truth, probabilities).tolist() == [1, 2, 3]
    scores = ranking_scores(truth, probabilities)
    assert scores["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert scores["ndcg"] == pytest.approx((1 + 1 / np.log2(3) + 1 / 2) / 3)


def test_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities, truth = rng.dirichlet(np.ones(18), size=100), rng.integers(0, 18, size=100)
    scores, relevant = ranking_scores(truth, probabilities), np.eye(18)[truth]
    assert scores["mean_reciprocal_rank"] == pytest.approx(
        label_ranking_average_precision_score(relevant, probabilities)
    )
    assert scores["ndcg"] == pytest.approx(ndcg_score(relevant, probabilities))


def test_among_equal_probabilities_the_true_class_comes_last() -> None:
    probabilities = np.full((1, 4), 0.25)
    scores = ranking_scores(np.array([0]), probabilities)
    assert scores["mean_reciprocal_rank"] == 0.25
    assert scores["mean_reciprocal_rank"] == label_ranking_average_precision_score(np.eye(4)[[0]], probabilities)
