"""Expected calibration error against an independent loop, and a table computed by hand."""

import numpy as np
import pytest

from ssl_pipeline.evaluation.calibration_error import expected_calibration_error, reliability_table


def looped_error(truth: np.ndarray, probabilities: np.ndarray, num_bins: int) -> float:
    """Equations 2 and 3 of Guo et al., as a loop over faces."""
    error = 0.0
    for number in range(1, num_bins + 1):
        confidences, hits = [], []
        for row, true_class in zip(probabilities, truth, strict=True):
            confidence = max(row)
            if (number - 1) / num_bins < confidence <= number / num_bins:
                confidences.append(confidence)
                hits.append(list(row).index(confidence) == true_class)
        if confidences:
            error += abs(sum(hits) - sum(confidences)) / len(truth)
    return error


@pytest.mark.parametrize("num_bins", [1, 10, 15])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_the_error_equals_a_plain_loop(num_bins: int, num_classes: int) -> None:
    rng = np.random.default_rng(num_bins)
    probabilities = rng.dirichlet(np.full(num_classes, 0.3), size=200)
    truth = rng.integers(0, num_classes, size=200)
    table = reliability_table(truth, probabilities, num_bins=num_bins)
    assert expected_calibration_error(table) == pytest.approx(looped_error(truth, probabilities, num_bins))


def test_bins_computed_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    table = reliability_table(np.array([0, 0, 1, 1]), probabilities, num_bins=2)
    assert table == [
        {
            "lower": 0.0,
            "upper": 0.5,
            "num_faces": 1,
            "confidence": 0.5,
            "accuracy": 1.0,
        },  # an edge belongs to the bin below it
        {
            "lower": 0.5,
            "upper": 1.0,
            "num_faces": 3,
            "confidence": pytest.approx(0.9),
            "accuracy": pytest.approx(2 / 3),
        },
    ]
    assert expected_calibration_error(table) == pytest.approx(1 / 4 * 0.5 + 3 / 4 * (0.9 - 2 / 3))


def test_an_empty_bin_has_neither_confidence_nor_accuracy() -> None:
    table = reliability_table(np.array([0]), np.array([[1.0, 0.0]]))
    assert len(table) == 15
    assert [row["num_faces"] for row in table] == [0] * 14 + [1]
    assert table[0]["confidence"] is table[0]["accuracy"] is None


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_its_excess_confidence() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=20_000)
    truth = (rng.uniform(size=20_000) > confidence).astype(np.int64)  # class 0 with probability `confidence`
    calibrated = np.stack([confidence, 1 - confidence], axis=1)
    assert expected_calibration_error(reliability_table(truth, calibrated)) < 0.02
    overconfident = np.tile([1.0, 0.0], (20_000, 1))
    assert expected_calibration_error(reliability_table(truth, overconfident)) == pytest.approx(truth.mean())
