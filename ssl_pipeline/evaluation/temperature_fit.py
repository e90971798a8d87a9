"""Fit temperatures on held-out predictions; report before and after.

Apart from `temperature`, since who only predicts needs neither scikit-learn nor scipy's optimizers. Shapes: N faces, A
attributes, V values of an attribute, K classes.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ssl_pipeline.evaluation.metrics import evaluate_predictions
from ssl_pipeline.evaluation.temperature import Per, TemperatureCalibration, apply_temperature
from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace

TEMPERATURES = (0.5, 20.0)
"""Search range; a temperature at its end is refused, see `fit_calibration`."""
_AT_THE_END, _NUM_FOLDS = 1.01, 5


def fit_temperature(probabilities: FloatArray, truth: IntArray, units: IntArray) -> float:
    """Minimize the log loss over temperatures within `TEMPERATURES`; each independent unit counts once.

    Targets are smoothed as if each value had been seen once more (Platt 1999, section 2.2): n units that are all right
    are evidence of an accuracy of about (n + 1) / (n + V), not of 1.

    Args:
        probabilities: float [N, V], rows sum to 1.
        truth: int [N], in 0 … V - 1.
        units: the independent unit of each face, int [N].
    """
    weights = 1 / np.bincount(units)[units]
    num_units, num_values = weights.sum(), probabilities.shape[1]
    targets = np.full(probabilities.shape, 1 / (num_units + num_values))
    targets[np.arange(len(truth)), truth] = (num_units + 1) / (num_units + num_values)

    def log_loss(log_temperature: float) -> float:
        logarithms = np.log(apply_temperature(probabilities, float(np.exp(log_temperature))))
        return float(-(weights @ (targets * logarithms).sum(axis=1)) / num_units)

    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    optimum = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(optimum.x))


def fit_calibration(
    probabilities: FloatArray, codes: IntArray, units: IntArray, *, labels: LabelSpace, per: Per
) -> TemperatureCalibration:
    """Fit temperatures on faces that the model was not trained on.

    A temperature at the end of the search range is no fit: at the lower end nearly every face is right, and at the upper
    end confidence says nothing about correctness. It is refused, and the probabilities stay as they are.

    Args:
        probabilities: uncalibrated, float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        units: the independent unit of each face, int [N]; see `faces.independence.independent_units`.
        labels: the label space.
        per: one temperature for the joint classes, or one per attribute.
    """
    units = np.unique(units, return_inverse=True)[1]
    if per == "class":
        names, marginals, truths = ["class"], [probabilities], [labels.class_ids(codes)]
    else:
        names, marginals = labels.names, labels.attribute_probabilities(probabilities)
        truths = list(codes.T)
    temperatures, refused = [], []
    for name, marginal, truth in zip(names, marginals, truths, strict=True):
        temperature = fit_temperature(marginal, truth, units)
        if (reason := _refusal(temperature, marginal.argmax(axis=1) == truth)) is not None:
            refused.append(f"{name}: {reason}")
            temperature = 1.0
        temperatures.append(temperature)
    return TemperatureCalibration(per, tuple(temperatures), len(codes), len(np.unique(units)), tuple(refused))


def _refusal(temperature: float, correct: BoolArray) -> str | None:
    """Return why a temperature is no fit; None if it is one."""
    lowest, highest = TEMPERATURES
    if lowest * _AT_THE_END < temperature < highest / _AT_THE_END:
        return None
    counts = f"{int(correct.sum())} of {len(correct)} faces are right"
    if temperature <= lowest * _AT_THE_END:
        return f"{counts}, too many to fit a temperature of at least {lowest:g}; its confidence stays as it is, too low"
    return f"{counts}, whatever the confidence; its confidence stays as it is, and means nothing"


def calibration_report(
    probabilities: FloatArray, codes: IntArray, units: IntArray, *, labels: LabelSpace, per: Per
) -> dict[str, Any]:
    """Score the effect of calibration by five-fold cross-validation over independent units.

    Returns:
        ``before`` and ``after``, each with ``expected_calibration_error, brier_score, log_loss, reliability`` of the
        joint classes and in ``per_attribute.<name>``.
    """
    calibrated, units = np.zeros(probabilities.shape), np.unique(units, return_inverse=True)[1]
    folds = (np.random.default_rng(0).permutation(units.max() + 1) % _NUM_FOLDS)[units]
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = fit_calibration(probabilities[~held_out], codes[~held_out], units[~held_out], labels=labels, per=per)
        calibrated[held_out] = fitted.apply(probabilities[held_out], labels)
    return {"before": _scores(probabilities, codes, labels), "after": _scores(calibrated, codes, labels)}


def _scores(probabilities: FloatArray, codes: IntArray, labels: LabelSpace) -> dict[str, Any]:
    names = ("expected_calibration_error", "brier_score", "log_loss", "reliability")
    scores = evaluate_predictions(probabilities, codes, labels=labels)
    per_attribute = {
        name: {metric: values[metric] for metric in names} for name, values in scores["per_attribute"].items()
    }
    return {**{metric: scores[metric] for metric in names}, "per_attribute": per_attribute}
