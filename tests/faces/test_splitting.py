"""Splits and folds: whole persons, every class on both sides, near the fraction, reproducible."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.splitting import assign_folds, connected_groups, hold_out, limit_faces

people = st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 4)), min_size=1, max_size=60)


def faces_of(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Turn (class, number of faces) per person into strata and groups of the faces."""
    strata = np.concatenate([np.full(number, stratum) for stratum, number in drawn])
    groups = np.concatenate([np.full(number, person) for person, (_, number) in enumerate(drawn)])
    return strata, groups


@given(drawn=people, fraction=st.floats(0.05, 0.6), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_no_person_is_on_two_sides_and_partly_known_ones_are_kept(
    drawn: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    strata, groups = faces_of(drawn)
    held_out = hold_out(strata, groups, fraction=fraction, seed=[seed])
    assert not set(groups[held_out]) & set(groups[~held_out])
    assert not held_out[strata < 0].any()


@given(drawn=people, fraction=st.floats(0.05, 0.6), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_a_class_with_two_persons_is_on_both_sides(drawn: list[tuple[int, int]], fraction: float, seed: int) -> None:
    strata, groups = faces_of(drawn)
    held_out = hold_out(strata, groups, fraction=fraction, seed=[seed])
    for stratum in set(strata[strata >= 0]):
        if len(set(groups[strata == stratum])) >= 2:
            assert 0 < held_out[strata == stratum].sum() < (strata == stratum).sum()


@given(sizes=st.lists(st.integers(2, 80), min_size=1, max_size=6), fraction=st.floats(0.1, 0.5))
@settings(max_examples=100)
def test_with_one_face_per_person_each_class_gives_its_rounded_share(sizes: list[int], fraction: float) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    held_out = hold_out(strata, np.arange(len(strata)), fraction=fraction, seed=[0])
    for stratum, size in enumerate(sizes):
        assert held_out[strata == stratum].sum() == min(max(round(fraction * size), 1), size - 1)


@given(sizes=st.lists(st.integers(1, 80), min_size=1, max_size=6), limit=st.integers(1, 300))
@settings(max_examples=100)
def test_the_limit_is_exact_for_single_faces_and_keeps_proportions(sizes: list[int], limit: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    kept = limit_faces(strata, np.arange(len(strata)), limit=limit, seed=[0])
    assert kept.sum() == min(limit, len(strata))
    for stratum, size in enumerate(sizes):
        assert abs(kept[strata == stratum].sum() - size * min(limit / len(strata), 1)) < 1


@given(drawn=people, limit=st.integers(1, 60))
@settings(max_examples=100)
def test_the_limit_keeps_whole_persons_and_never_too_many(drawn: list[tuple[int, int]], limit: int) -> None:
    strata, groups = faces_of(drawn)
    kept = limit_faces(strata, groups, limit=limit, seed=[0])
    assert kept.sum() <= limit
    assert not set(groups[kept]) & set(groups[~kept])


def test_equal_seeds_give_equal_splits_and_different_seeds_different_ones() -> None:
    strata, groups = np.repeat([0, 1], 50), np.arange(100)
    one, same, other = (hold_out(strata, groups, fraction=0.3, seed=[seed]) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


@given(links=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30))
@settings(max_examples=100)
def test_faces_that_share_a_person_or_a_picture_are_one_group(links: list[tuple[int, int]]) -> None:
    groups = connected_groups([f"p{person}" for person, _ in links], [f"h{picture}" for _, picture in links])
    graph = nx.Graph([(f"p{person}", f"h{picture}") for person, picture in links])
    expected = {node: number for number, nodes in enumerate(nx.connected_components(graph)) for node in nodes}
    components = [expected[f"p{person}"] for person, _ in links]
    for one in range(len(links)):
        for other in range(len(links)):
            assert (groups[one] == groups[other]) == (components[one] == components[other])


def test_a_class_of_one_person_stays_in_training() -> None:
    held_out = hold_out(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), fraction=0.5, seed=[0])
    assert not held_out[:2].any()
    assert held_out[2:].sum() == pytest.approx(1)


@given(drawn=people, fraction=st.floats(0.05, 0.6), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_no_kept_person_would_bring_a_class_nearer_its_share(
    drawn: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    strata, groups = faces_of(drawn)
    held_out = hold_out(strata, groups, fraction=fraction, seed=[seed])
    for stratum in set(strata[strata >= 0]):
        in_class = strata == stratum
        target, num_held_out = max(round(fraction * in_class.sum()), 1), held_out[in_class].sum()
        kept_sizes = np.unique(groups[in_class & ~held_out], return_counts=True)[1]
        if len(kept_sizes) > 1:  # the last one is always kept
            assert all(abs(num_held_out + size - target) >= abs(num_held_out - target) for size in kept_sizes)


@pytest.mark.parametrize("seed", range(10))
def test_one_person_with_many_faces_does_not_fill_a_split(seed: int) -> None:
    groups = np.concatenate([np.zeros(90, np.int64), np.arange(1, 31)])
    assert hold_out(np.zeros(120, np.int64), groups, fraction=0.2, seed=[seed]).sum() == 24


@given(
    drawn=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), min_size=1, max_size=40),
    fractions=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    seed=st.integers(0, 99),
)
@settings(max_examples=200)
def test_a_class_of_three_persons_has_one_in_each_of_three_splits(
    drawn: list[tuple[int, int, bool]], fractions: tuple[float, float], seed: int
) -> None:
    """A person marked as partly known has one more, partly known face."""
    strata = np.concatenate([[stratum] * number + [-1] * partly for stratum, number, partly in drawn]).astype(np.int64)
    groups = np.repeat(np.arange(len(drawn)), [number + partly for _, number, partly in drawn])
    test = hold_out(strata, groups, fraction=fractions[0], seed=[seed], keep=2)
    rest = np.flatnonzero(~test)
    validation = rest[hold_out(strata[rest], groups[rest], fraction=fractions[1], seed=[seed])]
    for stratum in set(strata[strata >= 0]):
        persons = [partly for person_class, _, partly in drawn if person_class == stratum]
        if len(persons) >= 3 and persons.count(False) >= 2:
            num_test, num_validation = (strata[test] == stratum).sum(), (strata[validation] == stratum).sum()
            assert num_test > 0
            assert num_validation > 0
            assert (strata == stratum).sum() > num_test + num_validation


def test_folds_keep_groups_whole_and_strata_in_proportion() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(150), 2)
    strata = np.repeat(rng.choice(3, size=150, p=[0.6, 0.3, 0.1]), 2)
    folds = assign_folds(strata, groups, num_folds=5, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in range(150))
    for stratum in range(3):
        shares = np.bincount(folds[strata == stratum], minlength=5) / (strata == stratum).sum()
        assert np.abs(shares - 0.2).max() < 0.08
    assert (folds == assign_folds(strata, groups, num_folds=5, seed=1)).all()
    assert (folds != assign_folds(strata, groups, num_folds=5, seed=2)).any()


def test_fewer_people_than_folds_are_refused() -> None:
    with pytest.raises(FaceTableError, match="2 people with labeled training faces cannot be split into 3 folds"):
        assign_folds(np.zeros(8, np.int64), np.repeat([0, 1], 4), num_folds=3, seed=0)
