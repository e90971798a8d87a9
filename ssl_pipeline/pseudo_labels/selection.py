"""Which pseudo-labels to keep, and why: ideas over arrays.

Shapes: N faces, A attributes, V values of one attribute, K classes.

Confidences are rounded to 7 decimals, about the resolution of float32. So neither the order of a summation nor a
probability stored as float32 decides a tie, or whether a confidence of 0.95 reaches a threshold of 0.95.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config import BalancedTopK, FixedThreshold
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace

DECIMALS = 7

ObjectArray = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Selection:
    """What was chosen for every face, how surely, and whether it is accepted, attribute by attribute."""

    probabilities: FloatArray
    """float [N, K], rows sum to 1: the teacher's posterior, renormalised inside what is known of the face."""
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
    reasons: ObjectArray
    """text [N, A], such as ``known``, ``confidence 0.41 < 0.95``, ``rank 12 <= 500 of female``."""

    @property
    def accepted_faces(self) -> BoolArray:
        """Mark the faces with an accepted pseudo-label, and those of which all was known. Returns bool [N]."""
        return np.asarray(self.accepted.any(axis=1) | self.known.all(axis=1))


def select(
    probabilities: FloatArray,
    known_codes: IntArray,
    *,
    labels: LabelSpace,
    config: FixedThreshold | BalancedTopK,
    image_ids: "Sequence[str] | pd.Series[Any]",
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

    Returns:
        The selection, in the order of the faces given.

    Raises:
        ValueError: if the shapes do not fit, or a row of `probabilities` is no distribution.
    """
    _check_arrays(probabilities, known_codes, labels, num_image_ids=len(image_ids))
    known = known_codes != UNKNOWN
    posterior = labels.condition(probabilities.astype(np.float64), known_codes)
    marginals = labels.attribute_probabilities(posterior)
    class_ids, confidence = most_probable(posterior)
    accepted, reasons = np.zeros(known.shape, dtype=bool), np.full(known.shape, "known", dtype=object)
    if config.per == "class":
        chosen = labels.class_codes[class_ids]
        keep, why = _decide(
            posterior,
            ~known.all(axis=1),
            names=labels.class_names,
            config=config,
            image_ids=image_ids,
            measure="class confidence",
        )
        accepted = keep[:, None] & ~known
        reasons = np.where(known, reasons, why[:, None])
    else:
        chosen = np.stack([most_probable(marginal)[0] for marginal in marginals], axis=1)
        for position, (attribute, marginal) in enumerate(zip(labels.attributes, marginals, strict=True)):
            unknown = ~known[:, position]
            accepted[:, position], why = _decide(
                marginal, unknown, names=attribute.values, config=config, image_ids=image_ids, measure="confidence"
            )
            reasons[unknown, position] = why[unknown]
    codes = np.where(known, known_codes, chosen)
    rows = np.arange(len(codes))
    surely = np.stack([marginal[rows, codes[:, position]] for position, marginal in enumerate(marginals)], axis=1)
    return Selection(
        probabilities=posterior,
        class_ids=class_ids,
        confidence=confidence,
        attribute_codes=codes,
        attribute_confidence=np.where(known, 1.0, np.round(surely, DECIMALS)),
        known=known,
        accepted=accepted,
        reasons=reasons,
    )


def most_probable(probabilities: FloatArray) -> tuple[IntArray, FloatArray]:
    """Give the most probable column of each row, the first among equals, and its probability to 7 decimals.

    Args:
        probabilities: float [N, V], V ≥ 1.

    Returns:
        int [N] and float [N].
    """
    rounded = np.round(np.asarray(probabilities, dtype=np.float64), DECIMALS)
    return rounded.argmax(axis=1).astype(np.int64), np.asarray(rounded.max(axis=1))


def confident(probabilities: FloatArray, *, confidence_threshold: float) -> BoolArray:
    """Mark the faces whose most probable class is sure enough (FixMatch, arXiv:2001.07685).

    Args:
        probabilities: calibrated, float [N, K], rows sum to 1.
        confidence_threshold: smallest accepted confidence, in (0, 1]; equality accepts.

    Returns:
        bool [N].

    Raises:
        ValueError: if probabilities is not [N, K].

    >>> confident(np.array([[0.95, 0.05], [0.6, 0.4]]), confidence_threshold=0.95)
    array([ True, False])
    """
    if np.ndim(probabilities) != 2:
        raise ValueError(f"probabilities must be [N, K], got {list(np.shape(probabilities))}")
    return most_probable(probabilities)[1] >= confidence_threshold


def top_k_per_value(
    confidence: FloatArray,
    chosen: IntArray,
    *,
    k: int,
    num_values: int,
    tie_break: "Sequence[Any] | npt.NDArray[Any] | pd.Series[Any]",
) -> tuple[BoolArray, IntArray]:
    """Mark the `k` surest faces of every value (the balance of Noisy Student, arXiv:1911.04252).

    Args:
        confidence: float [N].
        chosen: the value each face competes for, int [N] in 0 … `num_values` - 1; -1 does not compete.
        k: how many of each value, at least 1.
        num_values: V.
        tie_break: [N], sortable; of two faces equally sure, the smaller comes first.

    Returns:
        bool [N], among the k; and int [N], the rank from 1 within the value, 0 for a face that does not compete.

    Raises:
        ValueError: if a value is out of range.

    >>> top_k_per_value(np.array([0.9, 0.7, 0.9]), np.array([0, 0, 0]), k=1, num_values=1, tie_break=["b", "c", "a"])
    (array([False, False,  True]), array([2, 3, 1]))
    """
    if len(chosen) and not UNKNOWN <= chosen.min() <= chosen.max() < num_values:
        raise ValueError(f"chosen values must lie in -1 … {num_values - 1}, got {chosen.min()} … {chosen.max()}")
    _, places = np.unique(np.asarray(tie_break, dtype=object), return_inverse=True)
    order = np.lexsort((places, -confidence, chosen))
    starts = np.searchsorted(chosen[order], np.arange(UNKNOWN, num_values))  # the first place of each value
    rank = np.empty(len(chosen), dtype=np.int64)
    rank[order] = np.arange(1, len(chosen) + 1) - starts[chosen[order] - UNKNOWN]
    rank[chosen == UNKNOWN] = 0
    return (rank >= 1) & (rank <= k), rank


def check_acceptance(num_accepted: int, num_candidates: int, *, config: FixedThreshold | BalancedTopK) -> None:
    """Refuse a selection that keeps fewer or more faces than the config's guard allows.

    Args:
        num_accepted: faces accepted.
        num_candidates: faces accepted or rejected; unreadable ones do not count.
        config: the selection, with its guard; both its bounds are allowed.

    Raises:
        SelectionError: naming the counts, the bounds and the settings to change.
    """
    rate = num_accepted / num_candidates if num_candidates else 0.0
    if config.min_acceptance_rate <= rate <= config.max_acceptance_rate:
        return
    bounds = f"{_percent(config.min_acceptance_rate)} … {_percent(config.max_acceptance_rate)}"
    too_few = rate < config.min_acceptance_rate
    match config:
        case FixedThreshold():
            setting = f"selection.confidence_threshold (now {config.confidence_threshold})"
            cure = f"{'lower' if too_few else 'raise'} {setting}"
        case BalancedTopK():
            settings = f"selection.k (now {config.k})", f"selection.min_confidence (now {config.min_confidence})"
            cure = f"raise {settings[0]}, lower {settings[1]}" if too_few else f"lower {settings[0]}"
        case _:
            assert_never(config)
    guard = "lower selection.min_acceptance_rate" if too_few else "raise selection.max_acceptance_rate"
    raise SelectionError(
        f"accepted {num_accepted:,} of {num_candidates:,} candidates ({_percent(rate)}), outside "
        f"selection.min_acceptance_rate … selection.max_acceptance_rate ({bounds}); {cure} or {guard}"
    )


def _decide(
    probabilities: FloatArray,
    undecided: BoolArray,
    *,
    names: Sequence[str],
    config: FixedThreshold | BalancedTopK,
    image_ids: "Sequence[str] | pd.Series[Any]",
    measure: str,
) -> tuple[BoolArray, ObjectArray]:
    """Decide over the most probable of V values of each undecided face.

    Args:
        probabilities: float [N, V], of the values of an attribute, or of all classes.
        undecided: bool [N], the faces to decide on.
        names: what the values are called, [V].
        config: how to select.
        image_ids: [N], to break ties.
        measure: what reasons call the confidence.

    Returns:
        bool [N], accepted; and text [N], the reasons, which mean nothing where there was nothing to decide.
    """
    chosen, confidence = most_probable(probabilities)
    match config:
        case FixedThreshold(confidence_threshold=threshold):
            accepted = undecided & confident(probabilities, confidence_threshold=threshold)
            sign = np.where(accepted, ">=", "<").astype(object)
            return accepted, measure + " " + _texts(confidence, beside=threshold) + " " + sign + f" {threshold}"
        case BalancedTopK(k=k, min_confidence=least):
            competing = np.where(undecided, chosen, UNKNOWN)
            among, rank = top_k_per_value(confidence, competing, k=k, num_values=len(names), tie_break=image_ids)
            enough = confidence >= least
            ranks = [
                f"rank {place} {'<=' if kept else '>'} {k} of {names[value]}"
                for place, kept, value in zip(rank.tolist(), among.tolist(), chosen.tolist(), strict=True)
            ]
            unsure = measure + " " + _texts(confidence, beside=least) + f" < min {least}"
            return among & enough, np.where(enough, np.array(ranks, dtype=object), unsure)
        case _:
            assert_never(config)


def _texts(confidence: FloatArray, *, beside: float) -> ObjectArray:
    """Write confidences, rounded down so that none seems to reach a threshold `beside` which it misses; text [N]."""
    threshold_decimals = -int(Decimal(str(beside)).as_tuple().exponent)
    decimals = min(DECIMALS, max(3, threshold_decimals))
    steps = np.rint(confidence * 10**DECIMALS).astype(np.int64) // 10 ** (DECIMALS - decimals)
    different, places = np.unique(steps, return_inverse=True)
    texts = [f"{step / 10**decimals:.{decimals}f}".rstrip("0").rstrip(".") for step in different.tolist()]
    return np.array(texts, dtype=object)[places]


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"


def _check_arrays(probabilities: FloatArray, known_codes: IntArray, labels: LabelSpace, *, num_image_ids: int) -> None:
    num_faces = len(probabilities)
    if probabilities.shape != (num_faces, labels.num_classes):
        raise ValueError(f"probabilities must be [N, {labels.num_classes}], got {list(probabilities.shape)}")
    if known_codes.shape != (num_faces, len(labels.attributes)) or num_image_ids != num_faces:
        raise ValueError(
            f"{num_faces} faces need known_codes [{num_faces}, {len(labels.attributes)}] and as many image ids, "
            f"got {list(known_codes.shape)} and {num_image_ids}"
        )
    wrong = ~(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-3) | (probabilities < 0).any(axis=1)
    if wrong.any():
        raise ValueError(f"probabilities of {int(wrong.sum()):,} faces are no distribution, first row {wrong.argmax()}")
