"""A question to every face of the pool, its answer, and the numbers behind the answer.

Shapes: N faces, T members, V values of the attribute in question, or K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray
from ssl_pipeline.pseudo_labels.held_out import HeldOutAnswers
from ssl_pipeline.pseudo_labels.precision_guarantee import count_right, precision_lower_bound
from ssl_pipeline.pseudo_labels.thresholds import DECIMALS, most_probable

ObjectArray = npt.NDArray[np.object_]

DELTA_OF_MEASUREMENTS = 0.1
"""Where nothing is guaranteed, the held-out faces' precision is shown beside its lower bound with 1 minus this."""


@dataclass(frozen=True)
class ThresholdRow:
    """What decided one value, and what held-out faces say of it; the numbers behind a decision."""

    attribute: str
    """`class` where all attributes are decided at once."""
    value: str
    given: str | None
    """The row holds for faces of which just these attributes are known, as ``age``; None: for all."""
    threshold: float | None
    """The lowest accepted confidence; None where nothing is accepted, or no threshold decides."""
    num_candidates: int
    """Faces to decide whose most probable value this is."""
    num_accepted: int
    num_held_out: int | None = None
    """Held-out faces at the threshold or above, or, where a guarantee failed, at the first one tested; None: unmeasured."""
    num_right: int | None = None
    lower_bound: float | None = None
    """Of the precision, by the exact binomial bound with confidence `bound_confidence`."""
    bound_confidence: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Question:
    """An attribute, or the class, to decide for every face."""

    name: str
    """The attribute's, or `class`."""
    values: Sequence[str]
    """What the values are called, [V]."""
    probabilities: FloatArray
    """float [N, V], rows sum to 1."""
    undecided: BoolArray
    """bool [N], the faces to decide on."""
    image_ids: "Sequence[str] | pd.Series[Any]"
    """[N], to break ties."""
    per: str
    """As in the config: what reasons call the confidence depends on it."""
    members: FloatArray | None = None
    """float [T, N, V], of each view or teacher."""
    held_out: tuple[HeldOutAnswers, ...] = ()

    @cached_property
    def most_probable(self) -> tuple[IntArray, FloatArray]:
        """The most probable value, int [N], and its confidence, float [N]."""
        return most_probable(self.probabilities)

    @property
    def measure(self) -> str:
        """What reasons call the confidence."""
        return "class confidence" if self.per == "class" else "confidence"

    def candidates(self, value: int) -> BoolArray:
        """Mark the faces to decide whose most probable value this is, bool [N]."""
        return np.asarray(self.undecided & (self.most_probable[0] == value))


@dataclass(frozen=True)
class Acceptance:
    """The answer to a question; weights and reasons mean nothing where there was nothing to decide."""

    accepted: BoolArray
    """bool [N]"""
    weights: FloatArray
    """float [N], in [0, 1]."""
    reasons: ObjectArray
    """text [N]"""
    rows: tuple[ThresholdRow, ...]


def acceptance(
    question: Question,
    accepted: BoolArray,
    reasons: ObjectArray,
    thresholds: Sequence[float | None],
    *,
    weights: FloatArray | None = None,
    note: str = "",
    measured: bool = True,
) -> Acceptance:
    """Make a decision whose rows say what held-out faces tell of each threshold.

    Args:
        question: what was decided.
        accepted: bool [N].
        reasons: text [N].
        thresholds: of each value, [V].
        weights: float [N]; by default 1.
        note: for every row.
        measured: whether a threshold alone decides, so that held-out faces can be counted at it.
    """
    rows = []
    for value, threshold in enumerate(thresholds):
        candidates = question.candidates(value)
        counts: dict[str, Any] = {}
        if measured and threshold is not None and len(question.held_out) == 1:
            counts = _measured(question.held_out[0], value, threshold)
        rows.append(
            ThresholdRow(
                attribute=question.name,
                value=question.values[value],
                given=None,
                threshold=threshold,
                num_candidates=int(candidates.sum()),
                num_accepted=int((candidates & accepted).sum()),
                note=note,
                **counts,
            )
        )
    return Acceptance(accepted, np.ones(len(accepted)) if weights is None else weights, reasons, tuple(rows))


def _measured(answers: HeldOutAnswers, value: int, threshold: float) -> dict[str, Any]:
    of_value = answers.chosen == value
    right, num = count_right(answers.confidence[of_value], answers.right[of_value], np.array([threshold]))
    return {
        "num_held_out": int(num[0]),
        "num_right": int(right[0]),
        "lower_bound": float(precision_lower_bound(right[0], num[0], delta=DELTA_OF_MEASUREMENTS)),
        "bound_confidence": 1 - DELTA_OF_MEASUREMENTS,
    }


def compare_with_thresholds(
    question: Question, thresholds: Sequence[float | None], *, otherwise: Sequence[str] = ()
) -> ObjectArray:
    """Write each face's confidence beside its value's threshold, text [N]; `otherwise` where a value has none, [V]."""
    chosen, confidence = question.most_probable
    reasons = np.full(len(chosen), "", dtype=object)
    for value, threshold in enumerate(thresholds):
        of_value = chosen == value
        name = question.values[value]
        if threshold is None:
            reasons[of_value] = f"nothing is guaranteed of {name}: {otherwise[value]}"
            continue
        sign = np.where(confidence[of_value] >= threshold, ">=", "<").astype(object)
        measured = question.measure + " " + format_away_from(confidence[of_value], beside=threshold)
        reasons[of_value] = measured + " " + sign + f" {threshold} of {name}"
    return reasons


def format_away_from(numbers: FloatArray, *, beside: float, up: bool = False) -> ObjectArray:
    """Write numbers so that none seems to reach a limit `beside` which it misses: rounded down, or `up`; text [N]."""
    limit_decimals = -int(Decimal(str(beside)).as_tuple().exponent)
    decimals = min(DECIMALS, max(3, limit_decimals))
    exact, step = np.rint(numbers * 10**DECIMALS).astype(np.int64), 10 ** (DECIMALS - decimals)
    different, places = np.unique(-(-exact // step) if up else exact // step, return_inverse=True)
    written = [f"{number / 10**decimals:.{decimals}f}".rstrip("0").rstrip(".") for number in different.tolist()]
    return np.array(written, dtype=object)[places]
