"""Metrics against scikit-learn and a table worked by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.metrics import evaluate_predictions

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def test_scores_worked_by_hand() -> None:
    # truth: male/<30, male/<30, female/<30, female/>=60; all but the last predicted right, it as female/<30
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 2]])
    probabilities = np.eye(6)[[0, 0, 3, 3]]
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # classes 0, 3 and 5 occur
    assert scores["per_attribute"]["gender"] == {"macro_f1": 1.0, "accuracy": 1.0}
    assert scores["per_attribute"]["age"]["macro_f1"] == pytest.approx((6 / 7 + 0) / 2)
    assert scores["per_class"]["female/>=60"] == {"num_faces": 1, "f1": 0.0}


def test_scores_equal_scikit_learns_on_random_predictions() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(6), size=300)
    codes = SPACE.class_codes[rng.integers(0, 6, size=300)]
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)
    truth, predicted = codes[:, 0] * 3 + codes[:, 1], probabilities.argmax(1)
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    age = np.stack([probabilities[:, [a, a + 3]].sum(1) for a in range(3)], 1).argmax(1)
    assert scores["per_attribute"]["age"]["macro_f1"] == pytest.approx(f1_score(codes[:, 1], age, average="macro"))


def test_an_attribute_is_predicted_by_its_summed_probability() -> None:
    # most probable class male/<30, yet female is the more probable gender
    scores = evaluate_predictions(np.array([[0.4, 0, 0, 0.3, 0.3, 0]]), np.array([[1, 0]]), labels=SPACE)
    assert scores["per_attribute"]["gender"]["accuracy"] == 1.0
    assert scores["accuracy"] == 0.0


def test_groups_are_scored_apart_and_unknown_belongs_to_none() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 1]])
    groups = pd.DataFrame({"origin": ["asian", "white", None]})
    scores = evaluate_predictions(np.eye(6)[[0, 1, 4]], codes, labels=SPACE, groups=groups)
    assert scores["per_group"]["origin"] == {
        "asian": {"num_faces": 1, "macro_f1": 1.0, "accuracy": 1.0},
        "white": {"num_faces": 1, "macro_f1": 0.0, "accuracy": 0.0},
    }


def test_a_partly_known_face_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="1 partly known"):
        evaluate_predictions(np.eye(6)[[0]], np.array([[0, -1]]), labels=SPACE)
