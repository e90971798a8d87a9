"""Linear heads, against scikit-learn's own pipeline."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from ssl_pipeline.errors import TrainingError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.linear_head import LinearHead, fit_linear_head

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def some_faces(num_faces: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Features of different location and scale that depend on the codes, one of them constant."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 2, num_faces), rng.integers(0, 3, num_faces)], axis=1)
    features = rng.normal(size=(num_faces, 6))
    features[:, :2] += codes
    features = features * [1, 10, 0.1, 1, 1, 0] + [0, 50, 0, -3, 0, 7]
    codes[:10, 0], codes[10:25, 1] = -1, -1
    return features, codes


def probabilities(head: LinearHead, features: np.ndarray, logits: slice) -> np.ndarray:
    scores = features @ head.weights.T + head.bias
    return functional.softmax(torch.from_numpy(scores[:, logits]), dim=1).numpy()


@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_a_head_gives_the_probabilities_of_scikit_learn_for_each_attribute(class_weight: str | None) -> None:
    features, codes = some_faces()
    head = fit_linear_head(features, codes, LABELS, inverse_regularization=0.1, class_weight=class_weight)
    assert head.weights.shape == (5, 6) and head.bias.shape == (5,)
    for column, logits in ((0, slice(0, 2)), (1, slice(2, 5))):
        known = codes[:, column] >= 0
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight=class_weight, max_iter=2000))
        reference.fit(features[known], codes[known, column])
        np.testing.assert_allclose(
            probabilities(head, features, logits), reference.predict_proba(features), rtol=1e-4, atol=1e-5
        )


def test_a_joint_head_learns_from_fully_known_faces() -> None:
    features, codes = some_faces()
    head = fit_linear_head(features, codes, LABELS, head="joint")
    known = (codes >= 0).all(axis=1)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    reference.fit(features[known], codes[known, 0] * 3 + codes[known, 1])
    np.testing.assert_allclose(
        probabilities(head, features, slice(None)), reference.predict_proba(features), rtol=1e-4, atol=1e-5
    )


def test_a_value_without_faces_is_never_predicted() -> None:
    features, codes = some_faces()
    codes[codes[:, 1] == 2, 1] = -1
    head = fit_linear_head(features, codes, LABELS)
    assert probabilities(head, features * 3, slice(2, 5))[:, 2].max() < 1e-8


def test_an_attribute_that_is_never_known_and_features_that_are_not_finite_are_refused() -> None:
    features, codes = some_faces()
    codes[:, 1] = -1
    with pytest.raises(TrainingError, match="no face whose age is known"):
        fit_linear_head(features, codes, LABELS)
    features[3, 2] = np.nan
    with pytest.raises(TrainingError, match="1 faces have features that are not finite"):
        fit_linear_head(features, codes, LABELS)
