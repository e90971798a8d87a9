"""Is one model better than another on the same faces, or are the faces too few to say? A bootstrap over persons.

Shapes: N faces, P persons, K classes, D draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import FloatArray, IntArray

_DRAWS_AT_ONCE = 256


@dataclass(frozen=True)
class PairedDifference:
    """How much better the second model is than the first, and how sure that is."""

    difference: float
    """On the faces as they are."""
    lower: float
    upper: float
    """The central 95 % of the draws."""
    probability: float
    """Share of the draws in which the second is better; a draw in which both are equal counts half."""
    num_persons: int


def paired_bootstrap(
    truth: IntArray,
    first: IntArray,
    second: IntArray,
    persons: npt.ArrayLike,
    *,
    num_classes: int,
    metric: str = "macro_f1",
    num_draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Draw persons with replacement, all their faces with them, and score both models on each draw.

    Faces of one person are alike, so that the person, not the face, is what was sampled (cluster bootstrap: Field and
    Welsh 2007; paired for classifiers: Efron and Tibshirani 1993, chapter 16).

    Args:
        truth: int [N], in 0 … K - 1.
        first: the first model's classes, int [N].
        second: the second's.
        persons: [N], who is on the picture.
        num_classes: K.
        metric: ``macro_f1`` (over the classes that occur in a draw), or ``accuracy``.
        num_draws: D.
        seed: of the draws.

    Raises:
        ValueError: if there is no face, or no such metric.
    """
    if len(truth) == 0:
        raise ValueError("a comparison needs faces")
    if metric not in ("macro_f1", "accuracy"):
        raise ValueError(f"metric: expected macro_f1 or accuracy, got '{metric}'")
    names, places = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)
    counts = [_by_person(truth, chosen, places, len(names), num_classes) for chosen in (first, second)]
    everyone = np.ones((1, len(names)))
    difference = float((_score(everyone, counts[1], metric) - _score(everyone, counts[0], metric))[0])
    drawn = np.concatenate(
        [
            _score(times, counts[1], metric) - _score(times, counts[0], metric)
            for times in _draws(len(names), num_draws, seed)
        ]
    )
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    probability = float((drawn > 0).mean() + 0.5 * (drawn == 0).mean())
    return PairedDifference(difference, float(lower), float(upper), probability, len(names))


def _by_person(truth: IntArray, chosen: IntArray, places: IntArray, num_persons: int, num_classes: int) -> FloatArray:
    """Count, for each person and class: faces of it, faces taken for it, faces of it taken for it; float [P, 3 K]."""
    right = truth == chosen
    parts = []
    for ids, rows in ((truth, slice(None)), (chosen, slice(None)), (truth, right)):
        flat = places[rows] * num_classes + ids[rows]
        parts.append(np.bincount(flat, minlength=num_persons * num_classes).reshape(num_persons, num_classes))
    return np.concatenate(parts, axis=1).astype(np.float64)


def _draws(num_persons: int, num_draws: int, seed: int) -> Iterator[FloatArray]:
    """Give how often each draw holds each person, float [≤ 256, P] at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, num_draws, _DRAWS_AT_ONCE):
        number = min(_DRAWS_AT_ONCE, num_draws - start)
        yield rng.multinomial(num_persons, np.full(num_persons, 1 / num_persons), size=number).astype(np.float64)


def _score(times: FloatArray, counts: FloatArray, metric: str) -> FloatArray:
    """Score draws, float [D], from how often each holds each person, [D, P], and the persons' counts, [P, 3 K]."""
    of_class, taken, right = np.split(times @ counts, 3, axis=1)
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / of_class.sum(axis=1))
    occurs = of_class > 0
    f1 = np.where(occurs, 2 * right / np.maximum(of_class + taken, 1), 0.0)
    return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))
