"""Guards of a selection: acceptance rate, class mix and teacher quality, each fault with its cure.

Shapes: M held-out faces, N faces of the pool, A attributes, V values, K classes.
"""

from collections.abc import Iterator, Sequence
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
    """Describe the selection's violations of the configured guards; empty if a student may be trained on it.

    Args:
        selection: of the pool.
        labels: the label space.
        config: the strategy, its settings and guards.
        held_out: labeled faces that the teacher was not trained on; None skips the guards that need them.
    """
    if held_out is not None and held_out.withheld and isinstance(config, PrecisionGuarantee):
        return [
            f"the guarantee is withheld, nothing is accepted: {held_out.withheld}; to select without a guarantee: "
            "--set selection.type=fixed_threshold"
        ]
    guessed, accepted = np.asarray(~selection.known.all(axis=1)), selection.accepted.any(axis=1)
    has_candidates = guessed.any() or not len(guessed)  # a pool that is fully known has nothing to accept
    faults = [*_acceptance_faults(int(accepted.sum()), int(guessed.sum()), config)] if has_candidates else []
    faults += _one_class_faults(selection, labels, config)
    if held_out is not None:
        faults += _mix_faults(selection, labels, config, held_out)
        faults += _teacher_faults(labels, config, held_out)
    return faults


def is_refused(faults: Sequence[str], config: SelectionConfig) -> bool:
    """Return whether no student may be trained on a selection: it has faults, and ``guards.on_fault`` is ``stop``."""
    return bool(faults) and config.guards.on_fault == "stop"


def stop_on(faults: list[str], config: SelectionConfig) -> None:
    """Raise if there are faults, unless ``guards.on_fault`` is ``warn``.

    Raises:
        SelectionError: with all faults.
    """
    if not is_refused(faults, config):
        return
    if len(faults) == 1:
        raise SelectionError(faults[0])
    raise SelectionError(list_of_faults(f"{len(faults)} faults of the selection", faults))


def _acceptance_faults(num_accepted: int, num_candidates: int, config: SelectionConfig) -> Iterator[str]:
    """Check the share of faces with an accepted pseudo-label among the readable ones with an unknown attribute."""
    guards = config.guards
    rate = num_accepted / num_candidates if num_candidates else 0.0
    if guards.min_acceptance_rate <= rate <= guards.max_acceptance_rate:
        return
    bounds = f"{_percent(guards.min_acceptance_rate)} … {_percent(guards.max_acceptance_rate)}"
    too_few = rate < guards.min_acceptance_rate
    guard = "--set selection.guards." + ("min_acceptance_rate=0" if too_few else "max_acceptance_rate=1")
    yield (
        f"accepted {num_accepted:,} of {num_candidates:,} candidates ({_percent(rate)}), outside "
        f"selection.guards.min_acceptance_rate … max_acceptance_rate ({bounds}); "
        f"{_cure(config, more=too_few)} or {guard}"
    )


def _cure(config: SelectionConfig, *, more: bool) -> str:
    """Name the setting to change so that more, or fewer, labels are accepted."""
    match config:
        case FixedThreshold():
            return f"{'lower' if more else 'raise'} selection.confidence_threshold (now {config.confidence_threshold})"
        case BalancedTopK():
            k = f"selection.k (now {config.k})"
            return f"raise {k}, lower selection.min_confidence (now {config.min_confidence})" if more else f"lower {k}"
        case PercentileCurriculum():
            return f"{'raise' if more else 'lower'} selection.step_percent (now {config.step_percent})"
        case SelfAdaptive():
            return "--set selection.type=fixed_threshold (self_adaptive has no settings)"
        case GaussianWeights():
            return f"{'lower' if more else 'raise'} selection.min_weight (now {config.min_weight})"
        case EnsembleAgreement():
            confidence = (
                f"{'lower' if more else 'raise'} selection.confidence_threshold (now {config.confidence_threshold})"
            )
            return f"{confidence}, {'raise' if more else 'lower'} selection.max_deviation (now {config.max_deviation})"
        case PrecisionGuarantee():
            if more:
                return (
                    f"lower selection.target (now {config.target}), raise selection.delta (now {config.delta}), "
                    "label more faces"
                )
            return f"raise selection.target (now {config.target})"
        case _:
            assert_never(config)


def _one_class_faults(selection: Selection, labels: LabelSpace, config: SelectionConfig) -> Iterator[str]:
    """Check that two or more faces with an accepted pseudo-label do not all have one most probable class."""
    class_ids = selection.class_ids[selection.accepted.any(axis=1)]
    if config.guards.one_class and len(class_ids) > 1 and (class_ids == class_ids[0]).all():
        yield (
            f"all {len(class_ids):,} accepted faces are most probably {labels.class_name(int(class_ids[0]))}; check "
            "`ssl-pipeline manifest summary`, train a better teacher, or, if the pool has no other faces, "
            "--set selection.guards.one_class=false"
        )


def _mix_faults(
    selection: Selection, labels: LabelSpace, config: SelectionConfig, held_out: HeldOutFaces
) -> Iterator[str]:
    """Check each value's, or class's, share of accepted labels against its share of held-out labels."""
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
            (
                attribute.name,
                list(attribute.values),
                selection.attribute_codes[:, position],
                selection.accepted[:, position],
                held_out.codes[:, position],
            )
            for position, attribute in enumerate(labels.attributes)
        ]
    for name, values, codes, accepted, true_codes in mixes:
        if not accepted.any():
            continue  # covered by the acceptance rate
        shares = _shares(codes[accepted], len(values)).tolist()
        expected_shares = _shares(true_codes[true_codes != UNKNOWN], len(values)).tolist()
        for value, share, expected in zip(values, shares, expected_shares, strict=True):
            fault = f"'{name}': {value} is {_percent(share)} of accepted labels, {_percent(expected)} of {held_out.name} faces"
            cure = "--set selection.align=training, choose selection.type balanced_top_k"
            if share < guards.min_share_ratio * expected:
                yield (
                    f"{fault}: too rare; {cure}, or --set selection.guards.min_share_ratio=0 (now {guards.min_share_ratio:g})"
                )
            if guards.max_share_ratio is not None and share > guards.max_share_ratio * expected:
                yield (
                    f"{fault}: too frequent; {cure}, or "
                    f"--set selection.guards.max_share_ratio=null (now {guards.max_share_ratio:g})"
                )


def _teacher_faults(labels: LabelSpace, config: SelectionConfig, held_out: HeldOutFaces) -> Iterator[str]:
    """Check that the teacher's balanced accuracy per attribute is at least that of a constant prediction, 1 / V.

    Plain accuracy would flag teachers trained on class-balanced samples, which trade some of it.
    """
    if not config.guards.worse_than_chance:
        return
    for position, marginal in enumerate(labels.attribute_probabilities(held_out.probabilities)):
        attribute, true_codes = labels.attributes[position], held_out.codes[:, position]
        present = np.unique(true_codes[true_codes != UNKNOWN])
        if len(present) < 2:
            continue
        correct = marginal.argmax(axis=1) == true_codes
        balanced = float(np.mean([correct[true_codes == value].mean() for value in present]))
        if balanced < 1 / len(present):
            yield (
                f"'{attribute.name}': the teacher's balanced accuracy on {held_out.name} faces is {_percent(balanced)}, "
                f"below {_percent(1 / len(present))} of a constant prediction; train a better teacher, give more "
                "labeled faces, or --set selection.guards.worse_than_chance=false"
            )


def _shares(codes: IntArray, num_values: int) -> FloatArray:
    """Return the share of each value, float [V]; zeros if there are no codes."""
    return np.asarray(np.bincount(codes, minlength=num_values) / max(len(codes), 1))


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"
