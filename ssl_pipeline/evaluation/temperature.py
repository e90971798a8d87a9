"""Temperature scaling: make confidences mean what they say, on faces that the model has not learned from.

Shapes: N faces, A attributes, V values of an attribute, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar

from ssl_pipeline.evaluation.metrics import evaluate_predictions
from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace

TEMPERATURES = (0.05, 20.0)
"""The range that is searched; a temperature at its end says that the faces are too few or the model is no use."""
_NUM_FOLDS, _MAX_ROUNDS = 5, 1000
_TINY = 1e-12

Per = Literal["class", "attribute"]


@dataclass(frozen=True)
class Calibration:
    """The temperatures of a model."""

    per: Per
    temperatures: tuple[float, ...]
    """One, of the joint classes; or one an attribute, in the order of the label space. Above 1 softens."""
    num_faces: int
    """Faces that they were fitted on."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Read what `dataclasses.asdict` gives."""
        return cls(values["per"], tuple(float(value) for value in values["temperatures"]), int(values["num_faces"]))

    def apply(self, probabilities: FloatArray, labels: LabelSpace) -> FloatArray:
        """Calibrate class probabilities, [N, K] in and out, rows sum to 1.

        Per attribute, the marginals become those of the temperatures, and how the attributes hang together stays as it
        was: p is scaled to the new marginals by iterative proportional fitting (Deming and Stephan 1940).
        """
        if self.per == "class":
            return apply_temperature(probabilities, self.temperatures[0])
        goals = [
            apply_temperature(marginal, temperature)
            for marginal, temperature in zip(
                labels.attribute_probabilities(probabilities), self.temperatures, strict=True
            )
        ]
        fitted = np.maximum(probabilities.astype(np.float64), _TINY)
        for _ in range(_MAX_ROUNDS):
            before = fitted
            for position, goal in enumerate(goals):
                marginal = labels.attribute_probabilities(fitted)[position]
                fitted = fitted * (goal / marginal)[:, labels.class_codes[:, position]]
            if np.abs(fitted - before).max(initial=0.0) < 1e-9:
                break
        return np.asarray(fitted / fitted.sum(axis=1, keepdims=True))


def apply_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Raise probabilities to the power of 1/T and renormalise: the softmax of logits divided by T.

    Args:
        probabilities: float [N, V], rows sum to 1.
        temperature: T > 0; 1 changes nothing, above 1 softens.

    Returns:
        float64 [N, V], rows sum to 1; none is zero.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: FloatArray, truth: IntArray) -> float:
    """Find the temperature of the least log loss, within `TEMPERATURES`.

    Args:
        probabilities: float [N, V], rows sum to 1.
        truth: int [N], in 0 … V - 1.
    """
    rows = np.arange(len(truth))

    def log_loss(log_temperature: float) -> float:
        chosen = apply_temperature(probabilities, float(np.exp(log_temperature)))[rows, truth]
        return float(-np.log(np.maximum(chosen, _TINY)).mean())

    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_calibration(probabilities: FloatArray, codes: IntArray, *, labels: LabelSpace, per: Per) -> Calibration:
    """Fit temperatures on faces that the model has not learned from.

    Args:
        probabilities: uncalibrated, float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        per: one temperature for the classes, or one an attribute.
    """
    if per == "class":
        temperatures = [fit_temperature(probabilities, labels.class_ids(codes))]
    else:
        marginals = labels.attribute_probabilities(probabilities)
        temperatures = [fit_temperature(marginal, codes[:, position]) for position, marginal in enumerate(marginals)]
    return Calibration(per, tuple(temperatures), len(codes))


def calibration_report(probabilities: FloatArray, codes: IntArray, *, labels: LabelSpace, per: Per) -> dict[str, Any]:
    """Say what calibration does for faces that it was not fitted on.

    The faces are dealt into five parts; each is calibrated by temperatures fitted on the other four.

    Returns:
        ``before`` and ``after``, each with ``expected_calibration_error, brier_score, log_loss, reliability`` jointly and
        in ``per_attribute.<name>``.
    """
    held_out = np.zeros(probabilities.shape)
    shard_indices = np.random.default_rng(0).permutation(len(codes)) % _NUM_FOLDS
    for part in range(_NUM_FOLDS):
        inside = shard_indices == part
        fitted = fit_calibration(probabilities[~inside], codes[~inside], labels=labels, per=per)
        held_out[inside] = fitted.apply(probabilities[inside], labels)
    return {"before": _scores(probabilities, codes, labels), "after": _scores(held_out, codes, labels)}


def _scores(probabilities: FloatArray, codes: IntArray, labels: LabelSpace) -> dict[str, Any]:
    names = ("expected_calibration_error", "brier_score", "log_loss", "reliability")
    scores = evaluate_predictions(probabilities, codes, labels=labels)
    per_attribute = {name: {metric: own[metric] for metric in names} for name, own in scores["per_attribute"].items()}
    return {**{metric: scores[metric] for metric in names}, "per_attribute": per_attribute}
