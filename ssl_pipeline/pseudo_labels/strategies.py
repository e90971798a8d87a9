"""The seven selection strategies: which predictions to accept, with what weight and for what reason.

Shapes: N faces, V values of one attribute, or K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

import numpy as np

from ssl_pipeline.config.selection import (
    BalancedTopK,
    EnsembleAgreement,
    FixedThreshold,
    GaussianWeights,
    PercentileCurriculum,
    PrecisionGuarantee,
    SelectionConfig,
    SelfAdaptive,
)
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray
from ssl_pipeline.pseudo_labels.criteria import (
    curriculum_size,
    gaussian_weights,
    mean_and_deviation,
    self_adaptive_thresholds,
    top_k_per_value,
)
from ssl_pipeline.pseudo_labels.posteriors import Rows
from ssl_pipeline.pseudo_labels.precision_guarantee import (
    choose_threshold,
    num_units_needed,
    precision_lower_bound,
    threshold_grid,
)
from ssl_pipeline.pseudo_labels.predictions import HeldOutPredictions, Predictions
from ssl_pipeline.pseudo_labels.reasons import (
    ObjectArray,
    Reasons,
    compare_with_thresholds,
    format_away_from,
    measure_of,
)

MEASUREMENT_DELTA = 0.1
"""Without a guarantee, the held-out precision is reported with a lower bound of confidence 1 - this."""


@dataclass(frozen=True)
class ThresholdRow:
    """The threshold of one value, and the precision measured on held-out faces at it."""

    attribute: str
    """`class` if all attributes are selected together."""
    value: str
    known_attributes: str | None
    """The row applies to faces with exactly these attributes known, e.g. ``age``; None: to all faces."""
    threshold: float | None
    """The lowest accepted confidence; None if nothing is accepted, or no threshold applies."""
    num_candidates: int
    """Unlabeled faces with this most probable value."""
    num_accepted: int
    num_held_out: int | None = None
    """Held-out persons with a face at the threshold (or at the first tested one, if a guarantee failed) or above; None: unmeasured."""
    num_correct: int | None = None
    lower_bound: float | None = None
    """Exact binomial lower bound of the precision, with confidence `bound_confidence`."""
    bound_confidence: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Acceptance:
    """The accepted predictions; weights and reasons are meaningless for labeled faces."""

    accepted: BoolArray
    """bool [N]"""
    weights: FloatArray | None
    """float [N], in [0, 1]; None: 1 each."""
    reasons: Reasons
    rows: tuple[ThresholdRow, ...]


def apply_strategy(
    predictions: Predictions, config: SelectionConfig, *, round_index: int, num_guarantees: int
) -> Acceptance:
    """Accept predictions by the configured strategy.

    Args:
        predictions: of one attribute, or of the class.
        config: the strategy and its settings.
        round_index: from 1; a curriculum accepts more in later rounds.
        num_guarantees: guarantees of the whole selection, for familywise ones.
    """
    match config:
        case FixedThreshold():
            return _fixed_threshold(predictions, config)
        case BalancedTopK():
            return _balanced_top_k(predictions, config)
        case PercentileCurriculum():
            return _percentile_curriculum(predictions, config, round_index)
        case SelfAdaptive():
            return _self_adaptive(predictions)
        case GaussianWeights():
            return _gaussian_weights(predictions, config)
        case EnsembleAgreement():
            return _ensemble_agreement(predictions, config)
        case PrecisionGuarantee():
            delta = config.delta / max(num_guarantees, 1) if config.familywise else config.delta
            return _precision_guarantee(predictions, config, delta)
        case _:
            assert_never(config)


def _fixed_threshold(predictions: Predictions, config: FixedThreshold) -> Acceptance:
    threshold, confidence = config.confidence_threshold, predictions.most_probable[1]
    accepted = predictions.unlabeled & (confidence >= threshold)

    def reasons(rows: Rows) -> ObjectArray:
        sign = np.where(accepted[rows], " >= ", " < ").astype(object)
        numbers = format_away_from(confidence[rows], limit=threshold)
        return np.asarray(f"{measure_of(predictions)} " + numbers + sign + f"{threshold}")

    return _acceptance(predictions, accepted, reasons, [threshold] * len(predictions.values))


def _balanced_top_k(predictions: Predictions, config: BalancedTopK) -> Acceptance:
    (predicted, confidence), minimum = predictions.most_probable, config.min_confidence
    competing = np.where(predictions.unlabeled, predicted, UNKNOWN)
    in_top_k, rank = top_k_per_value(
        confidence, competing, k=config.k, num_values=len(predictions.values), tie_break=predictions.image_ids
    )

    def reasons(rows: Rows) -> ObjectArray:
        faces = zip(rank[rows].tolist(), in_top_k[rows].tolist(), predicted[rows].tolist(), strict=True)
        ranks = [
            f"rank {face_rank} {'<=' if kept else '>'} {config.k} for {predictions.values[value]}"
            for face_rank, kept, value in faces
        ]
        numbers = format_away_from(confidence[rows], limit=minimum)
        below = f"{measure_of(predictions)} " + numbers + f" < min_confidence {minimum}"
        return np.where(confidence[rows] >= minimum, np.array(ranks, dtype=object), below)

    return _accept_ranked(predictions, in_top_k & (confidence >= minimum), reasons)


def _percentile_curriculum(predictions: Predictions, config: PercentileCurriculum, round_index: int) -> Acceptance:
    confidence, num_faces = predictions.most_probable[1], int(predictions.unlabeled.sum())
    size = curriculum_size(num_faces, round_index=round_index, step_percent=config.step_percent)
    competing = np.where(predictions.unlabeled, 0, UNKNOWN)
    accepted, rank = top_k_per_value(confidence, competing, k=size, num_values=1, tie_break=predictions.image_ids)

    def reasons(rows: Rows) -> ObjectArray:
        ranks = [
            f"rank {face_rank} {'<=' if kept else '>'} {size} in round {round_index}, of {num_faces}"
            for face_rank, kept in zip(rank[rows].tolist(), accepted[rows].tolist(), strict=True)
        ]
        return np.array(ranks, dtype=object)

    return _accept_ranked(predictions, accepted, reasons)


def _accept_ranked(predictions: Predictions, accepted: BoolArray, reasons: Reasons) -> Acceptance:
    """Report each value's lowest accepted confidence as its threshold."""
    predicted, confidence = predictions.most_probable
    per_value = [confidence[accepted & (predicted == value)] for value in range(len(predictions.values))]
    thresholds = [float(confidences.min()) if len(confidences) else None for confidences in per_value]
    return _acceptance(predictions, accepted, reasons, thresholds)


def _self_adaptive(predictions: Predictions) -> Acceptance:
    pool = predictions.unlabeled_probabilities()
    thresholds = self_adaptive_thresholds(pool) if len(pool) else np.ones(len(predictions.values))
    predicted, confidence = predictions.most_probable
    accepted = predictions.unlabeled & (confidence >= thresholds[predicted])
    reasons = partial(compare_with_thresholds, predictions, thresholds.tolist())
    return _acceptance(predictions, accepted, reasons, thresholds.tolist())


def _gaussian_weights(predictions: Predictions, config: GaussianWeights) -> Acceptance:
    confidence, minimum = predictions.most_probable[1], config.min_weight
    pool = confidence[predictions.unlabeled]
    mean, deviation = mean_and_deviation(pool) if len(pool) else (1.0, 0.0)
    weights = gaussian_weights(confidence, mean=mean, deviation=deviation)
    accepted = predictions.unlabeled & (weights >= minimum)

    def reasons(rows: Rows) -> ObjectArray:
        sign = np.where(accepted[rows], " >= ", " < ").astype(object)
        return np.asarray("weight " + format_away_from(weights[rows], limit=minimum) + sign + f"{minimum}")

    note, thresholds = f"mean {mean:.4f}, deviation {deviation:.4f}", [None] * len(predictions.values)
    return _acceptance(predictions, accepted, reasons, thresholds, weights=weights, note=note)


def _ensemble_agreement(predictions: Predictions, config: EnsembleAgreement) -> Acceptance:
    assert predictions.disagreement is not None, "select refuses ensemble_agreement without members"
    minimum, maximum = config.confidence_threshold, config.max_deviation
    confidence, deviation = predictions.most_probable[1], predictions.disagreement
    accepted = predictions.unlabeled & (confidence >= minimum) & (deviation <= maximum)

    def reasons(rows: Rows) -> ObjectArray:
        confidences = f"{measure_of(predictions)} " + format_away_from(confidence[rows], limit=minimum)
        deviations = "deviation " + format_away_from(deviation[rows], limit=maximum, up=True)
        texts = np.select(
            [accepted[rows], confidence[rows] < minimum],
            [confidences + f" >= {minimum}, " + deviations + f" <= {maximum}", confidences + f" < {minimum}"],
            deviations + f" > {maximum}",
        )
        return np.asarray(texts, object)

    thresholds = [minimum] * len(predictions.values)
    return _acceptance(
        predictions, accepted, reasons, thresholds, note=f"deviation <= {maximum}", threshold_decides=False
    )


def _precision_guarantee(predictions: Predictions, config: PrecisionGuarantee, delta: float) -> Acceptance:
    """Guarantee per set of known attributes, since these change confidence and precision of the predicted one."""
    predicted, confidence = predictions.most_probable
    accepted, rows, texts = np.zeros(len(predicted), dtype=bool), [], []
    for held_out in predictions.held_out:
        new_rows = [_guarantee(predictions, held_out, value, config, delta) for value in range(len(predictions.values))]
        thresholds = [row.threshold for row in new_rows]
        limits = np.array([np.inf if threshold is None else threshold for threshold in thresholds])
        accepted |= held_out.pool_faces & (confidence >= limits[predicted])
        notes = [row.note for row in new_rows]
        texts.append(partial(compare_with_thresholds, predictions, thresholds, without_threshold=notes))
        rows += new_rows

    def reasons(some: Rows) -> ObjectArray:
        found = np.full(len(predicted[some]), "", dtype=object)
        for held_out, text in zip(predictions.held_out, texts, strict=True):
            if (faces := held_out.pool_faces[some]).any():
                found = np.where(faces, text(some), found)
        return found

    return Acceptance(accepted, None, reasons, tuple(rows))


def _guarantee(
    predictions: Predictions, held_out: HeldOutPredictions, value: int, config: PrecisionGuarantee, delta: float
) -> ThresholdRow:
    """Return the threshold of one value; without one, the note says why."""
    needed = num_units_needed(config.target, delta)
    confidence = predictions.most_probable[1][held_out.pool_faces & predictions.candidates(value)]
    identity = (predictions.name, predictions.values[value], held_out.known_attributes)
    if not len(confidence):
        return ThresholdRow(*identity, threshold=None, num_candidates=0, num_accepted=0, note="no candidates")
    grid = threshold_grid(
        confidence,
        held_out_per_pool_face=len(np.unique(held_out.units)) / max(int(held_out.pool_faces.sum()), 1),
        num_needed=needed,
        num_thresholds=config.num_thresholds,
    )
    test = choose_threshold(grid, held_out.of_value(value), target=config.target, delta=delta)
    note = ""
    if test.threshold is None and test.num_held_out < needed:
        note = f"{test.num_held_out} held-out persons at the first threshold {test.reported:.4f}, {needed} needed"
    elif test.threshold is None:
        bound = format_away_from(np.array([test.lower_bound]), limit=config.target)[0]
        correct = f"{test.num_correct} of {test.num_held_out} held-out persons correct at {test.reported:.4f}"
        note = f"{correct}, lower bound {bound} < {config.target}"
    threshold = test.threshold
    if held_out.withheld:  # weights by the odds of a classifier do not mend it: docs/guarantee.md
        threshold, note = None, f"withheld, {held_out.withheld}"
    return ThresholdRow(
        *identity,
        threshold=threshold,
        num_candidates=len(confidence),
        num_accepted=0 if threshold is None else int((confidence >= threshold).sum()),
        num_held_out=test.num_held_out,
        num_correct=test.num_correct,
        lower_bound=test.lower_bound,
        bound_confidence=1 - delta,
        note=note,
    )


def _acceptance(
    predictions: Predictions,
    accepted: BoolArray,
    reasons: Reasons,
    thresholds: Sequence[float | None],
    *,
    weights: FloatArray | None = None,
    note: str = "",
    threshold_decides: bool = True,
) -> Acceptance:
    """Add a row per value with its counts, and the held-out precision if the threshold alone decides.

    Args:
        predictions: N faces, V values.
        accepted: bool [N].
        reasons: of the faces.
        thresholds: [V].
        weights: float [N]; by default 1.
        note: for every row.
        threshold_decides: whether held-out faces can be counted at the threshold.
    """
    rows = []
    for value, threshold in enumerate(thresholds):
        candidates = predictions.candidates(value)
        measured: dict[str, Any] = {}
        if threshold_decides and threshold is not None and len(predictions.held_out) == 1:
            measured = _measure(predictions.held_out[0], value, threshold)
        rows.append(
            ThresholdRow(
                attribute=predictions.name,
                value=predictions.values[value],
                known_attributes=None,
                threshold=threshold,
                num_candidates=int(candidates.sum()),
                num_accepted=int((candidates & accepted).sum()),
                note=note,
                **measured,
            )
        )
    return Acceptance(accepted, weights, reasons, tuple(rows))


def _measure(held_out: HeldOutPredictions, value: int, threshold: float) -> dict[str, Any]:
    """Count the correct held-out persons of a value at a threshold or above, and bound their precision."""
    num_correct, num_units = held_out.of_value(value).count(np.array([threshold]))
    return {
        "num_held_out": int(num_units[0]),
        "num_correct": int(num_correct[0]),
        "lower_bound": float(precision_lower_bound(num_correct[0], num_units[0], delta=MEASUREMENT_DELTA)),
        "bound_confidence": 1 - MEASUREMENT_DELTA,
    }
