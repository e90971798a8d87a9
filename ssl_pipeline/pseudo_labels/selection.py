"""Which pseudo-labels to keep, and why. The strategies lie in `deciding`, what they compute in files of their own.

Shapes: N faces of the pool, M held-out faces, T members, A attributes, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.selection import EnsembleAgreement, PrecisionGuarantee, SelectionConfig
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.deciding import decide
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned, alignment_ratio, class_prior
from ssl_pipeline.pseudo_labels.held_out import HeldOutFaces, held_out_answers
from ssl_pipeline.pseudo_labels.question import ObjectArray, Question, ThresholdRow
from ssl_pipeline.pseudo_labels.thresholds import DECIMALS, most_probable
from ssl_pipeline.pseudo_labels.weighting import face_weights


@dataclass(frozen=True)
class Selection:
    """What was chosen for every face, how surely, and whether it is accepted, attribute by attribute."""

    probabilities: FloatArray
    """float [N, K], rows sum to 1: the teacher's posterior, aligned if so configured, inside what is known of the face."""
    class_ids: IntArray
    """int [N], the most probable class; the lowest id among equals."""
    confidence: FloatArray
    """float [N], in [0, 1]: the probability of that class."""
    attribute_codes: IntArray
    """int [N, A]: the known value; else the most probable one (per attribute) or the chosen class's (per class)."""
    attribute_confidence: FloatArray
    """float [N, A], in [0, 1]: the marginal probability of the chosen value; 1 where it was known."""
    known: BoolArray
    """bool [N, A]: known before the teacher was asked."""
    accepted: BoolArray
    """bool [N, A]: the pseudo-label is accepted; False where the attribute was known."""
    weights: FloatArray
    """float [N, A], in [0, 1]: how much a pseudo-label counts; 0 where none is accepted."""
    reasons: ObjectArray
    """text [N, A], such as ``known``, ``confidence 0.41 < 0.95``, ``rank 12 <= 500 of female``."""
    thresholds: tuple[ThresholdRow, ...]
    """The numbers behind the decisions, value by value."""

    @property
    def accepted_faces(self) -> BoolArray:
        """Mark the faces with an accepted pseudo-label, and those of which all was known. Returns bool [N]."""
        return np.asarray(self.accepted.any(axis=1) | self.known.all(axis=1))

    @property
    def face_weights(self) -> FloatArray:
        """One weight a face, float [N]: the mean over what it teaches; see `weighting.face_weights`."""
        return face_weights(self.weights, self.accepted, self.known)


def select(
    probabilities: FloatArray,
    known_codes: IntArray,
    *,
    labels: LabelSpace,
    config: SelectionConfig,
    image_ids: "Sequence[str] | pd.Series[Any]",
    round_index: int = 1,
    held_out: HeldOutFaces | None = None,
    members: FloatArray | None = None,
    training_codes: IntArray | None = None,
) -> Selection:
    """Choose a value for every face and attribute, and decide which of them to keep.

    What is known is never replaced: the probabilities are renormalised inside it first. With ``per: attribute``, every
    unknown attribute is decided by its own marginal probability; with ``per: class``, all unknown attributes of a face
    are decided at once by the probability of its class. The result does not depend on the order of the faces.

    Args:
        probabilities: calibrated, float [N, K], rows sum to 1.
        known_codes: value codes, int [N, A], -1 unknown.
        labels: the label space.
        config: how to select.
        image_ids: [N], different from each other; they break ties in confidence.
        round_index: from 1.
        held_out: labeled faces that the teacher did not learn from; a guarantee and ``align: validation`` need them.
        members: probabilities of each view or teacher, float [T, N, K]; agreement needs them.
        training_codes: of the training faces, int [·, A]; ``align: training`` needs them.

    Returns:
        The selection, in the order of the faces given.

    Raises:
        SelectionError: if the strategy needs what is not there.
        ValueError: if the shapes do not fit, or a row of probabilities is no distribution.
    """
    _check_pool(probabilities, known_codes, labels, num_image_ids=len(image_ids))
    _check_others(held_out, members, labels, num_faces=len(probabilities))
    _check_needs(config, held_out, members, training_codes)
    probabilities, held_out, members = _aligned(
        probabilities, held_out, members, labels=labels, config=config, training_codes=training_codes
    )
    known = known_codes != UNKNOWN
    posterior = labels.condition(probabilities.astype(np.float64), known_codes)
    marginals = labels.attribute_probabilities(posterior)
    class_ids, confidence = most_probable(posterior)
    questions = _questions(posterior, known_codes, labels, config, image_ids, held_out=held_out, members=members)
    num_guarantees = sum(len(question.values) * len(question.held_out) for question in questions)
    accepted, weights = np.zeros(known.shape, dtype=bool), np.zeros(known.shape)
    reasons, rows = np.full(known.shape, "known", dtype=object), list[ThresholdRow]()
    for position, question in enumerate(questions):
        decided = decide(question, config, round_index=round_index, num_guarantees=num_guarantees)
        columns = slice(None) if config.per == "class" else slice(position, position + 1)
        accepted[:, columns] = decided.accepted[:, None] & ~known[:, columns]
        weights[:, columns] = np.where(accepted[:, columns], decided.weights[:, None], 0.0)
        reasons[:, columns] = np.where(known[:, columns], "known", decided.reasons[:, None])
        rows += decided.rows
    if config.per == "class":
        chosen = labels.class_codes[class_ids]
    else:
        chosen = np.stack([question.most_probable[0] for question in questions], axis=1)
    codes = np.where(known, known_codes, chosen)
    every = np.arange(len(codes))
    surely = np.stack([marginal[every, codes[:, position]] for position, marginal in enumerate(marginals)], axis=1)
    return Selection(
        probabilities=posterior,
        class_ids=class_ids,
        confidence=confidence,
        attribute_codes=codes,
        attribute_confidence=np.where(known, 1.0, np.round(surely, DECIMALS)),
        known=known,
        accepted=accepted,
        weights=weights,
        reasons=reasons,
        thresholds=tuple(rows),
    )


def _questions(
    posterior: FloatArray,
    known_codes: IntArray,
    labels: LabelSpace,
    config: SelectionConfig,
    image_ids: "Sequence[str] | pd.Series[Any]",
    *,
    held_out: HeldOutFaces | None,
    members: FloatArray | None,
) -> list[Question]:
    """What is to decide: the class of every face, or each attribute."""
    known = known_codes != UNKNOWN
    member_probabilities = None if members is None else [labels.condition(one, known_codes) for one in members]

    def question(name: str, values: Sequence[str], position: int | None) -> Question:
        def asked(probabilities: FloatArray) -> FloatArray:
            return probabilities if position is None else labels.attribute_probabilities(probabilities)[position]

        undecided = ~known.all(axis=1) if position is None else ~known[:, position]
        answers = (
            held_out_answers(held_out, labels, known, undecided, position=position) if held_out is not None else ()
        )
        return Question(
            name=name,
            values=values,
            probabilities=asked(posterior),
            undecided=undecided,
            image_ids=image_ids,
            per=config.per,
            members=None
            if member_probabilities is None
            else np.stack([asked(member) for member in member_probabilities]),
            held_out=answers,
        )

    if config.per == "class":
        return [question("class", labels.class_names, None)]
    return [question(attribute.name, attribute.values, place) for place, attribute in enumerate(labels.attributes)]


def _aligned(
    probabilities: FloatArray,
    held_out: HeldOutFaces | None,
    members: FloatArray | None,
    *,
    labels: LabelSpace,
    config: SelectionConfig,
    training_codes: IntArray | None,
) -> tuple[FloatArray, HeldOutFaces | None, FloatArray | None]:
    """Align pool, held-out faces and members alike, by the pool's mean."""
    codes = {"none": None, "training": training_codes, "validation": held_out.codes if held_out else None}[config.align]
    if codes is None:
        return probabilities, held_out, members
    ratio = alignment_ratio(probabilities, class_prior(codes, labels))
    return (
        aligned(probabilities, ratio),
        None if held_out is None else replace(held_out, probabilities=aligned(held_out.probabilities, ratio)),
        None if members is None else aligned(members, ratio),
    )


def _check_needs(
    config: SelectionConfig, held_out: HeldOutFaces | None, members: FloatArray | None, training_codes: IntArray | None
) -> None:
    """Refuse a strategy without what it needs."""
    if isinstance(config, PrecisionGuarantee) and held_out is None:
        raise SelectionError(
            "selection.type precision_guarantee tests its guarantee on labeled faces that the teacher did not learn from, "
            "and there are none; give faces.labeled a validation_fraction, or select otherwise, as by fixed_threshold"
        )
    if isinstance(config, EnsembleAgreement) and (members is None or len(members) < 2):
        raise SelectionError(
            "selection.type agreement compares the predictions of at least two views or teachers, "
            f"and there are {'none' if members is None else len(members)}; select otherwise, as by fixed_threshold"
        )
    if (config.align == "training" and training_codes is None) or (config.align == "validation" and held_out is None):
        raise SelectionError(
            f"selection.align {config.align} brings the pool to the class mix of {config.align} faces, "
            "and there are none; set selection.align to none"
        )


def _check_pool(probabilities: FloatArray, known_codes: IntArray, labels: LabelSpace, *, num_image_ids: int) -> None:
    num_faces = len(probabilities)
    if probabilities.shape != (num_faces, labels.num_classes):
        raise ValueError(f"probabilities must be [N, {labels.num_classes}], got {list(probabilities.shape)}")
    if known_codes.shape != (num_faces, len(labels.attributes)) or num_image_ids != num_faces:
        raise ValueError(
            f"{num_faces} faces need known_codes [{num_faces}, {len(labels.attributes)}] and as many image ids, "
            f"got {list(known_codes.shape)} and {num_image_ids}"
        )
    _check_distributions(probabilities, "")


def _check_others(
    held_out: HeldOutFaces | None, members: FloatArray | None, labels: LabelSpace, *, num_faces: int
) -> None:
    if held_out is not None:
        num_held_out = len(held_out.probabilities)
        expected = (num_held_out, labels.num_classes), (num_held_out, len(labels.attributes))
        if (held_out.probabilities.shape, held_out.codes.shape) != expected:
            raise ValueError(
                f"held-out faces need probabilities {list(expected[0])} and codes {list(expected[1])}, "
                f"got {list(held_out.probabilities.shape)} and {list(held_out.codes.shape)}"
            )
        _check_distributions(held_out.probabilities, "held-out ")
    if members is not None:
        if members.ndim != 3 or members.shape[1:] != (num_faces, labels.num_classes):
            raise ValueError(f"members must be [T, {num_faces}, {labels.num_classes}], got {list(members.shape)}")
        for member in members:
            _check_distributions(member, "of a member's ")


def _check_distributions(probabilities: FloatArray, whose: str) -> None:
    wrong = ~(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-3) | (probabilities < 0).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"probabilities of {int(wrong.sum()):,} {whose}faces are no distribution, first row {wrong.argmax()}"
        )
