"""Splits by person, stratified by class.

Shapes: N faces, G groups (persons), S strata (classes, and one more for faces that are not fully known).
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.labels import BoolArray, IntArray


def same_person_or_picture(person_ids: Sequence[str], content_hashes: Sequence[str]) -> IntArray:
    """Number the groups of faces that share a person or a picture, directly or through others. Returns int [N]."""
    num_faces = len(person_ids)
    _, persons = np.unique(np.asarray(person_ids, dtype=str), return_inverse=True)
    _, pictures = np.unique(np.asarray(content_hashes, dtype=str), return_inverse=True)
    edges = (np.ones(num_faces), (persons, persons.max(initial=-1) + 1 + pictures))
    num_nodes = persons.max(initial=-1) + pictures.max(initial=-1) + 2
    _, component = connected_components(coo_array(edges, shape=(num_nodes, num_nodes)), directed=False)
    return np.asarray(component[persons], dtype=np.int64)


def take_share(strata: IntArray, groups: IntArray, *, fraction: float, seed: Sequence[int], keep: int = 1) -> BoolArray:
    """Take a share of the faces for a split of its own, whole groups at a time, near the fraction in every stratum.

    The rarest stratum is served first. One that has two groups or more gives at least one and keeps `keep` of them, or
    all but one, so that no class is starved on either side while it can be helped. A group with a face that is not
    fully known is never taken.

    Args:
        strata: int [N], the class of each face; -1 where it is not fully known.
        groups: int [N]; a group is taken whole or not at all.
        fraction: of each stratum's faces, in (0, 1).
        seed: of the draw; the result depends on the order of faces too, so sort them first.
        keep: groups of each stratum to leave, 1 for each split that is still to come; of those, all but one fully known.

    Returns:
        bool [N], taken.
    """
    counts = _counts(strata, groups)
    eligible = counts[:, 0] == 0
    num_groups = (counts > 0).sum(axis=0)
    eligible_counts = counts * eligible[:, None]
    targets = np.round(fraction * counts.sum(axis=0)).astype(np.int64)
    targets = np.maximum(targets, (num_groups >= 2) & (eligible_counts.sum(axis=0) > 0))
    num_eligible = (eligible_counts > 0).sum(axis=0)
    may_give = num_groups - np.maximum(np.minimum(keep, num_groups - 1), 1)
    may_give = np.minimum(may_give, np.maximum(num_eligible - keep + 1, 1))
    taken = _take(eligible_counts, targets, seed=seed, may_give=may_give)
    return np.asarray(taken[groups])


def take_limit(strata: IntArray, groups: IntArray, *, limit: int, seed: Sequence[int]) -> BoolArray:
    """Take at most `limit` faces in whole groups, strata in their proportions; exactly so many if groups are single.

    Returns:
        bool [N], taken.
    """
    counts = _counts(strata, groups)
    total = counts.sum(axis=0)
    if limit >= total.sum():
        return np.ones(len(strata), bool)
    shares = limit * total / total.sum()
    targets = np.floor(shares).astype(np.int64)
    most_due = np.argsort(targets - shares, kind="stable")  # largest remainder
    targets[most_due[: limit - targets.sum()]] += 1
    taken = _take(counts, targets, seed=seed, at_most=limit)
    return np.asarray(taken[groups])


def assign_folds(strata: IntArray, groups: IntArray, *, num_folds: int, seed: int) -> IntArray:
    """Deal faces into parts as equal as can be, whole groups at a time, strata in their proportions.

    Args:
        strata: int [N], the class of each face; -1 where it is not fully known.
        groups: int [N].
        num_folds: at least 2.
        seed: of the draw.

    Returns:
        int [N], the part of each face, 0 … num_folds - 1; each has a face.

    Raises:
        FaceTableError: if there are fewer groups than parts.
    """
    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise FaceTableError(
            f"{num_groups} people with labeled training faces cannot be dealt into {num_folds} parts; "
            "lower out_of_fold.num_folds, or give more labeled faces"
        )
    folds = np.full(len(strata), -1, dtype=np.int64)
    dealer = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a class of few faces is no fault
        for fold, (_, held_out) in enumerate(dealer.split(strata, strata, groups)):
            folds[held_out] = fold
    if len(np.unique(folds)) < num_folds:
        raise FaceTableError(
            f"one person has so many of the {len(strata)} training faces that {num_folds} parts come out empty; "
            "lower out_of_fold.num_folds"
        )
    return folds


def _counts(strata: IntArray, groups: IntArray) -> IntArray:
    """Count the faces of each group in each stratum, int [G, S]; column 0 is the faces that are not fully known."""
    counts = np.zeros((groups.max(initial=-1) + 1, strata.max(initial=-1) + 2), dtype=np.int64)
    np.add.at(counts, (groups, strata + 1), 1)
    return counts


def _take(
    counts: IntArray,
    targets: IntArray,
    *,
    seed: Sequence[int],
    may_give: IntArray | None = None,
    at_most: int | None = None,
) -> BoolArray:
    """Take groups in random order until each stratum has its target, rarest stratum first. Returns bool [G].

    A group is passed over where the strata would be farther from their targets with it than without: one person of many
    faces would else fill a split alone. A stratum that comes to nothing by that gets the group that errs least.

    Args:
        counts: faces of each group in each stratum, int [G, S].
        targets: faces to take of each stratum, int [S].
        seed: of the order.
        may_give: groups that each stratum may lose, int [S]; None for any number.
        at_most: faces to take in all.
    """
    order = np.random.default_rng(list(seed)).permutation(len(counts))
    taken = np.zeros(len(counts), bool)
    have = np.zeros(counts.shape[1], dtype=np.int64)
    num_given = np.zeros(counts.shape[1], dtype=np.int64)
    weights = 1 / np.maximum(counts.sum(axis=0), 1)  # a face more or less matters more to a rare stratum

    def gap(group: int | None = None) -> float:
        with_it = have if group is None else have + counts[group]
        return float(np.abs(targets - with_it) @ weights)

    def is_free(group: int) -> bool:
        too_many = at_most is not None and have.sum() + counts[group].sum() > at_most
        needed = may_give is not None and (num_given >= may_give)[counts[group] > 0].any()
        return not (taken[group] or too_many or needed)

    def take(group: int) -> None:
        taken[group] = True
        np.add(have, counts[group], out=have)
        np.add(num_given, counts[group] > 0, out=num_given)

    for stratum in np.argsort(counts.sum(axis=0), kind="stable"):
        groups = order[counts[order, stratum] > 0].tolist()
        for group in groups:
            if have[stratum] >= targets[stratum]:
                break
            if is_free(group) and gap(group) <= gap() + 1e-9:  # a tie is taken, whatever the rounding
                take(group)
        if have[stratum] == 0 < targets[stratum] and (free := [group for group in groups if is_free(group)]):
            take(min(free, key=gap))
    return taken
