"""Whether the pool is like the validation faces: what guarantees about the one, tested on the other, rest on.

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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_pipeline.labels import BoolArray, FloatArray, LabelSpace

NUM_FOLDS = 5
_QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
_INVERSE_PENALTY = 0.01  # features may outnumber the faces; a stronger penalty than scikit-learn's 1 also ends sooner


@dataclass(frozen=True)
class Separability:
    """How well a classifier tells two sets of faces apart."""

    auc: float | None
    """Mean ROC-AUC over the folds, in [0, 1]: 0.5 where they cannot be told apart, 1 where always; None: unmeasured."""
    standard_error: float | None
    """Of that mean, from the spread of the folds."""
    num_pool: int
    num_validation: int
    note: str = ""
    """Why nothing was measured."""


def separability(
    pool: npt.NDArray[np.float32],
    validation: npt.NDArray[np.float32],
    *,
    pool_people: Sequence[str],
    validation_people: Sequence[str],
    seed: int,
) -> Separability:
    """Try to tell two sets of faces apart (classifier two-sample test: Lopez-Paz and Oquab, arXiv:1610.06545).

    A logistic regression on standardised features, scored by ROC-AUC on the fifth of the people that it has not seen,
    five times; pictures of one person stay together, since otherwise faces would be recognised and not their origin.

    Args:
        pool: features, float [N, D].
        validation: features, float [M, D].
        pool_people: N person ids.
        validation_people: M person ids.
        seed: of the folds.

    Returns:
        The mean and its standard error, to 4 decimals; without them where the people of a side are too few for the
        folds, or features are not finite.
    """
    sizes = len(pool), len(validation)
    if min(len(set(pool_people)), len(set(validation_people))) < 2 * NUM_FOLDS:
        return Separability(None, None, *sizes, note=f"fewer than {2 * NUM_FOLDS} people on a side")
    is_pool = np.arange(len(pool) + len(validation)) < len(pool)
    people = pd.factorize(np.array([*pool_people, *validation_people], dtype=object))[0]
    features = np.concatenate([pool, validation]).astype(np.float64)
    if not np.isfinite(features).all():
        return Separability(None, None, *sizes, note="features that are not finite numbers")
    scores = []
    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    for train, held_out in folds.split(features, is_pool, people):
        if len(set(is_pool[train])) < 2 or len(set(is_pool[held_out])) < 2:
            return Separability(None, None, *sizes, note="a person with most of the pictures of a side")
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
        )
        classifier.fit(features[train], is_pool[train])
        scores.append(roc_auc_score(is_pool[held_out], classifier.decision_function(features[held_out])))
    error = np.std(scores, ddof=1) / np.sqrt(NUM_FOLDS)
    return Separability(round(float(np.mean(scores)), 4), round(float(error), 4), *sizes)


def compare_predictions(pool: FloatArray, validation: FloatArray, *, labels: LabelSpace) -> dict[str, Any]:
    """Set what the teacher says of the pool beside what it says of the validation faces.

    Args:
        pool: class probabilities, float [N, K].
        validation: class probabilities, float [M, K].
        labels: the label space.

    Returns:
        JSON-able, of ``class`` and of each attribute: ``confidence`` (side → mean, p10, median, p90), ``mix`` (value →
        side → share of the faces of which it is the most probable), and ``mix_distance``, half the sum of the shares'
        absolute differences, in [0, 1].
    """
    sides = {"pool": pool, "validation": validation}
    questions = {"class": (labels.class_names, sides)} | {
        attribute.name: (
            list(attribute.values),
            {side: labels.attribute_probabilities(rows)[position] for side, rows in sides.items()},
        )
        for position, attribute in enumerate(labels.attributes)
    }
    compared = {}
    for name, (values, by_side) in questions.items():
        shares = {side: np.bincount(of.argmax(axis=1), minlength=len(values)) / len(of) for side, of in by_side.items()}
        compared[name] = {
            "confidence": {side: _spread(of.max(axis=1)) for side, of in by_side.items()},
            "mix": {
                value: {side: round(float(of[code]), 4) for side, of in shares.items()}
                for code, value in enumerate(values)
            },
            "mix_distance": round(float(np.abs(shares["pool"] - shares["validation"]).sum() / 2), 4),
        }
    return compared


def acceptance_by_group(groups: pd.DataFrame, accepted: BoolArray, undecided: BoolArray) -> dict[str, Any]:
    """Count the accepted labels of each group of faces.

    Args:
        groups: N rows, a nullable column for each way of grouping.
        accepted: bool [N, A].
        undecided: the labels that were to decide, bool [N, A].

    Returns:
        JSON-able: column → value → num_faces, num_undecided and num_accepted (labels), and acceptance_rate, None
        without any to decide. Faces whose group is unknown are not told apart; columns that know none are left out.
    """
    found: dict[str, Any] = {}
    for column, values in groups.items():
        for value in sorted(values.dropna().unique()):
            places = np.flatnonzero((values == value).fillna(False).to_numpy(bool))
            num_undecided, num_accepted = int(undecided[places].sum()), int(accepted[places].sum())
            found.setdefault(str(column), {})[str(value)] = {
                "num_faces": len(places),
                "num_undecided": num_undecided,
                "num_accepted": num_accepted,
                "acceptance_rate": round(num_accepted / num_undecided, 4) if num_undecided else None,
            }
    return found


def _spread(confidence: FloatArray) -> dict[str, float]:
    quantiles = {name: np.quantile(confidence, share) for name, share in _QUANTILES.items()}
    return {name: round(float(number), 4) for name, number in {"mean": confidence.mean(), **quantiles}.items()}
