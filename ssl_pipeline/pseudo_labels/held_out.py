"""Labeled faces that the teacher did not learn from, and what it says of them.

Shapes: M held-out faces, N faces of the pool, A attributes, K classes.
"""

from dataclasses import dataclass

import numpy as np

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.thresholds import most_probable


@dataclass(frozen=True)
class HeldOutFaces:
    """Faces with labels by people, of validation or out of fold, as a teacher predicts them that never saw the labels."""

    probabilities: FloatArray
    """Calibrated as the pool's are, float [M, K], rows sum to 1."""
    codes: IntArray
    """The true value codes, int [M, A], -1 unknown."""
    what: str = "validation"
    """What messages call them."""


@dataclass(frozen=True)
class HeldOutAnswers:
    """What the teacher answers on held-out faces, told as much of them as is known of some faces of the pool."""

    given: str
    """The attributes that it is told, as ``age`` or ``age, mask``; empty for none."""
    asked: BoolArray
    """bool [N], the faces of the pool of which just these are known."""
    chosen: IntArray
    """int [M'], the most probable value, or class, of the held-out faces with known truth."""
    confidence: FloatArray
    """float [M'], to 7 decimals."""
    right: BoolArray
    """bool [M']"""


def held_out_answers(
    held_out: HeldOutFaces, labels: LabelSpace, known: BoolArray, undecided: BoolArray, *, position: int | None
) -> tuple[HeldOutAnswers, ...]:
    """Ask the teacher of the held-out faces what it is asked of the pool, telling it as much.

    A guess at an age is surer, and right more often, once the gender is known. So for each set of attributes that is
    known of some undecided faces of the pool, the held-out faces are asked with just that set known.

    Args:
        held_out: M faces.
        labels: the label space.
        known: what is known of the pool, bool [N, A].
        undecided: the pool's faces to decide, bool [N].
        position: the attribute in question; None for the class.

    Returns:
        One entry a set of known attributes, in the order of their names' places; none if nothing is undecided.
    """
    answers = []
    for pattern in np.unique(known[undecided], axis=0):
        told = np.where(pattern, held_out.codes, UNKNOWN)
        needed = pattern | (np.arange(len(pattern)) == position) if position is not None else np.ones_like(pattern)
        usable = (held_out.codes != UNKNOWN)[:, needed].all(axis=1)
        posterior = labels.condition(held_out.probabilities[usable].astype(np.float64), told[usable])
        if position is None:
            asked_for, truth = posterior, labels.class_ids(held_out.codes[usable])
        else:
            asked_for, truth = labels.attribute_probabilities(posterior)[position], held_out.codes[usable, position]
        chosen, confidence = most_probable(asked_for)
        answers.append(
            HeldOutAnswers(
                given=", ".join(name for name, told_it in zip(labels.names, pattern, strict=True) if told_it),
                asked=undecided & (known == pattern).all(axis=1),
                chosen=chosen,
                confidence=confidence,
                right=chosen == truth,
            )
        )
    return tuple(answers)
