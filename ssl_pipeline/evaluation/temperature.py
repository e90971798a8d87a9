"""Temperature scaling of class probabilities; `temperature_fit` fits the temperatures.

Shapes: N faces, V values of an attribute, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import softmax

from ssl_pipeline.labels import FloatArray, LabelSpace

_MAX_FITTING_ROUNDS = 1000
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
    num_units: int
    """Number of independent units among them: persons joined with picture groups."""
    refused_temperatures: tuple[str, ...] = ()
    """Why a temperature was not fitted; it is then 1."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TemperatureCalibration":
        """Rebuild from `dataclasses.asdict`."""
        temperatures = tuple(float(value) for value in values["temperatures"])
        num_faces = int(values["num_faces"])
        num_units = int(values.get("num_units", num_faces))  # absent in checkpoints of older versions
        return cls(values["per"], temperatures, num_faces, num_units, tuple(values.get("refused_temperatures", ())))

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
