"""Two models on the same faces: difference with its interval, and the groups of faces in which the second is worse."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.evaluation.paired_bootstrap import PairedDifference, paired_bootstrap
from ssl_pipeline.evaluation.sign_test import SignTest, holm, sign_test
from ssl_pipeline.labels import BoolArray, IntArray
from ssl_pipeline.points import signed

FALSE_ALARM_RATE = 0.05
"""Highest probability that any group is called worse although the second model is worse in none."""


@dataclass(frozen=True)
class Regression:
    """A group of faces in which the second model is worse by the sign test over its units."""

    column: str
    value: str
    num_faces: int
    difference: float
    """Of the accuracy on the group's faces, second minus first."""
    test: SignTest
    p_value: float
    """Of `test`, after Holm's correction over all tested groups."""


@dataclass(frozen=True)
class ModelComparison:
    """The second model (student) against the first (teacher)."""

    metric: str
    unit: str
    """What the independent units are: persons, pictures or faces."""
    overall: PairedDifference
    has_enough_units: bool
    """Whether there are ``gate.min_units``; else interval and probability mean nothing."""
    regressions: list[Regression]
    untested: list[str]
    """Groups with fewer than ``gate.min_units`` units, e.g. ``origin black``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the two sentences, JSON-able."""
        return asdict(self) | {"overall_words": self.overall_words, "group_words": self.group_words}

    @property
    def overall_words(self) -> str:
        """The difference of the metric, with its interval and the number of units."""
        metric = self.metric.replace("_", " ").replace("f1", "F1")
        sentence, units = (
            f"{metric} {signed(100 * self.overall.difference)} points",
            f"{self.overall.num_units:,} {self.unit}",
        )
        if not self.has_enough_units:
            return f"{sentence} on {units}, too few for an interval"
        lower, upper = 100 * self.overall.lower, 100 * self.overall.upper
        return f"{sentence} (95 % interval {signed(lower)} to {signed(upper)}, resampling {units})"

    @property
    def group_words(self) -> str:
        """The groups in which the student is worse, and those not tested; empty if there are none."""
        worse = [
            f"{group.column} {group.value} (fewer faces right of {group.test.num_worse:,} {self.unit}, more of "
            f"{group.test.num_better:,}; accuracy {signed(100 * group.difference)} points on {group.num_faces:,} faces)"
            for group in self.regressions
        ]
        parts = [f"worse in {', '.join(worse)}"] if worse else []
        parts += [f"too few {self.unit} to test {', '.join(self.untested)}"] if self.untested else []
        return "; ".join(parts)


def compare_models(
    first: pd.DataFrame,
    second: pd.DataFrame,
    units: IntArray,
    *,
    unit: str,
    columns: list[str],
    num_classes: int,
    config: GateConfig,
) -> ModelComparison:
    """Compare two models' predictions for the same N faces.

    Groups are tested by the exact sign test over their units, with Holm's correction, so that with equal models the
    probability that any group is called worse is at most `FALSE_ALARM_RATE`.

    Args:
        first: class_id and predicted_class_id of the teacher, N rows, and the columns of the groups; null is no group.
        second: predicted_class_id of the student, N rows.
        units: the independent unit of each face, int [N].
        unit: what the units are, in the plural.
        columns: columns of `first` that group the faces.
        num_classes: K.
        config: metric, number of draws and smallest number of units.
    """
    truth = first["class_id"].to_numpy(np.int64)
    predicted = first["predicted_class_id"].to_numpy(np.int64), second["predicted_class_id"].to_numpy(np.int64)
    correct = [class_ids == truth for class_ids in predicted]
    overall = paired_bootstrap(
        truth, *predicted, units, num_classes=num_classes, metric=config.metric, num_draws=config.num_draws
    )
    tested, untested = [], []
    for column, value, rows in _groups(first, columns):
        test = sign_test(correct[0][rows], correct[1][rows], units[rows])
        if test.num_units < config.min_units:
            untested.append(f"{column} {value}")
        else:
            difference = float(correct[1][rows].mean() - correct[0][rows].mean())
            tested.append((column, value, int(rows.sum()), difference, test))
    p_values = holm([group[-1].p_value for group in tested]).tolist()
    regressions = [
        Regression(*group, p_value)
        for group, p_value in zip(tested, p_values, strict=True)
        if p_value <= FALSE_ALARM_RATE
    ]
    return ModelComparison(config.metric, unit, overall, overall.num_units >= config.min_units, regressions, untested)


def _groups(faces: pd.DataFrame, columns: list[str]) -> Iterator[tuple[str, str, BoolArray]]:
    """Yield column, value and rows, bool [N], of each group."""
    for column in columns:
        for value in sorted(faces[column].dropna().unique()):
            yield column, str(value), (faces[column] == value).fillna(False).to_numpy(bool)
