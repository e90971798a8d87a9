"""How high a model ranks the true class among all: MRR, NDCG and MAP where one class is relevant to each face."""

import numpy as np

from ssl_pipeline.labels import FloatArray, IntArray


def true_class_ranks(truth: IntArray, probabilities: FloatArray) -> IntArray:
    """Give the rank of each face's true class by falling probability, from 1; of equal ones the true one comes last.

    Args:
        truth: int [N], in 0 … V-1.
        probabilities: float [N, V].

    Returns:
        int [N], in 1 … V.

    >>> true_class_ranks(np.array([0, 0]), np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]))
    array([3, 2])
    """
    of_truth = probabilities[np.arange(len(truth)), truth]
    return np.asarray((probabilities >= of_truth[:, None]).sum(axis=1), dtype=np.int64)


def ranking_scores(truth: IntArray, probabilities: FloatArray) -> dict[str, float]:
    """Score the ranks r of the true classes; all in (0, 1], 1 where every true class comes first.

    With one relevant class a face, the mean reciprocal rank is mean(1 / r); the precision at the one relevant place
    is also 1 / r, so the mean average precision is the same number; the ideal gain is 1, so NDCG is
    mean(1 / log2(1 + r)). scikit-learn's `label_ranking_average_precision_score` and `ndcg_score` give the same, face
    by face in Python, which is slow on many; of equal probabilities `ndcg_score` averages over the orders.
    """
    ranks = true_class_ranks(truth, probabilities)
    reciprocal = float((1 / ranks).mean())
    return {
        "mean_reciprocal_rank": reciprocal,
        "mean_average_precision": reciprocal,
        "ndcg": float((1 / np.log2(1 + ranks)).mean()),
    }
