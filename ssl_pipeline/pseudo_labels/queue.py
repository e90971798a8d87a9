"""Which faces a person should label next: at random, the least sure ones, or typical and diverse ones among the unsure.

Shapes: N faces, D features, A attributes, K classes, T teachers.
"""

import warnings
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace

By = Literal["random", "uncertainty", "clusters"]
_MANY = 20_000
"""Faces above which k-means takes mini-batches."""


@dataclass(frozen=True)
class Queue:
    """Chosen faces, in the order to ask."""

    positions: IntArray
    """int [n], among the candidates."""
    clusters: IntArray
    """int [n], the cluster of each; -1 without clusters."""
    sizes: IntArray
    """int [n], number of candidates in its cluster."""


def uncertainty(
    probabilities: FloatArray, labels: LabelSpace, *, known: BoolArray, members: FloatArray | None = None
) -> FloatArray:
    """Score how unsure the unknown attributes of faces are: 1 - (most probable value - second), mean over attributes.

    With several teachers, it is the mean of this and of their disagreement: the mean total variation distance between
    a teacher's probabilities and the mean of all.

    Args:
        probabilities: float [N, K].
        labels: the label space.
        known: attributes that need no label, bool [N, A]; they do not count.
        members: probabilities by each teacher, float [T, N, K].

    Returns:
        float [N], 0 (sure, or everything known) to 1.

    >>> space = LabelSpace.of({"gender": ["male", "female"]})
    >>> uncertainty(np.array([[0.9, 0.1], [0.5, 0.5]]), space, known=np.zeros((2, 1), bool)).round(2)
    array([0.2, 1. ])
    """
    by_attribute = [
        1 - np.diff(np.sort(own, axis=1)[:, -2:], axis=1)[:, 0] for own in labels.attribute_probabilities(probabilities)
    ]
    if members is not None and len(members) > 1:
        parts = [labels.attribute_probabilities(one) for one in members]
        for position, unsure in enumerate(by_attribute):
            own = np.stack([part[position] for part in parts])
            distance = np.abs(own - own.mean(axis=0)).sum(axis=2).mean(axis=0) / 2
            by_attribute[position] = (unsure + distance) / 2
    scores = np.where(known, 0, np.stack(by_attribute, axis=1))
    return np.asarray(scores.sum(axis=1) / np.maximum((~known).sum(axis=1), 1))


def choose(num_faces: int, *, by: By, scores: FloatArray, features: FloatArray | None = None, seed: int = 0) -> Queue:
    """Choose faces among N candidates.

    `clusters`: k-means of `num_faces` clusters on features of length 1; of each cluster, beginning with the largest, the
    least sure face, so that the faces are diverse, unsure and begin with what is typical of the pool.

    Args:
        num_faces: n; with fewer candidates, all of them.
        by: at random, the least sure ones, or by clusters.
        scores: how unsure each face is, float [N].
        features: float [N, D]; for `clusters`.
        seed: of the draw, and of k-means.

    Raises:
        ValueError: if `clusters` has no features.
    """
    num_faces = min(num_faces, len(scores))
    match by:
        case "random":
            positions = np.random.default_rng(seed).permutation(len(scores))[:num_faces]
        case "uncertainty":
            positions = np.argsort(-scores, kind="stable")[:num_faces]
        case "clusters" if num_faces == 0:
            positions = np.arange(0)
        case "clusters":
            if features is None:
                raise ValueError("clusters need features")
            return _by_clusters(num_faces, scores, features, seed=seed)
        case _:
            assert_never(by)
    nothing = np.full(len(positions), -1)
    return Queue(positions.astype(np.int64), nothing, nothing)


def _by_clusters(num_faces: int, scores: FloatArray, features: FloatArray, *, seed: int) -> Queue:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, 1e-12)
    kind = MiniBatchKMeans if len(scores) > _MANY else KMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # copies of a face make fewer clusters
        means = kind(num_faces, n_init=1, random_state=seed).fit(directions)
    clusters: IntArray = means.labels_.astype(np.int64)
    sizes = np.bincount(clusters, minlength=num_faces)
    order = np.argsort(-sizes, kind="stable")
    least_sure: IntArray = np.argsort(-scores, kind="stable")
    members = [least_sure[clusters[least_sure] == cluster] for cluster in order]
    turns = sorted((turn, place, face) for place, own in enumerate(members) for turn, face in enumerate(own.tolist()))
    positions = np.array([face for _, _, face in turns[:num_faces]], dtype=np.int64)  # an empty cluster has no turn
    return Queue(positions, clusters[positions], sizes[clusters[positions]])
