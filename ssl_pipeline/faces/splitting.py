"""Splits and folds that keep each person's faces together, stratified by class.

Shapes: N faces, G groups (persons), S strata (classes, and one more for partly known faces).
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.labels import BoolArray, IntArray


def connected_groups(person_ids: Sequence[str], pictures: Sequence[str]) -> IntArray:
    """Number the groups of faces that share a person or a picture, directly or through others. Returns int [N]."""
    _, persons = np.unique(np.asarray(person_ids, dtype=str), return_inverse=True)
    _, picture_ids = np.unique(np.asarray(pictures, dtype=str), return_inverse=True)
    picture_nodes = persons.max(initial=-1) + 1 + picture_ids
    num_nodes = int(picture_nodes.max(initial=-1)) + 1
    edges = coo_array((np.ones(len(persons)), (persons, picture_nodes)), shape=(num_nodes, num_nodes))
    _, component = connected_components(edges, directed=False)
    return np.asarray(component[persons], dtype=np.int64)


def hold_out(strata: IntArray, groups: IntArray, *, fraction: float, seed: Sequence[int], keep: int = 1) -> BoolArray:
    """Sample whole groups for a held-out split, near the fraction in every stratum.

    Rare strata are sampled first. A stratum with at least two groups gives at least one and keeps `keep` of them, or
    all but one, so that both sides have every class where possible. (scikit-learn's group splitters leave rare classes
    out of a split.) A group with a partly known face is never held out.

    Args:
        strata: class of each face, int [N]; -1 if partly known.
        groups: int [N].
        fraction: share of each stratum's faces, in (0, 1).
        seed: random seed; the result also depends on the order of the faces.
        keep: groups of each stratum to keep, one per split that is still to come; all but one of them fully known.

    Returns:
        bool [N], True if held out.
    """
    counts, group = _face_counts(strata, groups)
    num_groups = (counts > 0).sum(axis=0)
    eligible_counts = np.where(counts[:, :1] == 0, counts, 0)
    num_eligible = (eligible_counts > 0).sum(axis=0)
    targets = np.round(fraction * counts.sum(axis=0)).astype(np.int64)
    targets = np.maximum(targets, (num_groups >= 2) & (num_eligible > 0))
    max_groups = num_groups - np.maximum(np.minimum(keep, num_groups - 1), 1)
    max_groups = np.minimum(max_groups, np.maximum(num_eligible - keep + 1, 1))
    return _sample_groups(eligible_counts, targets, seed=seed, max_groups=max_groups)[group]


def limit_faces(strata: IntArray, groups: IntArray, *, limit: int, seed: Sequence[int]) -> BoolArray:
    """Sample at most `limit` faces in whole groups, strata in proportion; exactly `limit` if groups are single faces.

    Returns:
        bool [N], True if kept.
    """
    counts, group = _face_counts(strata, groups)
    total = counts.sum(axis=0)
    if limit >= total.sum():
        return np.ones(len(strata), bool)
    quotas = limit * total / total.sum()
    targets = np.floor(quotas).astype(np.int64)
    largest_remainders = np.argsort(targets - quotas, kind="stable")[: limit - targets.sum()]
    targets[largest_remainders] += 1
    return _sample_groups(counts, targets, seed=seed, max_faces=limit)[group]


def assign_folds(strata: IntArray, groups: IntArray, *, num_folds: int, seed: int) -> IntArray:
    """Assign whole groups to folds of similar size, strata in proportion (scikit-learn's StratifiedGroupKFold).

    Args:
        strata: class of each face, int [N]; -1 if partly known.
        groups: int [N].
        num_folds: at least 2.
        seed: random seed.

    Returns:
        Fold of each face, int [N], 0 … num_folds - 1; no fold is empty.

    Raises:
        FaceTableError: if there are fewer groups than folds, or a fold would be empty.
    """
    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise FaceTableError(
            f"{num_groups} people with labeled training faces cannot be split into {num_folds} folds; "
            "lower out_of_fold.num_folds or add labeled faces"
        )
    folds = np.full(len(strata), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # rare classes are expected
        for fold, (_, held_out) in enumerate(splitter.split(strata, strata, groups)):
            folds[held_out] = fold
    if len(np.unique(folds)) < num_folds:
        raise FaceTableError(
            f"one person has so many of the {len(strata)} training faces that some of the {num_folds} folds are empty; "
            "lower out_of_fold.num_folds"
        )
    return folds


def _face_counts(strata: IntArray, groups: IntArray) -> tuple[IntArray, IntArray]:
    """Count faces per group and stratum, int [G, S], column 0 for partly known; and number the groups, int [N]."""
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max(initial=-1) + 1, strata.max(initial=-1) + 2), dtype=np.int64)
    np.add.at(counts, (group, strata + 1), 1)
    return counts, group


def _sample_groups(
    counts: IntArray,
    targets: IntArray,
    *,
    seed: Sequence[int],
    max_groups: IntArray | float = np.inf,
    max_faces: float = np.inf,
) -> BoolArray:
    """Sample groups in random order until each stratum reaches its target, rarest stratum first. Returns bool [G].

    A group that would move the strata away from their targets is skipped, so that no person with many faces fills a
    split. If this leaves a stratum empty, it gets the group that moves them away least.

    Args:
        counts: faces per group and stratum, int [G, S].
        targets: faces to sample per stratum, int [S].
        seed: random seed of the order.
        max_groups: largest number of groups to sample per stratum, int [S].
        max_faces: largest number of faces to sample in total.
    """
    order = np.random.default_rng(list(seed)).permutation(len(counts))
    sampled = np.zeros(len(counts), bool)
    num_faces, num_groups = np.zeros_like(targets), np.zeros_like(targets)
    weights = 1 / np.maximum(counts.sum(axis=0), 1)  # one face matters more to a rare stratum

    def added_distance(group: int) -> float:
        """Return by how much a group would move the strata away from their targets; infinity if it is not available."""
        after = num_faces + counts[group]
        exhausted = (num_groups >= max_groups)[counts[group] > 0].any()
        if sampled[group] or exhausted or after.sum() > max_faces:
            return np.inf
        return float((np.abs(targets - after) - np.abs(targets - num_faces)) @ weights)

    def sample(group: int) -> None:
        sampled[group] = True
        np.add(num_faces, counts[group], out=num_faces)
        np.add(num_groups, counts[group] > 0, out=num_groups)

    for stratum in np.argsort(counts.sum(axis=0), kind="stable"):
        members = order[counts[order, stratum] > 0].tolist()
        for group in members:
            if num_faces[stratum] < targets[stratum] and added_distance(group) <= 1e-9:  # accepts ties
                sample(group)
        if num_faces[stratum] == 0 < targets[stratum] and members:
            nearest = min(members, key=added_distance)
            if np.isfinite(added_distance(nearest)):
                sample(nearest)
    return sampled
