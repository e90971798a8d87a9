"""Selection of pseudo-labels: the values of every face, which of them are accepted, and why.

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
from ssl_pipeline.pseudo_labels.criteria import DECIMALS, most_probable
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned, alignment_ratio, class_prior
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces, Predictions, predict_held_out
from ssl_pipeline.pseudo_labels.reasons import ObjectArray
from ssl_pipeline.pseudo_labels.strategies import ThresholdRow, apply_strategy


@dataclass(frozen=True)
class Selection:
    """The selected value of every face and attribute, its confidence, and whether it is accepted."""

    probabilities: FloatArray
    """float [N, K], rows sum to 1: the teacher's posterior, aligned if configured, given the known attributes."""
    class_ids: IntArray
    """int [N], the most probable class; the lowest id among equals."""
    confidence: FloatArray
    """float [N], in [0, 1]: the probability of that class."""
    attribute_codes: IntArray
    """int [N, A]: the known value, else the most probable one (per attribute) or that of the most probable class."""
    attribute_confidence: FloatArray
    """float [N, A], in [0, 1]: the marginal probability of that value; 1 if known."""
    known: BoolArray
    """bool [N, A]: known before prediction."""
    accepted: BoolArray
    """bool [N, A]: the pseudo-label is accepted; False if the attribute is known."""
    weights: FloatArray
    """float [N, A], in [0, 1]: the weight of the pseudo-label; 0 if not accepted."""
    reasons: ObjectArray
    """text [N, A], e.g. ``known``, ``confidence 0.41 < 0.95``, ``rank 12 <= 500 for female``."""
    thresholds: tuple[ThresholdRow, ...]
    """One row per value, and per set of known attributes where a precision is guaranteed."""

    @property
    def accepted_faces(self) -> BoolArray:
        """Mark the faces with an accepted pseudo-label, and the fully known ones, bool [N]."""
        return np.asarray(self.accepted.any(axis=1) | self.known.all(axis=1))

    @property
    def face_weights(self) -> FloatArray:
        """One weight per face, float [N]; see `face_weights`."""
        return face_weights(self.weights, self.accepted, self.known)


def face_weights(weights: FloatArray, accepted: BoolArray, known: BoolArray) -> FloatArray:
    """Average the weights of each face's training labels: the accepted ones, and the known ones with weight 1.

    Args:
        weights: of pseudo-labels, float [N, A], in [0, 1].
        accepted: bool [N, A].
        known: bool [N, A].

    Returns:
        float [N], in [0, 1]; 0 for a face without an accepted label, unless it is fully known.
    """
    total = np.where(known, 1.0, np.where(accepted, weights, 0.0)).sum(axis=1)
    mean = total / np.maximum((accepted | known).sum(axis=1), 1)
    return np.asarray(np.where(accepted.any(axis=1) | known.all(axis=1), mean, 0.0))


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
    """Select a value for every face and attribute, and accept or reject it.

    Known values are never replaced: the probabilities are conditioned on them first. With ``per: attribute``, each
    unknown attribute is accepted by its own marginal probability; with ``per: class``, all unknown attributes of a face
    are accepted together by its class probability. The result does not depend on the order of the faces.

    Args:
        probabilities: calibrated, float [N, K], rows sum to 1.
        known_codes: value codes, int [N, A], -1 unknown.
        labels: the label space.
        config: the strategy and its settings.
        image_ids: [N], unique; they break ties in confidence.
        round_index: from 1.
        held_out: labeled faces that the teacher was not trained on; required by a guarantee and ``align: validation``.
        members: probabilities by each view or teacher, float [T, N, K]; required by ``ensemble_agreement``.
        training_codes: of the training faces, int [·, A]; required by ``align: training``.

    Returns:
        The selection, in the order of the faces.

    Raises:
        SelectionError: if a required input is missing.
        ValueError: if shapes do not match, or a row of probabilities is no distribution.
    """
    _check_pool(probabilities, known_codes, labels, num_image_ids=len(image_ids))
    _check_others(held_out, members, labels, num_faces=len(probabilities))
    _check_requirements(config, held_out, members, training_codes)
    probabilities, held_out, members = _align_all(
        probabilities, held_out, members, labels=labels, config=config, training_codes=training_codes
    )
    known = known_codes != UNKNOWN
    posterior = labels.condition(probabilities.astype(np.float64), known_codes)
    marginals = labels.attribute_probabilities(posterior)
    class_ids, confidence = most_probable(posterior)
    per_class = config.per == "class"
    predictions = [
        _predictions(posterior, known_codes, labels, position, image_ids=image_ids, held_out=held_out, members=members)
        for position in ([None] if per_class else range(len(labels.attributes)))
    ]
    num_guarantees = sum(len(one.values) * len(one.held_out) for one in predictions)
    accepted, weights = np.zeros(known.shape, dtype=bool), np.zeros(known.shape)
    reasons, rows = np.full(known.shape, "known", dtype=object), list[ThresholdRow]()
    for position, one in enumerate(predictions):
        acceptance = apply_strategy(one, config, round_index=round_index, num_guarantees=num_guarantees)
        columns = slice(None) if per_class else slice(position, position + 1)
        accepted[:, columns] = acceptance.accepted[:, None] & ~known[:, columns]
        weights[:, columns] = np.where(accepted[:, columns], acceptance.weights[:, None], 0.0)
        reasons[:, columns] = np.where(known[:, columns], "known", acceptance.reasons[:, None])
        rows += acceptance.rows
    if per_class:
        predicted = labels.class_codes[class_ids]
    else:
        predicted = np.stack([one.most_probable[0] for one in predictions], axis=1)
    codes = np.where(known, known_codes, predicted)
    faces = np.arange(len(codes))
    chosen = np.stack([marginal[faces, codes[:, position]] for position, marginal in enumerate(marginals)], axis=1)
    return Selection(
        probabilities=posterior,
        class_ids=class_ids,
        confidence=confidence,
        attribute_codes=codes,
        attribute_confidence=np.where(known, 1.0, np.round(chosen, DECIMALS)),
        known=known,
        accepted=accepted,
        weights=weights,
        reasons=reasons,
        thresholds=tuple(rows),
    )


def _predictions(
    posterior: FloatArray,
    known_codes: IntArray,
    labels: LabelSpace,
    position: int | None,
    *,
    image_ids: "Sequence[str] | pd.Series[Any]",
    held_out: HeldOutFaces | None,
    members: FloatArray | None,
) -> Predictions:
    """Return the predictions of an attribute by its position; None is the class."""

    def marginal(probabilities: FloatArray) -> FloatArray:
        return probabilities if position is None else labels.attribute_probabilities(probabilities)[position]

    known = known_codes != UNKNOWN
    unlabeled = ~known.all(axis=1) if position is None else ~known[:, position]
    member_marginals = [
        marginal(labels.condition(member, known_codes)) for member in (() if members is None else members)
    ]
    return Predictions(
        name="class" if position is None else labels.names[position],
        values=labels.class_names if position is None else labels.attributes[position].values,
        probabilities=marginal(posterior),
        unlabeled=unlabeled,
        image_ids=image_ids,
        members=np.stack(member_marginals) if member_marginals else None,
        held_out=() if held_out is None else predict_held_out(held_out, labels, known, unlabeled, position=position),
    )


def _align_all(
    probabilities: FloatArray,
    held_out: HeldOutFaces | None,
    members: FloatArray | None,
    *,
    labels: LabelSpace,
    config: SelectionConfig,
    training_codes: IntArray | None,
) -> tuple[FloatArray, HeldOutFaces | None, FloatArray | None]:
    """Align pool, held-out faces and members by the pool's ratio."""
    codes = {"none": None, "training": training_codes, "validation": held_out.codes if held_out else None}[config.align]
    if codes is None:
        return probabilities, held_out, members
    ratio = alignment_ratio(probabilities, class_prior(codes, labels))
    return (
        aligned(probabilities, ratio),
        None if held_out is None else replace(held_out, probabilities=aligned(held_out.probabilities, ratio)),
        None if members is None else aligned(members, ratio),
    )


def _check_requirements(
    config: SelectionConfig, held_out: HeldOutFaces | None, members: FloatArray | None, training_codes: IntArray | None
) -> None:
    """Raise if an input that the strategy requires is missing."""
    if isinstance(config, PrecisionGuarantee) and held_out is None:
        raise SelectionError(
            "selection.type precision_guarantee needs labeled faces that the teacher was not trained on, and there are "
            "none; set a validation_fraction in faces.labeled, or --set selection.type=fixed_threshold"
        )
    if isinstance(config, EnsembleAgreement) and (members is None or len(members) < 2):
        raise SelectionError(
            "selection.type ensemble_agreement needs predictions by at least two views or teachers, got "
            f"{0 if members is None else len(members)}; --set selection.type=fixed_threshold"
        )
    if (config.align == "training" and training_codes is None) or (config.align == "validation" and held_out is None):
        raise SelectionError(
            f"selection.align {config.align} needs {config.align} faces, and there are none; --set selection.align=none"
        )


def _check_pool(probabilities: FloatArray, known_codes: IntArray, labels: LabelSpace, *, num_image_ids: int) -> None:
    num_faces = len(probabilities)
    if probabilities.shape != (num_faces, labels.num_classes):
        raise ValueError(f"probabilities must be [N, {labels.num_classes}], got {list(probabilities.shape)}")
    if known_codes.shape != (num_faces, len(labels.attributes)) or num_image_ids != num_faces:
        raise ValueError(
            f"{num_faces} faces need known_codes [{num_faces}, {len(labels.attributes)}] and {num_faces} image ids, "
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
            _check_distributions(member, "member ")


def _check_distributions(probabilities: FloatArray, kind: str) -> None:
    wrong = ~(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-3) | (probabilities < 0).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum()):,} rows of {kind}probabilities are no distribution, first row {wrong.argmax()}"
        )
