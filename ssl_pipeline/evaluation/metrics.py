"""Scores of class probabilities: joint classes, each attribute, each class, each group of faces.

Shapes: N faces, A attributes, K classes, V values of an attribute. The joint classes and each attribute's values are
scored by the same metrics, in [0, 1] unless noted; an undefined score is None, never NaN.

- ``accuracy``.
- ``macro_precision, macro_recall, macro_f1``: means over the classes that occur in the truth; a class never predicted
  has precision 0. ``balanced_accuracy`` is the macro recall.
- ``weighted_precision, weighted_recall, weighted_f1``: means weighted by the number of faces per class; the weighted
  recall is the accuracy.
- ``roc_auc, average_precision``: one class against the rest by its probability, averaged over the classes that occur;
  None if only one occurs.
- ``log_loss``: mean -ln p(truth), in nats, ≥ 0.
- ``brier_score``: mean Σ_v (p(v) - [v is the truth])², in [0, 2] (Brier 1950); with two classes, twice the binary form.
- ``expected_calibration_error``: 15 bins, see `calibration_error`.
- ``mean_reciprocal_rank, ndcg``: rank of the true class, see `ranking`.
- ``mean_absolute_error, mean_squared_error``: only for an attribute with numbers, see `expected_number`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from ssl_pipeline.config.metrics import split_metric
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.evaluation.calibration_error import reliability_table
from ssl_pipeline.evaluation.class_scores import PerClassScores, group_scores, overall_scores
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
    """Compute every metric of the joint classes and of each attribute; this is what each training epoch needs.

    An attribute is predicted by the largest of its summed probabilities, which may differ from the most probable
    class's value.

    Args:
        probabilities: float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        numbers: regression targets by attribute name.

    Returns:
        ``num_faces``, the metrics of the joint classes, and in ``per_attribute.<name>`` those of the attribute.

    Raises:
        ValueError: if there is no face, or one that is not fully known.
        TrainingError: if a probability is not finite.
    """
    joint, attributes = _split_by_attribute(probabilities, codes, labels)
    return _overall_scores(joint, attributes, numbers or {})


def evaluate_predictions(
    probabilities: FloatArray,
    codes: IntArray,
    *,
    labels: LabelSpace,
    groups: pd.DataFrame | None = None,
    numbers: Mapping[str, RegressionTargets] | None = None,
) -> Scores:
    """Compute the scores of `score_predictions`, and those per class and per group.

    Args:
        probabilities: float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        groups: N rows, one column per grouping of the faces (e.g. origin, gender); null belongs to no group.
        numbers: regression targets by attribute name.

    Returns:
        The scores of `score_predictions`; ``per_class.<name>`` and ``per_attribute.<name>.per_value.<value>``
        (``num_faces, precision, recall, f1, roc_auc, average_precision`` of those that occur in the truth);
        ``per_group.<column>.<value>`` (``num_faces, accuracy, macro_f1, balanced_accuracy,
        expected_calibration_error`` of the joint classes); and, jointly and per attribute, ``confusion_matrix``
        (``names``, ``counts`` with true classes in rows, predicted ones in columns) and ``reliability`` (one row per
        bin).

    Raises:
        ValueError: if there is no face, or one that is not fully known.
        TrainingError: if a probability is not finite.
    """
    joint, attributes = _split_by_attribute(probabilities, codes, labels)
    scores = _overall_scores(joint, attributes, numbers or {})
    for name, values in attributes.items():
        scores["per_attribute"][name] |= {"per_value": values.per_class.to_dict(values.names), **_tables(values)}
    scores |= {"per_class": joint.per_class.to_dict(joint.names), **_tables(joint)}
    scores["per_group"] = {} if groups is None else _per_group(joint, groups)
    return scores


def metric_value(scores: Scores, name: str) -> float | None:
    """Look up a metric by its name in a config, e.g. ``macro_f1`` or ``age.macro_f1``.

    Returns:
        None if it is undefined on these faces, or needs regression targets that were not given.

    Raises:
        ValueError: if there is no such metric or attribute.
    """
    attribute, metric = split_metric(name)
    if attribute is not None and attribute not in scores["per_attribute"]:
        raise ValueError(f"'{name}': no attribute '{attribute}'; the attributes: {', '.join(scores['per_attribute'])}")
    value: float | None = (scores if attribute is None else scores["per_attribute"][attribute]).get(metric)
    return value


def drop_tables(scores: Mapping[str, Any]) -> Scores:
    """Remove the confusion matrices and reliability tables, which are too large for a summary."""
    kept = {key: value for key, value in scores.items() if key not in ("confusion_matrix", "reliability")}
    if "per_attribute" in kept:
        kept["per_attribute"] = {name: drop_tables(values) for name, values in kept["per_attribute"].items()}
    return kept


class _ClassSet(NamedTuple):
    """Truth and probabilities over the joint classes, or over the values of one attribute."""

    names: list[str]
    truth: IntArray
    """int [N], in 0 … V-1."""
    probabilities: FloatArray
    """float64 [N, V], rows sum to 1."""
    per_class: PerClassScores


def _split_by_attribute(
    probabilities: FloatArray, codes: IntArray, labels: LabelSpace
) -> tuple[_ClassSet, dict[str, _ClassSet]]:
    """Check the predictions; return the joint classes, and each attribute's values by the attribute's name."""
    truth = labels.class_ids(codes)
    if len(truth) == 0 or (truth < 0).any():
        raise ValueError(f"expected fully known faces, got {len(truth)} with {(truth < 0).sum()} partly known")
    is_broken = ~np.isfinite(probabilities).all(axis=1)
    if is_broken.any():
        raise TrainingError(
            f"the model's probabilities of {is_broken.sum():,} of {len(truth):,} faces are not finite: its weights have "
            "diverged; lower training.optimizer.learning_rate or set training.precision: fp32, and train again"
        )
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)  # float32 rows miss 1 by more than scikit-learn accepts
    marginals = [np.minimum(marginal, 1.0) for marginal in labels.attribute_probabilities(exact)]  # sums may round up

    joint = _ClassSet(labels.class_names, truth, exact, PerClassScores.compute(truth, exact))
    attributes = {}
    for attribute, true_values, marginal in zip(labels.attributes, codes.T, marginals, strict=True):
        per_value = PerClassScores.compute(true_values, marginal)
        attributes[attribute.name] = _ClassSet(list(attribute.values), true_values, marginal, per_value)
    return joint, attributes


def _overall_scores(
    joint: _ClassSet, attributes: Mapping[str, _ClassSet], numbers: Mapping[str, RegressionTargets]
) -> Scores:
    per_attribute: dict[str, Scores] = {}
    for name, (_, truth, probabilities, per_value) in attributes.items():
        per_attribute[name] = dict(overall_scores(truth, probabilities, per_value))
        if name in numbers:
            per_attribute[name] |= number_errors(probabilities, numbers[name])
    return {
        "num_faces": len(joint.truth),
        **overall_scores(joint.truth, joint.probabilities, joint.per_class),
        "per_attribute": per_attribute,
    }


def _tables(classes: _ClassSet) -> dict[str, Any]:
    counts = confusion_matrix(classes.truth, classes.probabilities.argmax(axis=1), labels=range(len(classes.names)))
    return {
        "confusion_matrix": {"names": classes.names, "counts": counts.tolist()},
        "reliability": reliability_table(classes.truth, classes.probabilities),
    }


def _per_group(joint: _ClassSet, groups: pd.DataFrame) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for column in groups:
        values = groups[column].astype("object").to_numpy()
        members = {value: values == value for value in sorted(set(groups[column].dropna()), key=str)}
        scores[str(column)] = {
            str(value): group_scores(joint.truth[is_member], joint.probabilities[is_member])
            for value, is_member in members.items()
        }
    return scores
