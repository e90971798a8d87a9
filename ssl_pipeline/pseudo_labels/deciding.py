"""Decide one question, a strategy's way: which faces' most probable value to accept, how it weighs, and why.

Shapes: N faces, T members, V values of the attribute in question, or K classes.
"""

from collections.abc import Sequence
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
from ssl_pipeline.labels import UNKNOWN, BoolArray
from ssl_pipeline.pseudo_labels.held_out import HeldOutAnswers
from ssl_pipeline.pseudo_labels.precision_guarantee import (
    count_right,
    counts_by_confidence,
    faces_needed,
    fixed_sequence,
    precision_lower_bound,
    threshold_grid,
)
from ssl_pipeline.pseudo_labels.question import (
    Acceptance,
    ObjectArray,
    Question,
    ThresholdRow,
    acceptance,
    compare_with_thresholds,
    format_away_from,
)
from ssl_pipeline.pseudo_labels.thresholds import (
    confident,
    curriculum_size,
    deviation_of_chosen,
    self_adaptive_thresholds,
    top_k_per_value,
)
from ssl_pipeline.pseudo_labels.weighting import ConfidenceMoments, gaussian_weights


def decide(question: Question, config: SelectionConfig, *, round_index: int, num_guarantees: int) -> Acceptance:
    """Decide a question as configured.

    Args:
        question: what to decide.
        config: how to select.
        round_index: from 1; a curriculum accepts more in later rounds.
        num_guarantees: how many guarantees the whole selection makes, for those that hold all at once.
    """
    match config:
        case FixedThreshold():
            return _by_fixed_threshold(question, config)
        case BalancedTopK():
            return _by_top_k(question, config)
        case PercentileCurriculum():
            return _by_curriculum(question, config, round_index)
        case SelfAdaptive():
            return _by_thresholds(question, _self_adaptive(question))
        case GaussianWeights():
            return _by_gaussian_weights(question, config)
        case EnsembleAgreement():
            return _by_agreement(question, config)
        case PrecisionGuarantee():
            delta = config.delta / max(num_guarantees, 1) if config.familywise else config.delta
            return _by_guarantee(question, config, delta)
        case _:
            assert_never(config)


def _by_fixed_threshold(question: Question, config: FixedThreshold) -> Acceptance:
    threshold, confidence = config.confidence_threshold, question.most_probable[1]
    accepted = question.undecided & confident(question.probabilities, confidence_threshold=threshold)
    sign = np.where(accepted, ">=", "<").astype(object)
    reasons = question.measure + " " + format_away_from(confidence, beside=threshold) + " " + sign + f" {threshold}"
    return acceptance(question, accepted, reasons, [threshold] * len(question.values))


def _by_top_k(question: Question, config: BalancedTopK) -> Acceptance:
    (chosen, confidence), least = question.most_probable, config.min_confidence
    competing = np.where(question.undecided, chosen, UNKNOWN)
    among, rank = top_k_per_value(
        confidence, competing, k=config.k, num_values=len(question.values), tie_break=question.image_ids
    )
    enough = confidence >= least
    ranks = [
        f"rank {place} {'<=' if kept else '>'} {config.k} of {question.values[value]}"
        for place, kept, value in zip(rank.tolist(), among.tolist(), chosen.tolist(), strict=True)
    ]
    unsure = question.measure + " " + format_away_from(confidence, beside=least) + f" < min {least}"
    return _by_rank(question, among & enough, np.where(enough, np.array(ranks, dtype=object), unsure))


def _by_curriculum(question: Question, config: PercentileCurriculum, round_index: int) -> Acceptance:
    confidence, num_faces = question.most_probable[1], int(question.undecided.sum())
    k = curriculum_size(num_faces, round_index=round_index, step_percent=config.step_percent)
    competing = np.where(question.undecided, 0, UNKNOWN)
    among, rank = top_k_per_value(confidence, competing, k=k, num_values=1, tie_break=question.image_ids)
    ranks = [
        f"rank {place} {'<=' if kept else '>'} {k} of {num_faces} in round {round_index}"
        for place, kept in zip(rank.tolist(), among.tolist(), strict=True)
    ]
    return _by_rank(question, among, np.array(ranks, dtype=object))


def _by_rank(question: Question, accepted: BoolArray, reasons: ObjectArray) -> Acceptance:
    """The threshold of a value is where its last accepted face stands."""
    chosen, confidence = question.most_probable
    kept = [confidence[accepted & (chosen == value)] for value in range(len(question.values))]
    return acceptance(
        question, accepted, reasons, [float(of_value.min()) if len(of_value) else None for of_value in kept]
    )


def _self_adaptive(question: Question) -> list[float]:
    if not question.undecided.any():
        return [1.0] * len(question.values)
    return [float(threshold) for threshold in self_adaptive_thresholds(question.probabilities[question.undecided])]


def _by_thresholds(question: Question, thresholds: Sequence[float]) -> Acceptance:
    """Accept what reaches its value's own threshold."""
    chosen, confidence = question.most_probable
    accepted = question.undecided & (confidence >= np.asarray(thresholds)[chosen])
    reasons = compare_with_thresholds(question, thresholds)
    return acceptance(question, accepted, reasons, thresholds)


def _by_gaussian_weights(question: Question, config: GaussianWeights) -> Acceptance:
    confidence = question.most_probable[1]
    asked = confidence[question.undecided]
    moments = ConfidenceMoments.of(asked) if len(asked) else ConfidenceMoments(1.0, 0.0)
    weights = gaussian_weights(confidence, moments)
    accepted = question.undecided & (weights >= config.min_weight)
    sign = np.where(accepted, ">=", "<").astype(object)
    about = f"mean {moments.mean:.4f}, deviation {moments.deviation:.4f}"
    reasons = "weight " + format_away_from(weights, beside=config.min_weight) + " " + sign + f" {config.min_weight}"
    return acceptance(question, accepted, reasons, [None] * len(question.values), weights=weights, note=about)


def _by_agreement(question: Question, config: EnsembleAgreement) -> Acceptance:
    assert question.members is not None, "select refuses agreement without members"
    (chosen, confidence), most = question.most_probable, config.max_deviation
    least, deviation = config.confidence_threshold, deviation_of_chosen(question.members, chosen)
    sure, agreed = confidence >= least, deviation <= most
    accepted = question.undecided & sure & agreed
    measured = question.measure + " " + format_away_from(confidence, beside=least)
    spread = "deviation " + format_away_from(deviation, beside=most, up=True)
    reasons = np.select(
        [accepted, ~sure],
        [measured + f" >= {least}, " + spread + f" <= {most}", measured + f" < {least}"],
        spread + f" > {most}",
    )
    thresholds = [least] * len(question.values)
    return acceptance(
        question, accepted, reasons.astype(object), thresholds, note=f"deviation <= {most}", measured=False
    )


def _by_guarantee(question: Question, config: PrecisionGuarantee, delta: float) -> Acceptance:
    """Guarantee for each set of known attributes by itself: what is known makes a guess surer and better."""
    chosen, confidence = question.most_probable
    accepted, rows = np.zeros(len(chosen), dtype=bool), []
    reasons = np.full(len(chosen), "", dtype=object)
    for answers in question.held_out:
        of_given = [_guarantee(question, answers, value, config, delta) for value in range(len(question.values))]
        thresholds = [row.threshold for row in of_given]
        limits = np.array([np.inf if threshold is None else threshold for threshold in thresholds])
        accepted |= answers.asked & (confidence >= limits[chosen])
        why = compare_with_thresholds(question, thresholds, otherwise=[row.note for row in of_given])
        reasons = np.where(answers.asked, why, reasons)
        rows += of_given
    return Acceptance(accepted, accepted.astype(float), reasons, tuple(rows))


def _guarantee(
    question: Question, answers: HeldOutAnswers, value: int, config: PrecisionGuarantee, delta: float
) -> ThresholdRow:
    """Find the threshold of one value, or say why there is none."""
    confidence, needed = question.most_probable[1], faces_needed(config.target, delta)
    candidates, of_value = answers.asked & question.candidates(value), answers.chosen == value
    counts = counts_by_confidence(confidence[candidates], np.zeros(int(candidates.sum()), np.int64), num_values=1)[0]
    grid = threshold_grid(
        counts,
        unseen_per_pool_face=len(answers.chosen) / max(int(answers.asked.sum()), 1),
        least=needed,
        num_thresholds=config.num_thresholds,
    )
    about: dict[str, Any] = {"attribute": question.name, "value": question.values[value], "given": answers.given}
    if not len(grid):
        return ThresholdRow(**about, threshold=None, num_candidates=0, num_accepted=0, note="no candidates")
    num_right, num_faces = count_right(answers.confidence[of_value], answers.right[of_value], grid)
    last = int(fixed_sequence(num_right, num_faces, target=config.target, delta=delta))
    shown, threshold = max(last, 0), float(grid[last]) if last >= 0 else None
    right, num = int(num_right[shown]), int(num_faces[shown])
    bound = float(precision_lower_bound(right, num, delta=delta))
    shown_bound, note = format_away_from(np.array([bound]), beside=config.target)[0], ""
    if threshold is None and num < needed:
        note = f"{num} held-out at the first threshold {grid[0]:.4f}, {needed} needed"
    elif threshold is None:
        note = f"{right} of {num} held-out right at {grid[0]:.4f}, bound {shown_bound} < {config.target}"
    return ThresholdRow(
        **about,
        threshold=threshold,
        num_candidates=int(candidates.sum()),
        num_accepted=int((candidates & (confidence >= threshold)).sum()) if threshold is not None else 0,
        num_held_out=num,
        num_right=right,
        lower_bound=bound,
        bound_confidence=1 - delta,
        note=note,
    )
