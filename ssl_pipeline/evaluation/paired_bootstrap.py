"""Paired bootstrap over independent units: difference of two models on the same faces, with its interval.

Shapes: N faces, U units, K classes, D draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssl_pipeline.labels import FloatArray, IntArray

_DRAWS_PER_BATCH = 256


@dataclass(frozen=True)
class PairedDifference:
    """Score of the second model minus score of the first."""

    difference: float
    """On the given faces."""
    lower: float
    upper: float
    """With `lower`: the central 95 % of the draws."""
    probability: float
    """Share of the draws in which the second model is better; a tie counts half."""
    num_units: int
    """Independent units that were resampled, see `faces.independence`."""


def paired_bootstrap(
    truth: IntArray,
    first: IntArray,
    second: IntArray,
    units: IntArray,
    *,
    num_classes: int,
    metric: str = "macro_f1",
    num_draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Resample units with all their faces, with replacement, and score both models on each draw.

    Faces of a person and copies of a picture are not independent, hence units (cluster bootstrap: Field and Welsh 2007;
    paired for classifiers: Efron and Tibshirani 1993, chapter 16). With few units the interval is too narrow, and with
    one it has width zero: use `sign_test` for small groups.

    Args:
        truth: int [N], in 0 … K - 1.
        first: classes predicted by the first model, int [N].
        second: classes predicted by the second model, int [N].
        units: the unit of each face, int [N], see `faces.independence`.
        num_classes: K.
        metric: ``macro_f1`` (over the classes that occur in a draw) or ``accuracy``.
        num_draws: D.
        seed: of the draws.

    Raises:
        ValueError: if there is no face, or no such metric.
    """
    if len(truth) == 0:
        raise ValueError("a comparison needs at least one face, got none")
    if metric not in ("macro_f1", "accuracy"):
        raise ValueError(f"metric: expected macro_f1 or accuracy, got '{metric}'")
    unit_ids, unit_indices = np.unique(units, return_inverse=True)
    num_units = len(unit_ids)
    counts = [_counts_per_unit(truth, chosen, unit_indices, num_units, num_classes) for chosen in (first, second)]

    def differences(multiplicities: FloatArray) -> FloatArray:
        return _scores(multiplicities, counts[1], metric) - _scores(multiplicities, counts[0], metric)

    difference = float(differences(np.ones((1, num_units)))[0])
    drawn = np.concatenate([differences(draws) for draws in _draw_units(num_units, num_draws, seed)])
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    probability = float((drawn > 0).mean() + 0.5 * (drawn == 0).mean())
    return PairedDifference(difference, float(lower), float(upper), probability, num_units)


def bootstrap_interval(
    truth: IntArray,
    predicted: IntArray,
    units: IntArray,
    *,
    num_classes: int,
    metric: str = "macro_f1",
    num_draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the central 95 % of one model's scores over resampled units; arguments as of `paired_bootstrap`."""
    unit_ids, unit_indices = np.unique(units, return_inverse=True)
    counts = _counts_per_unit(truth, predicted, unit_indices, len(unit_ids), num_classes)
    batches = _draw_units(len(unit_ids), num_draws, seed)
    drawn = np.concatenate([_scores(draws, counts, metric) for draws in batches])
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return float(lower), float(upper)


def _counts_per_unit(
    truth: IntArray, predicted: IntArray, unit_indices: IntArray, num_units: int, num_classes: int
) -> FloatArray:
    """Count, per unit and class, the true faces, the predicted faces and the true positives; float [U, 3 K]."""
    is_correct = truth == predicted
    parts = []
    for class_ids, rows in ((truth, slice(None)), (predicted, slice(None)), (truth, is_correct)):
        cells = unit_indices[rows] * num_classes + class_ids[rows]
        parts.append(np.bincount(cells, minlength=num_units * num_classes).reshape(num_units, num_classes))
    return np.concatenate(parts, axis=1).astype(np.float64)


def _draw_units(num_units: int, num_draws: int, seed: int) -> Iterator[FloatArray]:
    """Draw how often each unit occurs in each draw, float [≤ 256, U] per batch."""
    rng = np.random.default_rng(seed)
    for start in range(0, num_draws, _DRAWS_PER_BATCH):
        size = min(_DRAWS_PER_BATCH, num_draws - start)
        yield rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=size).astype(np.float64)


def _scores(multiplicities: FloatArray, counts: FloatArray, metric: str) -> FloatArray:
    """Score each draw, float [D], from the units' multiplicities, [D, U], and `_counts_per_unit`, [U, 3 K]."""
    num_true, num_predicted, num_correct = np.split(multiplicities @ counts, 3, axis=1)
    if metric == "accuracy":
        return np.asarray(num_correct.sum(axis=1) / num_true.sum(axis=1))
    occurs = num_true > 0
    f1 = np.where(occurs, 2 * num_correct / np.maximum(num_true + num_predicted, 1), 0.0)
    return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))
