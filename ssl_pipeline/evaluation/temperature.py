"""Temperature scaling: fit on held-out predictions, apply, report before and after.

Shapes: N faces, A attributes, V values of an attribute, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from ssl_pipeline.evaluation.metrics import evaluate_predictions
from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace

TEMPERATURES = (0.05, 20.0)
"""Search range; a temperature at its end means too few faces or a useless model."""
_NUM_FOLDS, _MAX_FITTING_ROUNDS = 5, 1000
_SMALLEST_PROBABILITY = 1e-12

Per = Literal["class", "attribute"]


@dataclass(frozen=True)
class TemperatureCalibration:
    """Fitted temperatures of a model."""

    per: Per
    temperatures: tuple[float, ...]
    """One for the joint classes, or one per attribute in the order of the label space. Above 1 softens."""
    num_faces: int
    """Number of faces they were fitted on."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TemperatureCalibration":
        """Rebuild from `dataclasses.asdict`."""
        return cls(values["per"], tuple(float(value) for value in values["temperatures"]), int(values["num_faces"]))

    def apply(self, probabilities: FloatArray, labels: LabelSpace) -> FloatArray:
        """Calibrate class probabilities, [N, K] in and out, rows sum to 1.

        Per attribute, each marginal is scaled by its temperature, and the joint probabilities are fitted to the new
        marginals by iterative proportional fitting (Deming and Stephan 1940), which keeps the dependence between
        attributes.
        """
        if self.per == "class":
            return apply_temperature(probabilities, self.temperatures[0])
        targets = [
            apply_temperature(marginal, temperature)
            for marginal, temperature in zip(
                labels.attribute_probabilities(probabilities), self.temperatures, strict=True
            )
        ]
        fitted = np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY)
        for _ in range(_MAX_FITTING_ROUNDS):
            before = fitted
            for position, target in enumerate(targets):
                marginal = labels.attribute_probabilities(fitted)[position]
                fitted = fitted * (target / marginal)[:, labels.class_codes[:, position]]
            if np.abs(fitted - before).max(initial=0.0) < 1e-9:
                break
        return np.asarray(fitted / fitted.sum(axis=1, keepdims=True))


def apply_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Raise probabilities to the power 1/T and renormalize, i.e. softmax(logits / T).

    Args:
        probabilities: float [N, V], rows sum to 1.
        temperature: T > 0; 1 changes nothing, above 1 softens.

    Returns:
        float64 [N, V], rows sum to 1, no zeros.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))
    return np.asarray(softmax(logits / temperature, axis=1))


def fit_temperature(probabilities: FloatArray, truth: IntArray) -> float:
    """Minimize the log loss over temperatures within `TEMPERATURES`.

    Args:
        probabilities: float [N, V], rows sum to 1.
        truth: int [N], in 0 … V - 1.
    """
    rows = np.arange(len(truth))

    def log_loss(log_temperature: float) -> float:
        true_probabilities = apply_temperature(probabilities, float(np.exp(log_temperature)))[rows, truth]
        return float(-np.log(np.maximum(true_probabilities, _SMALLEST_PROBABILITY)).mean())

    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    optimum = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(optimum.x))


def fit_calibration(
    probabilities: FloatArray, codes: IntArray, *, labels: LabelSpace, per: Per
) -> TemperatureCalibration:
    """Fit temperatures on faces that the model was not trained on.

    Args:
        probabilities: uncalibrated, float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        per: one temperature for the joint classes, or one per attribute.
    """
    if per == "class":
        temperatures = [fit_temperature(probabilities, labels.class_ids(codes))]
    else:
        marginals = labels.attribute_probabilities(probabilities)
        temperatures = [fit_temperature(marginal, codes[:, position]) for position, marginal in enumerate(marginals)]
    return TemperatureCalibration(per, tuple(temperatures), len(codes))


def calibration_report(probabilities: FloatArray, codes: IntArray, *, labels: LabelSpace, per: Per) -> dict[str, Any]:
    """Score the effect of calibration by five-fold cross-validation.

    Returns:
        ``before`` and ``after``, each with ``expected_calibration_error, brier_score, log_loss, reliability`` of the
        joint classes and in ``per_attribute.<name>``.
    """
    calibrated = np.zeros(probabilities.shape)
    folds = np.random.default_rng(0).permutation(len(codes)) % _NUM_FOLDS
    for fold in range(_NUM_FOLDS):
        held_out = folds == fold
        fitted = fit_calibration(probabilities[~held_out], codes[~held_out], labels=labels, per=per)
        calibrated[held_out] = fitted.apply(probabilities[held_out], labels)
    return {"before": _scores(probabilities, codes, labels), "after": _scores(calibrated, codes, labels)}


def _scores(probabilities: FloatArray, codes: IntArray, labels: LabelSpace) -> dict[str, Any]:
    names = ("expected_calibration_error", "brier_score", "log_loss", "reliability")
    scores = evaluate_predictions(probabilities, codes, labels=labels)
    per_attribute = {
        name: {metric: values[metric] for metric in names} for name, values in scores["per_attribute"].items()
    }
    return {**{metric: scores[metric] for metric in names}, "per_attribute": per_attribute}
