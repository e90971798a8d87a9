"""Distribution shift between the pool and the validation faces: separability, predictions, acceptance by group.

Shapes: N faces of the pool, M of validation, D features, K classes, A attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace

NUM_FOLDS = 5
_QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
_INVERSE_PENALTY = 0.01  # stronger than scikit-learn's 1: features may outnumber faces, and the fit converges sooner


@dataclass(frozen=True)
class Separability:
    """How well a classifier separates two sets of faces."""

    auc: float | None
    """Mean ROC-AUC over the folds, in [0, 1]: 0.5 means inseparable, 1 fully separable; None: not measured."""
    standard_error: float | None
    """Standard error of that mean over the folds."""
    num_pool: int
    num_validation: int
    note: str = ""
    """Why it was not measured."""


def separability(
    pool: npt.NDArray[np.float32],
    validation: npt.NDArray[np.float32],
    *,
    units: IntArray,
    seed: int,
) -> Separability:
    """Separate two sets of faces by a classifier (two-sample test: Lopez-Paz and Oquab, arXiv:1610.06545).

    Five-fold cross-validated ROC-AUC of a logistic regression on standardized features. All images of a person are in
    one fold, so that the classifier cannot score by recognizing persons.

    Args:
        pool: features, float [N, D].
        validation: features, float [M, D].
        units: the independent unit of each face, int [N + M], the pool's first; see
            `faces.independence.independent_units`.
        seed: of the folds.

    Returns:
        The mean and its standard error, to 4 decimals; None for both if one side has too few persons for the folds, or
        if features are not finite.
    """
    sizes = len(pool), len(validation)
    if min(len(np.unique(units[: len(pool)])), len(np.unique(units[len(pool) :]))) < 2 * NUM_FOLDS:
        return Separability(None, None, *sizes, note=f"fewer than {2 * NUM_FOLDS} people in one set")
    is_pool = np.arange(len(pool) + len(validation)) < len(pool)
    features = np.concatenate([pool, validation]).astype(np.float64)
    if not np.isfinite(features).all():
        return Separability(None, None, *sizes, note="features that are not finite numbers")
    scores = []
    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    for train, held_out in folds.split(features, is_pool, units):
        if len(set(is_pool[train])) < 2 or len(set(is_pool[held_out])) < 2:
            return Separability(None, None, *sizes, note="one person has most images of one set")
        classifier = two_sample_classifier().fit(features[train], is_pool[train])
        scores.append(roc_auc_score(is_pool[held_out], classifier.decision_function(features[held_out])))
    error = np.std(scores, ddof=1) / np.sqrt(NUM_FOLDS)
    return Separability(round(float(np.mean(scores)), 4), round(float(error), 4), *sizes)


def two_sample_classifier() -> Pipeline:
    """Return a new logistic regression on standardized features that gives both sets the same total weight."""
    regression = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), regression)


def is_strong(auc: float | None, standard_error: float | None, *, strong_auc: float) -> bool:
    """Whether a measured shift is strong: an AUC of at least `strong_auc`, and two standard errors above chance."""
    return auc is not None and standard_error is not None and auc >= strong_auc and auc - 2 * standard_error > 0.5


def compare_predictions(pool: FloatArray, validation: FloatArray, *, labels: LabelSpace) -> dict[str, Any]:
    """Compare the teacher's predictions on the pool with those on the validation faces.

    Args:
        pool: class probabilities, float [N, K].
        validation: class probabilities, float [M, K].
        labels: the label space.

    Returns:
        JSON-serializable. For ``class`` and each attribute: ``confidence`` (set → mean, p10, median, p90), ``mix``
        (value → set → share of the faces with this prediction) and ``mix_distance``, the total variation distance of
        the shares, in [0, 1]. The sets are ``pool`` and ``validation``.
    """
    compared = {"class": _compare_values(pool, validation, labels.class_names)}
    marginals = zip(labels.attribute_probabilities(pool), labels.attribute_probabilities(validation), strict=True)
    for attribute, (pool_marginal, validation_marginal) in zip(labels.attributes, marginals, strict=True):
        compared[attribute.name] = _compare_values(pool_marginal, validation_marginal, attribute.values)
    return compared


def _compare_values(pool: FloatArray, validation: FloatArray, values: Sequence[str]) -> dict[str, Any]:
    sets = {"pool": pool, "validation": validation}
    shares = {
        name: np.bincount(probabilities.argmax(axis=1), minlength=len(values)) / len(probabilities)
        for name, probabilities in sets.items()
    }
    return {
        "confidence": {name: _spread(probabilities.max(axis=1)) for name, probabilities in sets.items()},
        "mix": {
            value: {name: round(float(share[code]), 4) for name, share in shares.items()}
            for code, value in enumerate(values)
        },
        "mix_distance": round(float(np.abs(shares["pool"] - shares["validation"]).sum() / 2), 4),
    }


def acceptance_by_group(groups: pd.DataFrame, accepted: BoolArray, undecided: BoolArray) -> dict[str, Any]:
    """Count the accepted labels per group of faces.

    Args:
        groups: N rows, one nullable column per grouping.
        accepted: bool [N, A].
        undecided: the labels that selection had to decide, bool [N, A].

    Returns:
        JSON-serializable: column → value → num_faces, num_undecided and num_accepted (labels), and acceptance_rate,
        None if nothing was undecided. Faces without a group, and columns without any, are left out.
    """
    counts: dict[str, Any] = {}
    for column, values in groups.items():
        for value in sorted(values.dropna().unique()):
            rows = np.flatnonzero((values == value).fillna(False).to_numpy(bool))
            num_undecided, num_accepted = int(undecided[rows].sum()), int(accepted[rows].sum())
            counts.setdefault(str(column), {})[str(value)] = {
                "num_faces": len(rows),
                "num_undecided": num_undecided,
                "num_accepted": num_accepted,
                "acceptance_rate": round(num_accepted / num_undecided, 4) if num_undecided else None,
            }
    return counts


def _spread(confidence: FloatArray) -> dict[str, float]:
    quantiles = {name: np.quantile(confidence, level) for name, level in _QUANTILES.items()}
    return {name: round(float(value), 4) for name, value in {"mean": confidence.mean(), **quantiles}.items()}
