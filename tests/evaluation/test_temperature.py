"""Temperature scaling against a softmax of scaled logits and a grid search; calibration stored in a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from ssl_pipeline.config.evaluation import TemperatureScaling
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.evaluation.temperature import TemperatureCalibration, apply_temperature
from ssl_pipeline.evaluation.temperature_fit import calibration_report, fit_calibration, fit_temperature
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.calibrate import fit_and_report, save_calibrated
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
    temperature = fit_temperature(probabilities, truth, np.arange(4000))
    assert temperature == pytest.approx(3.0, rel=0.08)
    grid = np.geomspace(0.1, 10, 400)
    logits = np.log(probabilities)
    losses = [-log_softmax(logits / t, axis=1)[np.arange(4000), truth].mean() for t in grid]
    assert temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)


def test_each_marginal_is_scaled_by_its_temperature() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(6), size=50)
    calibrated = TemperatureCalibration("attribute", (2.0, 0.5), 50, 50).apply(probabilities, SPACE)
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
    assert TemperatureCalibration("attribute", (3.0, 1.5), 9, 9).apply(joint, SPACE) == pytest.approx(expected)


@pytest.mark.parametrize("per", ["class", "attribute"])
def test_calibration_improves_faces_that_it_was_not_fitted_on(per: str) -> None:
    probabilities, truth = overconfident(3000, temperature=3.0)
    report = calibration_report(probabilities, SPACE.class_codes[truth], np.arange(3000), labels=SPACE, per=per)
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
    codes = np.stack([truth, other_truth], axis=1)
    calibration = fit_calibration(joint, codes, np.arange(3000), labels=space, per="attribute")
    assert calibration.temperatures == pytest.approx((3.0, 1.0), rel=0.1)


def test_a_saved_calibration_is_applied_by_the_predictor(tmp_path: Path) -> None:
    faces = make_faces(60, 60)
    path = fit(make_role(epochs=4), faces, directory=tmp_path).checkpoint
    plain = CheckpointPredictor.load(path, PredictionConfig())
    uncalibrated = plain.predict(faces.validation.pixels, faces.validation.pixel_rows)
    calibration = TemperatureCalibration("attribute", (2.0, 0.7), 60, 50, ("age: a reason",))
    save_calibrated(tmp_path / "calibrated.safetensors", plain.checkpoint, calibration)
    calibrated = CheckpointPredictor.load(tmp_path / "calibrated.safetensors", PredictionConfig())
    assert calibrated.checkpoint.calibration == calibration
    predicted = calibrated.predict(faces.validation.pixels, faces.validation.pixel_rows)
    assert predicted == pytest.approx(calibration.apply(uncalibrated, SPACE), abs=1e-6)
    assert not np.allclose(predicted, uncalibrated, atol=1e-3)


def test_a_report_can_be_recorded() -> None:
    probabilities, truth = overconfident(300, temperature=2.0)
    calibration, report = fit_and_report(
        probabilities,
        SPACE.class_codes[truth],
        np.arange(300),
        TemperatureScaling(type="temperature"),
        labels=SPACE,
        what="validation",
    )
    assert calibration is not None
    assert json.loads(json.dumps(report))["temperatures"] == list(calibration.temperatures)


def test_too_few_persons_are_refused_and_the_report_gives_the_reason() -> None:
    probabilities, truth = overconfident(120, temperature=2.0)
    settings = TemperatureScaling(type="temperature")
    codes, four_faces_each = SPACE.class_codes[truth], np.arange(120) // 4
    calibration, report = fit_and_report(
        probabilities, codes, four_faces_each, settings, labels=SPACE, what="validation"
    )
    assert calibration is None
    assert report == {"refused": "30 persons with validation faces are fewer than calibration.min_persons 50"}
    assert (
        fit_and_report(probabilities, codes, np.arange(120), settings, labels=SPACE, what="validation")[0] is not None
    )


def test_copies_of_a_face_change_no_temperature() -> None:
    probabilities, truth = overconfident(200, temperature=3.0)
    copies = np.concatenate([np.arange(200), np.full(500, 7)])  # face 7 another 500 times
    once = fit_temperature(probabilities, truth, np.arange(200))
    assert fit_temperature(probabilities[copies], truth[copies], copies) == pytest.approx(once, rel=1e-4)


def test_faces_of_one_person_are_in_one_fold_of_the_report() -> None:
    """Of a person in two folds, one face would choose the temperature that the other is scored with."""
    rows, truth = overconfident(15, temperature=2.0, seed=4)
    persons = np.repeat(np.arange(15), 20)  # twenty equal pictures of each person
    codes = SPACE.class_codes[truth][persons]
    by_person = calibration_report(rows[persons], codes, persons, labels=SPACE, per="class")
    by_face = calibration_report(rows[persons], codes, np.arange(300), labels=SPACE, per="class")
    assert by_person["after"]["log_loss"] > by_face["after"]["log_loss"] + 0.01


def test_all_right_does_not_make_a_model_sure_of_everything_and_is_told() -> None:
    rows = np.tile([[0.6, 0.4]], (100, 1))
    space = LabelSpace.of({"mask": ["wear", "normal"]})
    calibration = fit_calibration(rows, np.zeros((100, 1), int), np.arange(100), labels=space, per="attribute")
    assert calibration.temperatures == (1.0,)
    assert calibration.refused_temperatures == (
        "mask: 100 of 100 faces are right, too many to fit a temperature of at least 0.5; its confidence stays as it "
        "is, too low",
    )


def test_a_model_that_guesses_gets_no_temperature_and_is_told() -> None:
    rows = np.tile([[0.95, 0.05]], (100, 1))
    space = LabelSpace.of({"mask": ["wear", "normal"]})
    codes = (np.arange(100) % 2)[:, None]
    calibration = fit_calibration(rows, codes, np.arange(100), labels=space, per="attribute")
    assert calibration.temperatures == (1.0,)
    assert "50 of 100 faces are right, whatever the confidence" in calibration.refused_temperatures[0]
