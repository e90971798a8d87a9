"""How good predictions are: joint classes, each attribute, each class, each group of faces.

Shapes: N faces, A attributes, K classes, V values of an attribute. Every set of classes (joint, or an attribute's
values) is scored by the same metrics, in [0, 1] unless said otherwise; an undefined one is None, never NaN.

- ``accuracy``.
- ``macro_precision, macro_recall, macro_f1``: means over the classes that occur in the truth; a class that is never
  predicted has precision 0. ``balanced_accuracy`` is the macro recall.
- ``weighted_precision, weighted_recall, weighted_f1``: means weighted by the classes' faces; the weighted recall is the
  accuracy.
- ``roc_auc, average_precision``: each class against the rest by its probability, then the mean over the classes that
  occur; None where one class fills the whole truth.
- ``log_loss``: mean -ln p(truth), in nats, ≥ 0.
- ``brier_score``: mean Σ_v (p(v) - [v is the truth])², in [0, 2] (Brier 1950); for two classes that is twice the form
  over one of them.
- ``expected_calibration_error``: 15 bins, see `calibration_error`.
- ``mean_reciprocal_rank, mean_average_precision, ndcg``: rank of the true class, see `ranking`.
- ``mean_absolute_error, mean_squared_error``: only of an attribute with numbers, see `expected_number`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from ssl_pipeline.config.metrics import split_metric
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.evaluation.calibration_error import reliability_table
from ssl_pipeline.evaluation.class_scores import PerClass, class_scores, group_scores
from ssl_pipeline.evaluation.expected_number import number_errors
from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace

Scores = dict[str, Any]


def score_predictions(
    probabilities: FloatArray,
    codes: IntArray,
    *,
    labels: LabelSpace,
    numbers: Mapping[str, RegressionTargets] | None = None,
) -> Scores:
    """Score class probabilities by every metric, and nothing beside: what an epoch of training asks.

    An attribute is predicted by the largest of its summed probabilities, which need not be the most probable class's
    value.

    Args:
        probabilities: float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        numbers: by the attribute's name, the numbers behind its values.

    Returns:
        ``num_faces``, the joint classes' metrics by name, and ``per_attribute.<name>``, the attribute's.

    Raises:
        ValueError: if there is no face, or one that is not fully known.
        TrainingError: if a probability is no number.
    """
    return _scores(_judge(probabilities, codes, labels), numbers or {})


def evaluate_predictions(
    probabilities: FloatArray,
    codes: IntArray,
    *,
    labels: LabelSpace,
    groups: pd.DataFrame | None = None,
    numbers: Mapping[str, RegressionTargets] | None = None,
) -> Scores:
    """Score class probabilities as `score_predictions` does, and class by class and group by group.

    Args:
        probabilities: float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        groups: N rows, a column for each way of grouping the faces (origin, gender); a null belongs to no group.
        numbers: by the attribute's name, the numbers behind its values.

    Returns:
        What `score_predictions` gives, and ``per_class.<name>`` and ``per_attribute.<name>.per_value.<value>``
        (``num_faces, precision, recall, f1, roc_auc, average_precision`` of those that occur in the truth);
        ``per_group.<column>.<value>`` (``num_faces, accuracy, macro_f1, balanced_accuracy,
        expected_calibration_error`` of the joint classes); and, jointly and in each attribute, ``confusion_matrix``
        (``names``, ``counts``: true class down, predicted class across) and ``reliability`` (a row a bin).

    Raises:
        ValueError: if there is no face, or one that is not fully known.
        TrainingError: if a probability is no number.
    """
    judged = _judge(probabilities, codes, labels)
    scores = _scores(judged, numbers or {})
    for position, (name, truth, of_class, per_class) in enumerate(judged):
        own = scores if name is None else scores["per_attribute"][name]
        names = labels.class_names if name is None else list(labels.attributes[position - 1].values)
        own["per_class" if name is None else "per_value"] = per_class.named(names)
        counts = confusion_matrix(truth, of_class.argmax(axis=1), labels=range(len(names)))
        own["confusion_matrix"] = {"names": names, "counts": counts.tolist()}
        own["reliability"] = reliability_table(truth, of_class)
        if name is None:
            scores["per_group"] = {} if groups is None else _per_group(truth, of_class, groups)
    return scores


def metric_value(scores: Scores, name: str) -> float | None:
    """Look a metric up by the name that a config gives it, as ``macro_f1`` or ``age.macro_f1``.

    Returns:
        None if it is undefined on these faces, or needs numbers that were not given.

    Raises:
        ValueError: if there is no such metric or attribute.
    """
    attribute, metric = split_metric(name)
    if attribute is not None and attribute not in scores["per_attribute"]:
        raise ValueError(f"'{name}': no attribute '{attribute}'; the attributes: {', '.join(scores['per_attribute'])}")
    value: float | None = (scores if attribute is None else scores["per_attribute"][attribute]).get(metric)
    return value


def without_tables(scores: Mapping[str, Any]) -> Scores:
    """Leave out the confusion matrices and the reliability by bins: what a summary has room for."""
    slim = {key: value for key, value in scores.items() if key not in ("confusion_matrix", "reliability")}
    if "per_attribute" in slim:
        slim["per_attribute"] = {name: without_tables(own) for name, own in slim["per_attribute"].items()}
    return slim


class _Judged(NamedTuple):
    """One set of classes with its truth."""

    name: str | None
    """The attribute's; None for the joint classes."""
    truth: IntArray
    """int [N]."""
    probabilities: FloatArray
    """float64 [N, V], rows sum to 1."""
    per_class: PerClass


def _judge(probabilities: FloatArray, codes: IntArray, labels: LabelSpace) -> list[_Judged]:
    """Judge the joint classes, first, then each attribute."""
    truth = labels.class_ids(codes)
    if len(truth) == 0 or (truth < 0).any():
        raise ValueError(f"expected fully known faces, got {len(truth)} with {(truth < 0).sum()} partly known")
    broken = ~np.isfinite(probabilities).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's probabilities of {broken.sum():,} of {len(truth):,} faces are no numbers: its weights have "
            "run away; lower training.optimizer.learning_rate or set training.precision: fp32, and train again"
        )
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)  # rows of float32 sum to 1 less closely than scikit-learn asks
    marginals = [np.minimum(marginal, 1.0) for marginal in labels.attribute_probabilities(exact)]  # sums round up, too
    sets = [
        (None, truth, exact),
        *((name, codes[:, position], marginals[position]) for position, name in enumerate(labels.names)),
    ]
    return [_Judged(name, own, of_class, PerClass.of(own, of_class)) for name, own, of_class in sets]


def _scores(judged: list[_Judged], numbers: Mapping[str, RegressionTargets]) -> Scores:
    (_, truth, probabilities, per_class), *attributes = judged
    scores: Scores = {"num_faces": len(truth), **class_scores(truth, probabilities, per_class), "per_attribute": {}}
    for name, own_truth, of_value, per_value in attributes:
        own: Scores = class_scores(own_truth, of_value, per_value)
        if name is not None and name in numbers:
            own |= number_errors(of_value, numbers[name])
        scores["per_attribute"][name] = own
    return scores


def _per_group(truth: IntArray, probabilities: FloatArray, groups: pd.DataFrame) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for column in groups:
        values = groups[column].astype("object").to_numpy()
        of_value = {value: values == value for value in sorted(set(groups[column].dropna()), key=str)}
        scores[str(column)] = {
            str(value): group_scores(truth[members], probabilities[members]) for value, members in of_value.items()
        }
    return scores
