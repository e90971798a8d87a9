"""How good predictions are: joint classes and each attribute, by scikit-learn.

Shapes: N faces, A attributes, K classes.
"""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from ssl_pipeline.labels import FloatArray, IntArray, LabelSpace


def evaluate_predictions(
    probabilities: FloatArray, codes: IntArray, *, labels: LabelSpace, groups: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Score class probabilities against the truth.

    Macro F1 is the mean over the classes that occur in the truth, so that two models judged on the same faces are
    averaged over the same classes. An attribute is predicted by the largest of its summed probabilities, which need
    not be the most probable class's value.

    Args:
        probabilities: float [N, K], rows sum to 1.
        codes: true value codes, int [N, A], all known.
        labels: the label space.
        groups: N rows, a column for each way of grouping the faces (origin, gender); a null belongs to no group.

    Returns:
        ``num_faces, macro_f1, accuracy``, ``per_attribute.<name>.{accuracy, macro_f1}``, all in [0, 1],
        ``per_class.<name>.{num_faces, f1}`` and ``per_group.<column>.<value>.{num_faces, accuracy, macro_f1}``.

    Raises:
        ValueError: if there is no face, or one that is not fully known.
    """
    truth = labels.class_ids(codes)
    if len(truth) == 0 or (truth < 0).any():
        raise ValueError(f"expected fully known faces, got {len(truth)} with {(truth < 0).sum()} partly known")
    predicted = probabilities.argmax(axis=1)
    per_attribute = {}
    for position, marginal in enumerate(labels.attribute_probabilities(probabilities)):
        scores = _scores(codes[:, position], marginal.argmax(axis=1))
        per_attribute[labels.names[position]] = scores
    present = np.unique(truth)
    class_f1 = f1_score(truth, predicted, labels=present, average=None, zero_division=0)
    per_class = {
        labels.class_name(int(class_id)): {"num_faces": int((truth == class_id).sum()), "f1": float(value)}
        for class_id, value in zip(present, class_f1, strict=True)
    }
    return {
        "num_faces": len(truth),
        **_scores(truth, predicted),
        "per_attribute": per_attribute,
        "per_class": per_class,
        "per_group": {} if groups is None else _per_group(truth, predicted, groups),
    }


def _per_group(truth: IntArray, predicted: IntArray, groups: pd.DataFrame) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for column in groups:
        values = groups[column].astype("object").to_numpy()
        of_value = {value: values == value for value in sorted(set(groups[column].dropna()), key=str)}
        scores[str(column)] = {
            str(value): {"num_faces": int(members.sum()), **_scores(truth[members], predicted[members])}
            for value, members in of_value.items()
        }
    return scores


def _scores(truth: IntArray, predicted: IntArray) -> dict[str, float]:
    present = np.unique(truth)
    macro_f1 = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    return {"macro_f1": float(macro_f1), "accuracy": float(accuracy_score(truth, predicted))}
