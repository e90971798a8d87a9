"""Labeled faces that the teacher did not learn from, and what it says of them.

Shapes: M unseen faces, N faces of the pool, A attributes, K classes.
"""

from dataclasses import dataclass

import numpy as np

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.thresholds import most_probable


@dataclass(frozen=True)
class UnseenFaces:
    """Faces with labels by people, of validation or out of fold, as a teacher predicts them that never saw the labels."""

    probabilities: FloatArray
    """Calibrated as the pool's are, float [M, K], rows sum to 1."""
    codes: IntArray
    """The true value codes, int [M, A], -1 unknown."""
    what: str = "validation"
    """What messages call them."""


@dataclass(frozen=True)
class UnseenAnswers:
    """What the teacher answers on unseen faces, told as much of them as is known of some faces of the pool."""

    given: str
    """The attributes that it is told, as ``age`` or ``age, mask``; empty for none."""
    asked: BoolArray
    """bool [N], the faces of the pool of which just these are known."""
    chosen: IntArray
    """int [M'], the most probable value, or class, of the unseen faces with known truth."""
    confidence: FloatArray
    """float [M'], to 7 decimals."""
    right: BoolArray
    """bool [M']"""


def unseen_answers(
    unseen: UnseenFaces, labels: LabelSpace, known: BoolArray, undecided: BoolArray, *, position: int | None
) -> tuple[UnseenAnswers, ...]:
    """Ask the teacher of the unseen faces what it is asked of the pool, telling it as much.

    A guess at an age is surer, and right more often, once the gender is known. So for each set of attributes that is
    known of some undecided faces of the pool, the unseen faces are asked with just that set known.

    Args:
        unseen: M faces.
        labels: the label space.
        known: what is known of the pool, bool [N, A].
        undecided: the pool's faces to decide, bool [N].
        position: the attribute in question; None for the class.

    Returns:
        One entry a set of known attributes, in the order of their names' places; none if nothing is undecided.
    """
    answers = []
    for pattern in np.unique(known[undecided], axis=0):
        told = np.where(pattern, unseen.codes, UNKNOWN)
        needed = pattern | (np.arange(len(pattern)) == position) if position is not None else np.ones_like(pattern)
        usable = (unseen.codes != UNKNOWN)[:, needed].all(axis=1)
        posterior = labels.condition(unseen.probabilities[usable].astype(np.float64), told[usable])
        if position is None:
            asked_for, truth = posterior, labels.class_ids(unseen.codes[usable])
        else:
            asked_for, truth = labels.attribute_probabilities(posterior)[position], unseen.codes[usable, position]
        chosen, confidence = most_probable(asked_for)
        answers.append(
            UnseenAnswers(
                given=", ".join(name for name, told_it in zip(labels.names, pattern, strict=True) if told_it),
                asked=undecided & (known == pattern).all(axis=1),
                chosen=chosen,
                confidence=confidence,
                right=chosen == truth,
            )
        )
    return tuple(answers)
