"""Resemblance of the pool's faces to the labeled ones, and draws that prefer faces that resemble them.

Shapes: N faces of the pool, M labeled faces, D features.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from ssl_pipeline.evaluation.shift import NUM_FOLDS, two_sample_classifier
from ssl_pipeline.labels import FloatArray, IntArray


@dataclass(frozen=True)
class Draws:
    """How often each face of the pool is drawn."""

    weights: FloatArray
    """Float [N], relative to the mean: 1 is as often as without weights."""
    exponent: float
    """Of the odds, in [0, 1]."""
    effective_share: float
    """Effective number of faces, (Σ w)² / Σ w², as a share of the pool."""


def labeled_log_odds(
    pool: npt.NDArray[np.float32], labeled: npt.NDArray[np.float32], *, units: IntArray, seed: int
) -> FloatArray:
    """Estimate how much each face of the pool looks like a labeled one, by the two-sample classifier of `evaluation.shift`.

    Each face is judged by a classifier that saw none of its unit, and both sets have the same total weight: 0 means that
    a face is as typical of one set as of the other.

    Args:
        pool: features, float [N, D].
        labeled: features, float [M, D].
        units: the independent unit of each face, int [N + M], the pool's first.
        seed: of the folds.

    Returns:
        Log of P(labeled | face) / P(pool | face), float [N]; zeros if a fold would lack one of the sets.
    """
    is_labeled = np.arange(len(pool) + len(labeled)) >= len(pool)
    features = np.concatenate([pool, labeled]).astype(np.float64)
    log_odds = np.zeros(len(features))
    if min(len(np.unique(units[~is_labeled])), len(np.unique(units[is_labeled]))) < NUM_FOLDS:
        return log_odds[: len(pool)]
    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    for train, held_out in folds.split(features, is_labeled, units):
        if len(set(is_labeled[train])) < 2:
            return np.zeros(len(pool))
        classifier = two_sample_classifier().fit(features[train], is_labeled[train])
        log_odds[held_out] = classifier.decision_function(features[held_out])
    return log_odds[: len(pool)]


def draws_by_odds(log_odds: FloatArray, *, min_effective_share: float) -> Draws:
    """Weigh faces by their odds, raised to the largest exponent up to 1 that keeps enough faces in play.

    Importance weighting with flattened weights (Shimodaira, 2000): exponent 1 makes the draws look like the labeled faces, by
    few of the pool's; exponent 0 draws all equally.

    Args:
        log_odds: float [N], see `labeled_log_odds`.
        min_effective_share: in (0, 1], of the pool.
    """
    low, high = 0.0, 1.0
    if _effective_share(log_odds) < min_effective_share:
        for _ in range(40):  # the share falls as the exponent grows
            middle = (low + high) / 2
            low, high = (middle, high) if _effective_share(middle * log_odds) >= min_effective_share else (low, middle)
    else:
        low = 1.0
    weights = _weights(low * log_odds)
    return Draws(weights, low, _effective_share(low * log_odds))


def balance_classes(draws: FloatArray, probabilities: FloatArray, *, exponent: float) -> FloatArray:
    """Weigh faces so that rarely guessed classes are drawn more often.

    w_i ∝ d_i · Σ_c p_ic · s_c^(−exponent), with the share s_c = Σ_i d_i · p_ic / Σ_i d_i of class c in the draws d.

    Args:
        draws: float [N], how often each face would be drawn.
        probabilities: of the classes, float [N, K], rows sum to 1.
        exponent: in [0, 1]; 1 draws all classes about equally.

    Returns:
        Float [N], relative to the mean.
    """
    shares = draws @ probabilities / draws.sum()
    weights = draws * (probabilities @ np.maximum(shares, 1e-6) ** -exponent)
    return np.asarray(weights / weights.mean())


def _weights(log_weights: FloatArray) -> FloatArray:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.mean())


def _effective_share(log_weights: FloatArray) -> float:
    weights = _weights(log_weights)
    return float(1 / np.mean(weights**2))
