"""Distribution alignment: scale the pool's probabilities toward the class prior of labeled faces.

Shapes: N faces, A attributes, K classes.
"""

import numpy as np

from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.criteria import order_invariant_mean


def class_prior(codes: IntArray, labels: LabelSpace) -> FloatArray:
    """Share of each class among labeled faces, with add-one smoothing so that no class gets zero.

    Args:
        codes: int [N, A], -1 unknown; a partly known face is spread evenly over its candidate classes.
        labels: the label space.

    Returns:
        float [K], positive, sums to 1.
    """
    candidates = labels.candidates(codes)
    counts = (candidates / candidates.sum(axis=1, keepdims=True)).sum(axis=0) + 1
    return np.asarray(counts / counts.sum())


def alignment_ratio(pool_probabilities: FloatArray, target_prior: FloatArray) -> FloatArray:
    """Per-class multiplier: target share / mean prediction in the pool.

    Args:
        pool_probabilities: float [N, K], rows sum to 1.
        target_prior: float [K], sums to 1.

    Returns:
        float [K]; 1 for a class with mean probability 0, and for all classes of an empty pool.
    """
    if not len(pool_probabilities):
        return np.ones(len(target_prior))
    mean = order_invariant_mean(pool_probabilities)
    return np.asarray(np.where(mean > 0, target_prior / np.where(mean > 0, mean, 1.0), 1.0))


def aligned(probabilities: FloatArray, ratio: FloatArray) -> FloatArray:
    """Multiply and renormalise (ReMixMatch, arXiv:1911.09785, section 3.1), without its sharpening.

    Args:
        probabilities: float [..., K], last axis sums to 1.
        ratio: float [K], see `alignment_ratio`.

    Returns:
        float [..., K], last axis sums to 1.

    >>> aligned(np.array([[0.8, 0.2]]), np.array([0.5, 2.0]))
    array([[0.5, 0.5]])
    """
    scaled = np.asarray(probabilities, dtype=np.float64) * ratio
    total = scaled.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, scaled / np.where(total > 0, total, 1.0), probabilities))
