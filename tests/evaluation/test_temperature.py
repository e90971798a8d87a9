"""Temperature scaling against a softmax of scaled logits and a grid search; calibration stored in a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from ssl_pipeline.config.evaluation import NoCalibration, TemperatureScaling
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.evaluation.temperature import (
    TemperatureCalibration,
    apply_temperature,
    calibration_report,
    fit_calibration,
    fit_temperature,
)
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.calibrate import calibrate_checkpoint
from ssl_pipeline.learning.checkpoint import load_checkpoint
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.predict import CheckpointPredictor
from tests.conftest import SPACE, make_faces, make_role


def overconfident(num_faces: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, 6] sharpened by a temperature, and true classes drawn from the calibrated ones."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_faces, 6))
    truth = np.array([rng.choice(6, p=row) for row in softmax(logits, axis=1)])
    return softmax(temperature * logits, axis=1), truth


def test_a_temperature_scales_the_logits_of_a_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 5))
    for temperature in (0.3, 1.0, 4.0):
        expected = softmax(logits / temperature, axis=1)
        assert apply_temperature(softmax(logits, axis=1), temperature) == pytest.approx(expected)


def test_the_fitted_temperature_is_the_best_of_a_grid_and_corrects_the_overconfidence() -> None:
    probabilities, truth = overconfident(4000, temperature=3.0)
    temperature = fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(3.0, rel=0.08)
    grid = np.geomspace(0.1, 10, 400)
    logits = np.log(probabilities)
    losses = [-log_softmax(logits / t, axis=1)[np.arange(4000), truth].mean() for t in grid]
    assert temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)


def test_each_marginal_is_scaled_by_its_temperature() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(6), size=50)
    calibrated = TemperatureCalibration("attribute", (2.0, 0.5), 50).apply(probabilities, SPACE)
    assert calibrated.sum(axis=1) == pytest.approx(1.0)
    for marginal, before, temperature in zip(
        SPACE.attribute_probabilities(calibrated), SPACE.attribute_probabilities(probabilities), (2.0, 0.5), strict=True
    ):
        assert marginal == pytest.approx(apply_temperature(before, temperature), abs=1e-6)


def test_independent_attributes_stay_independent() -> None:
    rng = np.random.default_rng(2)
    gender, age = rng.dirichlet(np.ones(2), size=9), rng.dirichlet(np.ones(3), size=9)
    joint = (gender[:, :, None] * age[:, None, :]).reshape(9, 6)
    expected = (apply_temperature(gender, 3.0)[:, :, None] * apply_temperature(age, 1.5)[:, None, :]).reshape(9, 6)
    assert TemperatureCalibration("attribute", (3.0, 1.5), 9).apply(joint, SPACE) == pytest.approx(expected)


@pytest.mark.parametrize("per", ["class", "attribute"])
def test_calibration_improves_faces_that_it_was_not_fitted_on(per: str) -> None:
    probabilities, truth = overconfident(3000, temperature=3.0)
    report = calibration_report(probabilities, SPACE.class_codes[truth], labels=SPACE, per=per)
    before, after = report["before"], report["after"]
    if per == "class":
        assert after["expected_calibration_error"] < 0.25 * before["expected_calibration_error"]
        assert after["log_loss"] < before["log_loss"]
    for name in SPACE.names:
        assert after["per_attribute"][name]["log_loss"] < before["per_attribute"][name]["log_loss"]


def test_each_attribute_has_its_own_temperature() -> None:
    sharpened, truth = overconfident(3000, temperature=3.0)
    space = LabelSpace.of({"sharpened": list("abcdef"), "calibrated": list("uvwxyz")})
    calibrated, other_truth = overconfident(3000, temperature=1.0, seed=5)
    joint = (sharpened[:, :, None] * calibrated[:, None, :]).reshape(3000, 36)
    calibration = fit_calibration(joint, np.stack([truth, other_truth], axis=1), labels=space, per="attribute")
    assert calibration.temperatures == pytest.approx((3.0, 1.0), rel=0.1)


def test_a_checkpoint_stores_its_calibration_and_predicts_with_it(tmp_path: Path) -> None:
    faces = make_faces(60, 60)
    path = fit(make_role(epochs=4), faces, directory=tmp_path).checkpoint
    uncalibrated_bytes, prediction = path.read_bytes(), PredictionConfig()
    uncalibrated = CheckpointPredictor.load(path, prediction).predict(
        faces.validation.pixels, faces.validation.pixel_rows
    )

    record = calibrate_checkpoint(path, faces.validation, TemperatureScaling(type="temperature"), prediction=prediction)
    assert record is not None
    json.dumps(record)
    calibration = load_checkpoint(path).calibration
    assert calibration is not None
    assert list(calibration.temperatures) == pytest.approx(record["temperatures"])
    predicted = CheckpointPredictor.load(path, prediction).predict(faces.validation.pixels, faces.validation.pixel_rows)
    assert predicted == pytest.approx(calibration.apply(uncalibrated, SPACE), abs=1e-6)
    assert not np.allclose(predicted, uncalibrated, atol=1e-3)

    calibrated_bytes = path.read_bytes()
    calibrate_checkpoint(path, faces.validation, TemperatureScaling(type="temperature"), prediction=prediction)
    assert path.read_bytes() == calibrated_bytes  # fitted on uncalibrated probabilities
    assert calibrate_checkpoint(path, faces.validation, NoCalibration(type="none"), prediction=prediction) is None
    assert path.read_bytes() == uncalibrated_bytes


def test_too_few_faces_are_refused_and_the_record_gives_the_reason(tmp_path: Path) -> None:
    faces = make_faces(60, 30)
    path = fit(make_role(), faces, directory=tmp_path).checkpoint
    record = calibrate_checkpoint(
        path, faces.validation, TemperatureScaling(type="temperature"), prediction=PredictionConfig()
    )
    assert record == {"refused": "30 validation faces are fewer than calibration.min_faces 50"}
    assert load_checkpoint(path).calibration is None
