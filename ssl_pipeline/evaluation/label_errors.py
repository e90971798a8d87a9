"""Likely wrong human labels: scores from held-out probabilities (confident learning), and contradicting copies.

Curtis Northcutt, Lu Jiang, Isaac Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70 (2021),
arXiv:1911.00068. All scores lie in [0, 1]; the smaller, the likelier is the label wrong.

Shapes: N faces, V values of one attribute.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray

Score = Literal["self_confidence", "normalized_margin", "confident_joint"]
DEFAULT_SCORE: Score = "self_confidence"


def score_labels(probabilities: FloatArray, labels: IntArray, *, score: Score = DEFAULT_SCORE) -> FloatArray:
    """Score each label by the probabilities of a model that was not trained on it.

    Args:
        probabilities: float [N, V], rows sum to 1.
        labels: the given values, int [N], in 0 … V-1.
        score: ``self_confidence``: p(label). ``normalized_margin``: (p(label) - max p(another) + 1) / 2.
            ``confident_joint``: the normalized margin in two steps, those that `prune_by_noise_rate` finds below 0.5 and
            the others above.

    Returns:
        float [N].

    >>> score_labels(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).round(2).tolist()
    [0.9, 0.2]
    """
    if score == "self_confidence":
        return _of_label(probabilities, labels)
    margin = (1 - _margins(probabilities, labels).max(axis=1, initial=-1)) / 2
    if score == "normalized_margin":
        return np.asarray(margin)
    return np.asarray(np.where(prune_by_noise_rate(probabilities, labels), margin, 1 + margin) / 2)


def confident_joint(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """Count the faces with label i that surely show value j (equation 1 of the paper).

    A face surely shows j if p(j) is at least the mean p(j) of the faces labeled j; of several such values the most
    probable one counts, of none no one. A value that no face is labeled with counts never.

    Args:
        probabilities: held-out, float [N, V].
        labels: int [N].

    Returns:
        int [V, V], row: given label, column: value shown.
    """
    num_values = probabilities.shape[1]
    thresholds = np.array(
        [probabilities[labels == v, v].mean() if (labels == v).any() else np.inf for v in range(num_values)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    shown, counted = confident.argmax(axis=1), confident.max(axis=1, initial=-1) >= 0
    joint = np.zeros((num_values, num_values), dtype=np.int64)
    np.add.at(joint, (labels[counted], shown[counted]), 1)
    return joint


def estimate_joint(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Estimate the joint distribution of given and true values (equation 3): rows have the share of each given label.

    Returns:
        float [V, V], sums to 1. A label without a sure face is taken as right.
    """
    joint = confident_joint(probabilities, labels).astype(float)
    num_labeled = np.bincount(labels, minlength=len(joint))
    empty = joint.sum(axis=1) == 0
    joint[empty, empty] = 1
    calibrated = joint / joint.sum(axis=1, keepdims=True) * num_labeled[:, None]
    return np.asarray(calibrated / max(calibrated.sum(), 1))


def prune_by_noise_rate(probabilities: FloatArray, labels: IntArray) -> BoolArray:
    """Mark, for each label i and other value j, as many faces as the joint expects, those with the largest p(j) - p(i).

    At most those whose most probable value is another one are marked.

    Returns:
        bool [N].
    """
    expected = np.rint(len(labels) * estimate_joint(probabilities, labels)).astype(np.int64)
    margins = _margins(probabilities, labels)
    marked = np.zeros(len(labels), dtype=bool)
    for label, value in zip(*np.nonzero(expected), strict=True):
        if label != value:
            rows = np.flatnonzero(labels == label)
            largest = rows[np.argsort(-margins[rows, value], kind="stable")[: expected[label, value]]]
            marked[largest] = True
    return np.asarray(marked & (margins.max(axis=1, initial=-1) > 0))


def contradicting_copies(
    picture_ids: Sequence[str], labels: IntArray, probabilities: FloatArray
) -> tuple[IntArray, IntArray]:
    """Find labels that contradict those of copies of the same picture.

    The likely value of a picture is the one that most of its copies have; of several the one with the largest mean
    probability.

    Args:
        picture_ids: of each face, [N], see `near_duplicates.picture_ids`.
        labels: int [N], -1 unknown.
        probabilities: float [N, V].

    Returns:
        The likely value, int [N], -1 for faces that contradict no copy, or have the likely value already; and the index
        of a copy that has the likely value, int [N], -1 likewise.
    """
    likely, copies = (np.full(len(labels), UNKNOWN, dtype=np.int64) for _ in range(2))
    known = pd.DataFrame({"picture": list(picture_ids), "label": labels})[labels != UNKNOWN]
    contradicted = known.groupby("picture")["label"].transform("nunique") > 1
    for _, group in known[contradicted].groupby("picture"):
        rows, values = group.index.to_numpy(), group["label"].to_numpy()
        votes = np.bincount(values, minlength=probabilities.shape[1])
        value = max(np.flatnonzero(votes), key=lambda value: (votes[value], probabilities[rows, value].mean(), -value))
        likely[rows[values != value]] = value
        copies[rows[values != value]] = rows[values == value][0]
    return likely, copies


def _of_label(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def _margins(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return p(j) - p(label) of the other values j, float [N, V]; -1 at the label itself."""
    margins = probabilities - _of_label(probabilities, labels)[:, None]
    margins[np.arange(len(labels)), labels] = -1
    return np.asarray(margins)
