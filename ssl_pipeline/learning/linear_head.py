"""Linear heads on fixed features: logistic regression, as weights and bias of one linear layer over the raw features.

Shapes: N faces, D features, A attributes, V values of an attribute, K classes, L logits (K, or the sum of all V).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl_pipeline.errors import TrainingError
from ssl_pipeline.labels import UNKNOWN, FloatArray, IntArray, LabelSpace

_UNSEEN_LOGIT = -20.0
"""Of a value without faces, relative to the mean logit of the others: its probability stays below exp(-20)."""


@dataclass(frozen=True)
class LinearHead:
    """Logits = features @ weights.T + bias, in the order of `FaceClassifier`'s head."""

    weights: npt.NDArray[np.float32]
    """[L, D]: the values of each attribute in turn, or the classes if joint."""
    bias: npt.NDArray[np.float32]
    """[L]."""


def fit_linear_head(
    features: FloatArray,
    codes: IntArray,
    labels: LabelSpace,
    *,
    head: Literal["joint", "per_attribute"] = "per_attribute",
    inverse_regularization: float = 0.01,
    class_weight: Literal["balanced"] | None = "balanced",
) -> LinearHead:
    """Fit scikit-learn's LogisticRegression on standardized features, one per attribute or one over the classes.

    Each is fitted on the faces whose attribute (`joint`: every attribute) is known. The standardization is folded into
    the result, which can be copied into an ``nn.Linear(D, L)``.

    Args:
        features: float [N, D].
        codes: value codes, int [N, A], -1 unknown.
        labels: the classes.
        head: one softmax per attribute, or one over all classes.
        inverse_regularization: scikit-learn's C.
        class_weight: `balanced` gives each value the same total weight.

    Raises:
        TrainingError: if a feature is not finite, or no face is known for an attribute.
    """
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
        raise TrainingError(
            f"{int((~np.isfinite(features)).any(axis=1).sum())} faces have features that are not finite"
        )
    if head == "joint":
        targets = [("class", labels.class_ids(codes), labels.num_classes)]
    else:
        targets = [(name, codes[:, n], labels.num_values[n]) for n, name in enumerate(labels.names)]
    fitted = []
    for name, target, num_values in targets:
        known = target != UNKNOWN
        if not known.any():
            raise TrainingError(f"no face whose {name} is known: a linear head cannot be fitted")
        fitted.append(_fit(features[known], target[known], num_values, inverse_regularization, class_weight))
    weights, bias = (np.concatenate(parts).astype(np.float32) for parts in zip(*fitted, strict=True))
    return LinearHead(weights, bias)


def cross_fitted_probabilities(
    features: FloatArray, codes: IntArray, folds: IntArray, labels: LabelSpace
) -> list[FloatArray]:
    """Predict each fold with a linear head that was fitted on the others.

    Args:
        features: float [N, D].
        codes: value codes, int [N, A], -1 unknown; each attribute is known outside each fold.
        folds: int [N], see `splitting.assign_folds`.
        labels: the attributes.

    Returns:
        One array per attribute, float [N, V], rows sum to 1.

    Raises:
        TrainingError: see `fit_linear_head`.
    """
    logits = np.zeros((len(features), sum(labels.num_values)))
    for fold in np.unique(folds):
        own = folds == fold
        head = fit_linear_head(features[~own], codes[~own], labels)
        logits[own] = features[own] @ head.weights.T + head.bias
    parts = np.split(logits, np.cumsum(labels.num_values)[:-1], axis=1)
    return [np.asarray(softmax(part, axis=1)) for part in parts]


def _fit(
    features: FloatArray, target: IntArray, num_values: int, inverse_regularization: float, class_weight: str | None
) -> tuple[FloatArray, FloatArray]:
    """Fit weights [V, D] and bias [V] over the raw features."""
    seen = np.unique(target)
    num_features = features.shape[1]
    weights, bias = np.zeros((len(seen), num_features)), np.zeros(len(seen))
    if len(seen) > 1:
        scaler = StandardScaler().fit(features)
        model = LogisticRegression(C=inverse_regularization, class_weight=class_weight, max_iter=2000)
        model.fit(scaler.transform(features), target)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(seen) == 2:  # one logit of the second value: sigmoid(x) is the softmax of (-x/2, x/2)
            coefficients, intercepts = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercepts))
        weights = coefficients / scaler.scale_
        bias = intercepts - weights @ scaler.mean_
    all_weights = np.tile(weights.mean(axis=0), (num_values, 1))
    all_bias = np.full(num_values, bias.mean() + _UNSEEN_LOGIT)
    all_weights[seen], all_bias[seen] = weights, bias
    return all_weights, all_bias
