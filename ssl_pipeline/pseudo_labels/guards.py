"""What a selection must look like: its faults, in words, each with its cure.

Shapes: M held-out faces, N faces of the pool, A attributes, V values, K classes.
"""

from collections.abc import Iterator
from typing import assert_never

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
from ssl_pipeline.errors import SelectionError, list_of_faults
from ssl_pipeline.labels import UNKNOWN, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import Selection


def selection_faults(
    selection: Selection, *, labels: LabelSpace, config: SelectionConfig, held_out: HeldOutFaces | None
) -> list[str]:
    """Say what is wrong with a selection by the config's guards; nothing if it may be learned from.

    Args:
        selection: of the pool.
        labels: the label space.
        config: how it was made, with its guards.
        held_out: labeled faces that the teacher has not seen; without any, nothing is compared with them.
    """
    faults = [*_acceptance_faults(int(selection.accepted_faces.sum()), len(selection.class_ids), config)]
    faults += _one_class_faults(selection, labels, config)
    if held_out is not None:
        faults += _mix_faults(selection, labels, config, held_out)
        faults += _teacher_faults(labels, config, held_out)
    return faults


def stop_on(faults: list[str], config: SelectionConfig) -> None:
    """Stop if there are faults and the config does not let them pass.

    Raises:
        SelectionError: naming every fault.
    """
    if not faults or config.guards.on_fault == "warn":
        return
    if len(faults) == 1:
        raise SelectionError(faults[0])
    raise SelectionError(list_of_faults(f"{len(faults)} faults of the selection", faults))


def _acceptance_faults(num_accepted: int, num_candidates: int, config: SelectionConfig) -> Iterator[str]:
    """Accepted faces among those accepted or rejected; unreadable ones do not count."""
    guards = config.guards
    rate = num_accepted / num_candidates if num_candidates else 0.0
    if guards.min_acceptance_rate <= rate <= guards.max_acceptance_rate:
        return
    bounds = f"{_percent(guards.min_acceptance_rate)} … {_percent(guards.max_acceptance_rate)}"
    too_few = rate < guards.min_acceptance_rate
    guard = "lower selection.guards.min_acceptance_rate" if too_few else "raise selection.guards.max_acceptance_rate"
    yield (
        f"accepted {num_accepted:,} of {num_candidates:,} candidates ({_percent(rate)}), outside "
        f"selection.guards.min_acceptance_rate … max_acceptance_rate ({bounds}); "
        f"{_cure(config, more=too_few)} or {guard}"
    )


def _cure(config: SelectionConfig, *, more: bool) -> str:
    """Which setting to change so that more, or fewer, labels are accepted."""
    match config:
        case FixedThreshold():
            return f"{'lower' if more else 'raise'} selection.confidence_threshold (now {config.confidence_threshold})"
        case BalancedTopK():
            k = f"selection.k (now {config.k})"
            return f"raise {k}, lower selection.min_confidence (now {config.min_confidence})" if more else f"lower {k}"
        case PercentileCurriculum():
            return f"{'raise' if more else 'lower'} selection.step_percent (now {config.step_percent})"
        case SelfAdaptive():
            return "select otherwise, as by fixed_threshold (self_adaptive has no setting of its own)"
        case GaussianWeights():
            return f"{'lower' if more else 'raise'} selection.min_weight (now {config.min_weight})"
        case EnsembleAgreement():
            sure = f"{'lower' if more else 'raise'} selection.confidence_threshold (now {config.confidence_threshold})"
            return f"{sure}, {'raise' if more else 'lower'} selection.max_deviation (now {config.max_deviation})"
        case PrecisionGuarantee():
            if more:
                return (
                    f"guarantee less: lower selection.target (now {config.target}) or raise selection.delta "
                    f"(now {config.delta}); or give more validation faces"
                )
            return f"raise selection.target (now {config.target})"
        case _:
            assert_never(config)


def _one_class_faults(selection: Selection, labels: LabelSpace, config: SelectionConfig) -> Iterator[str]:
    """Two accepted faces or more, all most probably of one class."""
    of_class = selection.class_ids[selection.accepted_faces]
    if config.guards.one_class and len(of_class) > 1 and (of_class == of_class[0]).all():
        yield (
            f"all {len(of_class):,} accepted faces are most probably {labels.class_name(int(of_class[0]))}; look at "
            "`ssl-pipeline manifest summary`, train a better teacher, or, if the pool has no other faces, set "
            "selection.guards.one_class to false"
        )


def _mix_faults(
    selection: Selection, labels: LabelSpace, config: SelectionConfig, held_out: HeldOutFaces
) -> Iterator[str]:
    """Values, or classes, whose share among accepted labels is far from their share on validation."""
    guards = config.guards
    if config.per == "class":
        mixes = [
            (
                "class",
                labels.class_names,
                selection.class_ids,
                selection.accepted.any(axis=1),
                labels.class_ids(held_out.codes),
            )
        ]
    else:
        mixes = [
            (a.name, list(a.values), selection.attribute_codes[:, i], selection.accepted[:, i], held_out.codes[:, i])
            for i, a in enumerate(labels.attributes)
        ]
    for name, values, codes, accepted, true_codes in mixes:
        num_values = len(values)
        share, expected = _shares(codes[accepted], num_values), _shares(true_codes[true_codes != UNKNOWN], num_values)
        if not accepted.any():
            continue  # the acceptance rate is judged by itself
        for value, of_accepted, held_out_probabilities in zip(values, share.tolist(), expected.tolist(), strict=True):
            least = guards.min_share_ratio * held_out_probabilities
            about = f"'{name}': {value} is {_percent(of_accepted)} of accepted labels, {_percent(held_out_probabilities)} of {held_out.name} faces"
            other = "set selection.type to balanced_top_k, selection.align to training"
            if of_accepted < least:
                yield f"{about}: starved; {other}, or lower selection.guards.min_share_ratio (now {guards.min_share_ratio})"
            if guards.max_share_ratio is not None and of_accepted > guards.max_share_ratio * held_out_probabilities:
                yield f"{about}: flooded; {other}, or raise selection.guards.max_share_ratio (now {guards.max_share_ratio})"


def _teacher_faults(labels: LabelSpace, config: SelectionConfig, held_out: HeldOutFaces) -> Iterator[str]:
    """Attributes that the teacher tells no better than by naming one value for every face: below 1 / V in the mean.

    Balanced accuracy and not accuracy, since a teacher trained on balanced draws rightly gives up some of the latter.
    """
    if not config.guards.worse_than_chance:
        return
    for position, marginal in enumerate(labels.attribute_probabilities(held_out.probabilities)):
        attribute, true_codes = labels.attributes[position], held_out.codes[:, position]
        present = np.unique(true_codes[true_codes != UNKNOWN])
        if len(present) < 2:
            continue
        right = marginal.argmax(axis=1) == true_codes
        balanced = float(np.mean([right[true_codes == value].mean() for value in present]))
        if balanced < 1 / len(present):
            yield (
                f"'{attribute.name}': the teacher's balanced accuracy on {held_out.name} faces is {_percent(balanced)}, "
                f"naming one value for every face has {_percent(1 / len(present))}; train a better teacher, give more "
                "labeled faces, or set selection.guards.worse_than_chance to false"
            )


def _shares(codes: IntArray, num_values: int) -> FloatArray:
    """The share of each value, float [V]; zeros of none."""
    return np.asarray(np.bincount(codes, minlength=num_values) / max(len(codes), 1))


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"
