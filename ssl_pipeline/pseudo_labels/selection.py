"""Selection of pseudo-labels: the values of every face, which of them are accepted, and why.

Shapes: N faces of the pool, M held-out faces, T members, A attributes, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.selection import EnsembleAgreement, PrecisionGuarantee, SelectionConfig
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.criteria import DECIMALS, most_probable, vote_disagreement
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned, alignment_ratio, class_prior
from ssl_pipeline.pseudo_labels.posteriors import Posteriors, Rows, marginal, posterior, slices
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces, Predictions, predict_held_out
from ssl_pipeline.pseudo_labels.reasons import ObjectArray, Reasons
from ssl_pipeline.pseudo_labels.strategies import ThresholdRow, apply_strategy


@dataclass(frozen=True)
class Selection:
    """The selected value of every face and attribute, and whether it is accepted.

    Only numbers that the decision needs are held for all faces; what a manifest says beside them is computed on access,
    for some faces at a time (`take`).
    """

    posteriors: Posteriors
    """The teacher's predictions, aligned if configured, given the known attributes."""
    class_ids: IntArray
    """int [N], the most probable class; the lowest id among equals."""
    attribute_codes: IntArray
    """int [N, A]: the known value, else the most probable one (per attribute) or that of the most probable class."""
    accepted: BoolArray
    """bool [N, A]: the pseudo-label is accepted; False if the attribute is known."""
    unequal_weights: FloatArray | None
    """float [N, A], in [0, 1], of the accepted labels; None: they weigh 1."""
    explain: tuple[Reasons, ...]
    """Reasons of each attribute's decisions; a single one if all attributes are selected together."""
    thresholds: tuple[ThresholdRow, ...]
    """One row per value, and per set of known attributes where a precision is guaranteed."""

    def take(self, rows: IntArray) -> "Selection":
        """Return the selection of some faces."""
        return Selection(
            self.posteriors.take(rows),
            self.class_ids[rows],
            self.attribute_codes[rows],
            self.accepted[rows],
            None if self.unequal_weights is None else self.unequal_weights[rows],
            tuple(partial(_reasons_within, reasons, rows) for reasons in self.explain),
            self.thresholds,
        )

    @property
    def known(self) -> BoolArray:
        """Mark the values known before prediction, bool [N, A]."""
        return np.asarray(self.posteriors.known_codes != UNKNOWN)

    @cached_property
    def probabilities(self) -> FloatArray:
        """The posterior, float64 [N, K], rows sum to 1."""
        return self.posteriors.of()

    @property
    def confidence(self) -> FloatArray:
        """The probability of the most probable class, float64 [N], in [0, 1]."""
        return most_probable(self.probabilities)[1]

    @property
    def attribute_confidence(self) -> FloatArray:
        """The marginal probability of the selected value, float64 [N, A], in [0, 1]; 1 if known."""
        marginals, codes = self.posteriors.labels.attribute_probabilities(self.probabilities), self.attribute_codes
        faces = np.arange(len(codes))
        chosen = np.stack([marginal[faces, codes[:, position]] for position, marginal in enumerate(marginals)], axis=1)
        return np.where(self.known, 1.0, np.round(chosen, DECIMALS))

    @property
    def weights(self) -> FloatArray:
        """The weight of the pseudo-label, float64 [N, A], in [0, 1]; 0 if not accepted."""
        return np.where(self.accepted, 1.0 if self.unequal_weights is None else self.unequal_weights, 0.0)

    @property
    def reasons(self) -> ObjectArray:
        """Text [N, A], e.g. ``known``, ``confidence 0.41 < 0.95``, ``rank 12 <= 500 for female``."""
        columns = [reasons(slice(None)) for reasons in self.explain]
        if len(columns) == 1:
            columns *= self.known.shape[1]
        return np.where(self.known, "known", np.stack(columns, axis=1))

    @property
    def accepted_faces(self) -> BoolArray:
        """Mark the faces with an accepted pseudo-label, and the fully known ones, bool [N]."""
        return np.asarray(self.accepted.any(axis=1) | self.known.all(axis=1))

    @property
    def face_weights(self) -> FloatArray:
        """One weight per face, float [N]; see `face_weights`."""
        return face_weights(self.weights, self.accepted, self.known)


def _reasons_within(reasons: Reasons, faces: IntArray, rows: Rows) -> ObjectArray:
    return reasons(faces[rows])


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
    ratio = _alignment_ratio(probabilities, held_out, labels=labels, config=config, training_codes=training_codes)
    if held_out is not None and ratio is not None:
        held_out = replace(held_out, probabilities=aligned(held_out.probabilities, ratio))
    given = np.asarray(known_codes, np.int16)
    pool = Posteriors(probabilities, given, labels, ratio)
    positions = [None] if config.per == "class" else list(range(len(labels.attributes)))
    class_ids, decided = _most_probable(pool, () if members is None else members, positions)
    known = np.asarray(given != UNKNOWN)
    predictions = [
        _predictions(pool, position, *numbers, known=known, image_ids=image_ids, held_out=held_out)
        for position, numbers in zip(positions, decided, strict=True)
    ]
    num_guarantees = sum(len(one.values) * len(one.held_out) for one in predictions)
    acceptances = [
        apply_strategy(one, config, round_index=round_index, num_guarantees=num_guarantees) for one in predictions
    ]
    if config.per == "class":
        predicted = labels.class_codes.astype(np.int16)[class_ids]
    else:
        predicted = np.stack([one.most_probable[0].astype(np.int16) for one in predictions], axis=1)
    weights = [acceptance.weights for acceptance in acceptances]
    return Selection(
        posteriors=pool,
        class_ids=class_ids,
        attribute_codes=np.where(known, given, predicted),
        accepted=np.stack([one.accepted for one in acceptances], axis=1) & ~known,
        unequal_weights=_columns(weights, len(labels.attributes)),
        explain=tuple(acceptance.reasons for acceptance in acceptances),
        thresholds=tuple(row for acceptance in acceptances for row in acceptance.rows),
    )


def _columns(weights: Sequence[FloatArray | None], num_attributes: int) -> FloatArray | None:
    """Return weights as float [N, A]; None if they are all 1."""
    given = [each for each in weights if each is not None]
    return np.stack(given * (num_attributes // len(given)), axis=1) if given else None


def _most_probable(
    pool: Posteriors, members: "FloatArray | tuple[()]", positions: Sequence[int | None]
) -> tuple[IntArray, list[tuple[IntArray, FloatArray, FloatArray | None]]]:
    """Return the most probable classes, and per attribute the most probable value, its confidence and disagreement."""
    num_faces, labels = len(pool.known_codes), pool.labels
    class_ids: IntArray = np.empty(num_faces, np.int32)
    decided: list[tuple[IntArray, FloatArray, FloatArray | None]] = [
        (np.empty(num_faces, np.int32), np.empty(num_faces), np.empty(num_faces) if len(members) else None)
        for _ in positions
    ]
    for rows in slices(num_faces):
        of_pool = pool.of(rows)
        class_ids[rows] = most_probable(of_pool)[0]
        of_members = [posterior(member[rows], pool.known_codes[rows], labels, pool.ratio) for member in members]
        for position, (values, confidence, disagreement) in zip(positions, decided, strict=True):
            values[rows], confidence[rows] = most_probable(marginal(of_pool, labels, position))
            if disagreement is not None:
                votes = np.stack([marginal(member, labels, position) for member in of_members])
                disagreement[rows] = vote_disagreement(votes, values[rows])
    return class_ids, decided


def _predictions(
    pool: Posteriors,
    position: int | None,
    values: IntArray,
    confidence: FloatArray,
    disagreement: FloatArray | None,
    *,
    known: BoolArray,
    image_ids: "Sequence[str] | pd.Series[Any]",
    held_out: HeldOutFaces | None,
) -> Predictions:
    """Return the predictions of an attribute by its position; None is the class."""
    labels = pool.labels
    unlabeled = np.asarray(~known.all(axis=1) if position is None else ~known[:, position])
    return Predictions(
        name="class" if position is None else labels.names[position],
        values=labels.class_names if position is None else labels.attributes[position].values,
        most_probable=(values, confidence),
        unlabeled=unlabeled,
        image_ids=image_ids,
        unlabeled_probabilities=partial(pool.marginals_of, unlabeled, position),
        disagreement=disagreement,
        held_out=() if held_out is None else predict_held_out(held_out, labels, known, unlabeled, position=position),
    )


def _alignment_ratio(
    probabilities: FloatArray,
    held_out: HeldOutFaces | None,
    *,
    labels: LabelSpace,
    config: SelectionConfig,
    training_codes: IntArray | None,
) -> FloatArray | None:
    """Return the ratio by which pool, held-out faces and members are aligned; None if they are not."""
    codes = {"none": None, "training": training_codes, "validation": held_out.codes if held_out else None}[config.align]
    return None if codes is None else alignment_ratio(probabilities, class_prior(codes, labels))


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
