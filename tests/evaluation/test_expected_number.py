"""Expected numbers and their errors, against values computed by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from ssl_pipeline.evaluation.expected_number import expected_numbers, number_errors
from ssl_pipeline.faces.regression_targets import RegressionTargets


def test_errors_over_faces_with_a_known_number_equal_those_computed_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    numbers = RegressionTargets(truth=np.array([30.0, 66.0, np.nan]), of_value=np.array([20.0, 44.0, 70.0]))
    # expected 32 and 70: errors of 2 and 4 years
    assert number_errors(probabilities, numbers) == {
        "num_numbers": 2,
        "mean_absolute_error": 3.0,
        "mean_squared_error": 10.0,
    }


def test_errors_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities, truth = rng.dirichlet(np.ones(3), size=50), rng.uniform(0, 90, size=50)
    of_value = np.array([20.0, 44.0, 70.0])
    expected = np.array([sum(p * number for p, number in zip(row, of_value, strict=True)) for row in probabilities])
    assert expected_numbers(probabilities, of_value) == pytest.approx(expected)
    errors = number_errors(probabilities, RegressionTargets(truth, of_value))
    assert errors["mean_absolute_error"] == pytest.approx(mean_absolute_error(truth, expected))
    assert errors["mean_squared_error"] == pytest.approx(mean_squared_error(truth, expected))


def test_errors_are_none_if_no_face_has_a_number() -> None:
    numbers = RegressionTargets(truth=np.array([np.nan]), of_value=np.array([20.0, 44.0]))
    undefined = {"num_numbers": 0, "mean_absolute_error": None, "mean_squared_error": None}
    assert number_errors(np.array([[0.5, 0.5]]), numbers) == undefined
