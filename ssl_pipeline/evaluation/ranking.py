"""Rank of the true class: mean reciprocal rank and NDCG with one relevant class per face."""

import numpy as np

from ssl_pipeline.labels import FloatArray, IntArray


def true_class_ranks(truth: IntArray, probabilities: FloatArray) -> IntArray:
    """Rank each face's true class by descending probability, from 1; among equal probabilities it comes last.

    Args:
        truth: int [N], in 0 … V-1.
        probabilities: float [N, V].

    Returns:
        int [N], in 1 … V.

    >>> true_class_ranks(np.array([0, 0]), np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]))
    array([3, 2])
    """
    true_class_probabilities = probabilities[np.arange(len(truth)), truth]
    return np.asarray((probabilities >= true_class_probabilities[:, None]).sum(axis=1), dtype=np.int64)


def ranking_scores(truth: IntArray, probabilities: FloatArray) -> dict[str, float]:
    """Score the ranks r of the true classes, in (0, 1]; 1 if every true class comes first.

    The mean reciprocal rank is mean(1 / r). With one relevant class per face the ideal gain is 1, so that NDCG is
    mean(1 / log2(1 + r)). The mean average precision over classes, as in detection and retrieval of one class, is the
    metric `average_precision`. scikit-learn's `label_ranking_average_precision_score` and `ndcg_score` agree but loop over faces in Python; for equal
    probabilities, `ndcg_score` averages over their orders.
    """
    ranks = true_class_ranks(truth, probabilities)
    return {
        "mean_reciprocal_rank": float((1 / ranks).mean()),
        "ndcg": float((1 / np.log2(1 + ranks)).mean()),
    }
