"""Texts of reasons: confidences next to their thresholds, rounded so that a rejected one never looks accepted."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import FloatArray
from ssl_pipeline.pseudo_labels.criteria import DECIMALS
from ssl_pipeline.pseudo_labels.posteriors import Rows
from ssl_pipeline.pseudo_labels.predictions import Predictions

ObjectArray = npt.NDArray[np.object_]
Reasons = Callable[[Rows], ObjectArray]
"""Returns the reasons of some faces, text [·]: all at once would take more memory than everything else."""


def measure_of(predictions: Predictions) -> str:
    """Name of the confidence in reasons."""
    return "class confidence" if predictions.name == "class" else "confidence"


def compare_with_thresholds(
    predictions: Predictions, thresholds: Sequence[float | None], rows: Rows, *, without_threshold: Sequence[str] = ()
) -> ObjectArray:
    """Compare each face's confidence with its value's threshold, e.g. ``confidence 0.97 >= 0.95 for female``.

    Args:
        predictions: N faces, V values.
        thresholds: [V].
        rows: the faces.
        without_threshold: text for values whose threshold is None, [V].

    Returns:
        text [·].
    """
    predicted, confidence = (numbers[rows] for numbers in predictions.most_probable)
    reasons = np.full(len(predicted), "", dtype=object)
    for value, threshold in enumerate(thresholds):
        is_value, name = predicted == value, predictions.values[value]
        if threshold is None:
            reasons[is_value] = f"no guarantee for {name}: {without_threshold[value]}"
            continue
        measured = format_away_from(confidence[is_value], limit=threshold)
        sign = np.where(confidence[is_value] >= threshold, " >= ", " < ").astype(object)
        reasons[is_value] = f"{measure_of(predictions)} " + measured + sign + f"{threshold} for {name}"
    return reasons


def format_away_from(numbers: FloatArray, *, limit: float, up: bool = False) -> ObjectArray:
    """Format numbers, rounded away from a limit that they miss: down, or `up`.

    A confidence of 0.94996 reads 0.949, not 0.95, next to a threshold of 0.95.

    Args:
        numbers: float [N], to 7 decimals.
        limit: its decimals, at least 3, are shown.
        up: round up instead of down.

    Returns:
        text [N].
    """
    limit_decimals = -int(Decimal(str(limit)).as_tuple().exponent)
    decimals = min(DECIMALS, max(3, limit_decimals))
    exact, step = np.rint(numbers * 10**DECIMALS).astype(np.int64), 10 ** (DECIMALS - decimals)
    unique, inverse = np.unique(-(-exact // step) if up else exact // step, return_inverse=True)
    texts = [f"{number / 10**decimals:.{decimals}f}".rstrip("0").rstrip(".") for number in unique.tolist()]
    return np.array(texts, dtype=object)[inverse]
