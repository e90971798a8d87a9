"""Predictions of one attribute, or of the class: for the pool, and for held-out faces to measure precision on.

Shapes: N faces of the pool, M held-out faces, A attributes, V values of one attribute, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.criteria import most_probable
from ssl_pipeline.pseudo_labels.precision_guarantee import Evidence


@dataclass(frozen=True)
class HeldOutFaces:
    """Human-labeled faces, of validation or out of fold, as predicted by a teacher that was not trained on them."""

    probabilities: FloatArray
    """Calibrated like the pool's, float [M, K], rows sum to 1."""
    codes: IntArray
    """The true value codes, int [M, A], -1 unknown."""
    units: IntArray
    """The independent unit of each face, int [M]; see `faces.independence.independent_units`."""
    name: str = "validation"
    """Used in messages."""
    withheld: str = ""
    """Why these faces guarantee nothing about the pool, in words: they are unlike it, or they chose something."""


@dataclass(frozen=True)
class HeldOutPredictions:
    """The teacher's predictions of held-out faces, given the same known attributes as some faces of the pool."""

    known_attributes: str
    """The given attributes, e.g. ``age`` or ``age, mask``; empty for none."""
    pool_faces: BoolArray
    """bool [N], the unlabeled faces of the pool with exactly these attributes known."""
    predicted: IntArray
    """int [M'], the most probable value, or class, of the held-out faces with known truth."""
    confidence: FloatArray
    """float [M'], to 7 decimals."""
    correct: BoolArray
    """bool [M']"""
    units: IntArray
    """int [M'], the independent unit of each face."""
    withheld: str = ""
    """See `HeldOutFaces`."""

    def of_value(self, value: int) -> "Evidence":
        """The faces predicted as a value."""
        rows = self.predicted == value
        return Evidence(self.confidence[rows], self.correct[rows], self.units[rows])


@dataclass(frozen=True)
class Predictions:
    """The teacher's predictions of the pool for one attribute, or for the class."""

    name: str
    """The attribute's name, or `class`."""
    values: Sequence[str]
    """Names of the values, [V]."""
    most_probable: tuple[IntArray, FloatArray]
    """The most probable value, int [N], and its confidence to 7 decimals, float [N]."""
    unlabeled: BoolArray
    """bool [N], the faces whose value is unknown: only they can get a pseudo-label."""
    image_ids: "Sequence[str] | pd.Series[Any]"
    """[N], break ties."""
    unlabeled_probabilities: Callable[[], FloatArray]
    """Returns the probabilities of the unlabeled faces' values, float [·, V], rows sum to 1."""
    disagreement: FloatArray | None = None
    """float [N], see `criteria.vote_disagreement`; None without views or teachers."""
    held_out: tuple[HeldOutPredictions, ...] = ()

    def candidates(self, value: int) -> BoolArray:
        """Mark the unlabeled faces whose most probable value this is, bool [N]."""
        return np.asarray(self.unlabeled & (self.most_probable[0] == value))


def predict_held_out(
    held_out: HeldOutFaces, labels: LabelSpace, known: BoolArray, unlabeled: BoolArray, *, position: int | None
) -> tuple[HeldOutPredictions, ...]:
    """Predict the held-out faces under the same known attributes as the pool's faces.

    Known attributes make predictions of the others more confident and more precise. So for each set of attributes that
    is known of some unlabeled faces of the pool, the held-out faces are conditioned on just that set.

    Args:
        held_out: M faces.
        labels: the label space.
        known: the pool's known attributes, bool [N, A].
        unlabeled: the pool's faces to predict, bool [N].
        position: the attribute to predict; None for the class.

    Returns:
        One entry per set of known attributes, sorted; none if no face is unlabeled.
    """
    predictions = []
    for pattern in np.unique(known[unlabeled], axis=0):
        given_codes = np.where(pattern, held_out.codes, UNKNOWN)
        required = pattern | (np.arange(len(pattern)) == position) if position is not None else np.ones_like(pattern)
        usable = (held_out.codes != UNKNOWN)[:, required].all(axis=1)
        posterior = labels.condition(held_out.probabilities[usable].astype(np.float64), given_codes[usable])
        if position is None:
            probabilities, truth = posterior, labels.class_ids(held_out.codes[usable])
        else:
            probabilities = labels.attribute_probabilities(posterior)[position]
            truth = held_out.codes[usable, position]
        predicted, confidence = most_probable(probabilities)
        predictions.append(
            HeldOutPredictions(
                known_attributes=", ".join(np.array(labels.names, dtype=object)[pattern]),
                pool_faces=unlabeled & (known == pattern).all(axis=1),
                predicted=predicted,
                confidence=confidence,
                correct=predicted == truth,
                units=held_out.units[usable],
                withheld=held_out.withheld,
            )
        )
    return tuple(predictions)
