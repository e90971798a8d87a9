"""Names of the metrics that a config can monitor, and whether higher or lower is better.

A name alone is a metric of the joint classes (``macro_f1``); with an attribute in front it is a metric of that attribute
(``age.macro_f1``). `evaluation.metrics` computes and explains them.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator

Direction = Literal["max", "min"]

METRIC_DIRECTIONS: Mapping[str, Direction] = MappingProxyType(
    {
        "accuracy": "max",
        "balanced_accuracy": "max",
        "macro_precision": "max",
        "macro_recall": "max",
        "macro_f1": "max",
        "weighted_precision": "max",
        "weighted_recall": "max",
        "weighted_f1": "max",
        "roc_auc": "max",
        "average_precision": "max",
        "mean_reciprocal_rank": "max",
        "ndcg": "max",
        "log_loss": "min",
        "brier_score": "min",
        "expected_calibration_error": "min",
        "mean_absolute_error": "min",
        "mean_squared_error": "min",
    }
)

NUMBER_METRICS = frozenset(["mean_absolute_error", "mean_squared_error"])
"""Only for an attribute with bins of a number (``from_column: age_years``)."""


def split_metric(name: str) -> tuple[str | None, str]:
    """Split a metric's name into its attribute (None for the joint classes) and the metric.

    Raises:
        ValueError: if there is no such metric.

    >>> split_metric("macro_f1"), split_metric("age.log_loss")
    ((None, 'macro_f1'), ('age', 'log_loss'))
    """
    attribute, point, metric = name.rpartition(".")
    if metric not in METRIC_DIRECTIONS or (point and not attribute):
        known = ", ".join(METRIC_DIRECTIONS)
        raise ValueError(
            f"expected one of {known}, or one of them with an attribute in front, e.g. age.macro_f1; got '{name}'"
        )
    if metric in NUMBER_METRICS and not attribute:
        raise ValueError(f"'{name}' needs an attribute with numbers; write e.g. age.{name}")
    return attribute or None, metric


def metric_direction(name: str) -> Direction:
    """Return whether higher (``max``) or lower (``min``) values of a metric are better.

    Raises:
        ValueError: if there is no such metric.
    """
    return METRIC_DIRECTIONS[split_metric(name)[1]]


def check_metric(name: str, *, attributes: Collection[str], with_numbers: Collection[str] = ()) -> None:
    """Refuse a metric that is not defined for these attributes.

    Args:
        name: e.g. ``macro_f1`` or ``age.macro_f1``.
        attributes: the names of the attributes.
        with_numbers: the attributes with bins of a number.

    Raises:
        ValueError: if there is no such metric or attribute, or the metric needs an attribute with numbers.
    """
    attribute, metric = split_metric(name)
    if attribute is not None and attribute not in attributes:
        raise ValueError(f"'{name}': no attribute '{attribute}'; the attributes: {', '.join(attributes)}")
    if metric in NUMBER_METRICS and attribute not in with_numbers:
        raise ValueError(
            f"'{name}': attribute '{attribute}' has no bins of a number; give it from_column and bin_edges, or choose "
            "another metric"
        )


def _check_name(name: str) -> str:
    try:
        split_metric(name)
    except ValueError as error:
        close = get_close_matches(name.rpartition(".")[2], METRIC_DIRECTIONS.keys() - NUMBER_METRICS, n=1, cutoff=0.4)
        raise ValueError(f"{error}; did you mean --set ={(close or ['macro_f1'])[0]}?") from None
    return name


MetricName = Annotated[str, AfterValidator(_check_name)]
"""A metric's name in a config; only `check_metric` checks that its attribute exists."""
