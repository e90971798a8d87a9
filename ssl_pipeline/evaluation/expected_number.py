"""Expected number of an attribute with numeric values, e.g. age in years, and its errors."""

from typing import Any

import numpy as np

from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.labels import FloatArray


def expected_numbers(probabilities: FloatArray, of_value: FloatArray) -> FloatArray:
    """Compute E = Σ_v p(v) · number(v).

    Args:
        probabilities: of an attribute's values, float [N, V], rows sum to 1.
        of_value: number(v), float [V].

    Returns:
        float [N], in the unit of the numbers.

    >>> expected_numbers(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([20.0, 40.0]))
    array([30., 22.])
    """
    return np.asarray(probabilities.astype(np.float64) @ of_value)


def number_errors(probabilities: FloatArray, numbers: RegressionTargets) -> dict[str, Any]:
    """Compare expected with true numbers, over the faces with a known number.

    Args:
        probabilities: of an attribute's values, float [N, V], rows sum to 1.
        numbers: of the same faces and values.

    Returns:
        ``num_numbers`` (faces counted), ``mean_absolute_error`` in the unit of the numbers, and ``mean_squared_error``
        in its square. Both errors are None if no face is counted or a value has no number.
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
