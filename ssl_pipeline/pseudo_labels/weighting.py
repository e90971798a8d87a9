"""How much an accepted pseudo-label counts: ideas over arrays.

Shapes: N faces, A attributes.
"""

import math
from typing import NamedTuple

import numpy as np

from ssl_pipeline.labels import BoolArray, FloatArray
from ssl_pipeline.pseudo_labels.thresholds import order_invariant_mean


class ConfidenceMoments(NamedTuple):
    """Mean and standard deviation (over N) of the pool's confidences."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, confidence: FloatArray) -> "ConfidenceMoments":
        """Measure confidences, float [N], N ≥ 1."""
        mean = float(order_invariant_mean(confidence))
        return cls(mean, math.sqrt(float(order_invariant_mean((confidence - mean) ** 2))))


def gaussian_weights(confidence: FloatArray, moments: ConfidenceMoments) -> FloatArray:
    """Weigh labels by a Gaussian, truncated at its top (SoftMatch, arXiv:2301.10921, section 3).

    w = exp(-max(μ - c, 0)² / (2 σ²)): 1 from the mean confidence μ on, less below it. Where σ is 0, all that is below
    μ weighs 0.

    Args:
        confidence: float [N].
        moments: μ and σ; the paper's running ones over batches are here those of the whole pool.

    Returns:
        float [N], in [0, 1].

    >>> gaussian_weights(np.array([0.9, 0.8, 0.6]), ConfidenceMoments(0.8, 0.2)).round(3)
    array([1.   , 1.   , 0.607])
    """
    below = np.maximum(moments.mean - np.asarray(confidence, dtype=np.float64), 0.0)
    if moments.deviation < 1e-9:  # all the same but for the rounding of their mean
        return (below < 1e-9).astype(np.float64)
    return np.asarray(np.exp(-(below**2) / (2 * moments.deviation**2)))


def face_weights(weights: FloatArray, accepted: BoolArray, known: BoolArray) -> FloatArray:
    """One weight a face: the mean over what it teaches, its accepted labels and its known ones, which weigh 1.

    Args:
        weights: of pseudo-labels, float [N, A], in [0, 1].
        accepted: bool [N, A].
        known: bool [N, A].

    Returns:
        float [N], in [0, 1]; 0 for a face with no accepted label, unless all of it is known.
    """
    taught = accepted | known
    total = np.where(known, 1.0, np.where(accepted, weights, 0.0)).sum(axis=1)
    mean = total / np.maximum(taught.sum(axis=1), 1)
    return np.asarray(np.where(accepted.any(axis=1) | known.all(axis=1), mean, 0.0))
