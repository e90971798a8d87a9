"""The number behind an attribute, as age in years behind its ranges: what a model expects, and how far off it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config import LabelsConfig
from ssl_pipeline.labels import FloatArray


@dataclass(frozen=True)
class ValueNumbers:
    """What number each value of an attribute stands for."""

    column: str
    """The face table's column that holds the number."""
    of_value: FloatArray
    """float [V], NaN where it is not known."""


@dataclass(frozen=True)
class KnownNumbers:
    """The true numbers of faces, and what number each value stands for."""

    truth: FloatArray
    """float [N], NaN where it is not known."""
    of_value: FloatArray
    """float [V], NaN where it is not known."""


def training_means(train: pd.DataFrame, labels: LabelsConfig) -> dict[str, ValueNumbers]:
    """Average the number over the training faces of each value, for attributes made from a number.

    Args:
        train: the face table's rows that a model learns from.
        labels: the config's section; an attribute counts if its `from_column` is a column of the table.

    Returns:
        By the attribute's name; a value without a training face whose number is known has NaN.
    """
    means = {}
    for attribute in labels.attributes:
        column = attribute.from_column
        if column is not None and column in train:
            numbers = train[column].astype("Float64").groupby(train[attribute.name].astype(object)).mean()
            of_value = numbers.reindex(list(attribute.values)).to_numpy(np.float64, na_value=np.nan)
            means[attribute.name] = ValueNumbers(column, of_value)
    return means


def expected_numbers(probabilities: FloatArray, of_value: FloatArray) -> FloatArray:
    """Give E = Σ_v p(v) · number(v).

    Args:
        probabilities: of an attribute's values, float [N, V], rows sum to 1.
        of_value: number(v), float [V].

    Returns:
        float [N], in the numbers' unit.

    >>> expected_numbers(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([20.0, 40.0]))
    array([30., 22.])
    """
    return np.asarray(probabilities.astype(np.float64) @ of_value)


def number_errors(probabilities: FloatArray, numbers: KnownNumbers) -> dict[str, Any]:
    """Set the expected number against the true one, over the faces whose number is known.

    Args:
        probabilities: of an attribute's values, float [N, V], rows sum to 1.
        numbers: of the same faces and values.

    Returns:
        ``num_numbers`` (faces counted), ``mean_absolute_error`` in the numbers' unit and ``mean_squared_error`` in its
        square; both None where no face counts or a value has no number.
    """
    known = np.isfinite(numbers.truth)
    if not known.any() or not np.isfinite(numbers.of_value).all():
        return {"num_numbers": int(known.sum()), "mean_absolute_error": None, "mean_squared_error": None}
    errors = expected_numbers(probabilities[known], numbers.of_value) - numbers.truth[known]
    return {
        "num_numbers": int(known.sum()),
        "mean_absolute_error": float(np.abs(errors).mean()),
        "mean_squared_error": float((errors**2).mean()),
    }
