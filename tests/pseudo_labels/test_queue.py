"""Queues against a slow reference: uncertainty and clusters; the same seed gives the same faces."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.queue import choose, uncertainty

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def examples(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(4, 5)) * 3
    features = centers[rng.integers(4, size=number)] + rng.normal(size=(number, 5))
    return rng.dirichlet(np.full(6, 0.5), size=number), rng.random((number, 2)) < 0.3, features


def slow_uncertainty(probabilities: np.ndarray, known: np.ndarray, members: list[np.ndarray]) -> list[float]:
    scores = []
    for face in range(len(probabilities)):
        unsure = []
        for position in range(2):
            if known[face, position]:
                continue

            def marginal(row: np.ndarray, position: int = position) -> list[float]:
                values = [0.0] * (2, 3)[position]
                for class_id, codes in enumerate(SPACE.class_codes.tolist()):
                    values[codes[position]] += row[class_id]
                return values

            second, first = sorted(marginal(probabilities[face]))[-2:]
            score = 1 - (first - second)
            if members:
                own = [marginal(member[face]) for member in members]
                mean = [sum(column) / len(own) for column in zip(*own, strict=True)]
                apart = [sum(abs(a - b) for a, b in zip(row, mean, strict=True)) / 2 for row in own]
                score = (score + sum(apart) / len(apart)) / 2
            unsure.append(score)
        scores.append(sum(unsure) / len(unsure) if unsure else 0.0)
    return scores


@pytest.mark.parametrize("num_members", [0, 3])
def test_uncertainty_is_that_of_a_slow_reference(num_members: int) -> None:
    probabilities, known, _ = examples(60)
    known[0] = True
    members = [examples(60, seed)[0] for seed in range(1, num_members + 1)]
    stacked = np.stack(members) if members else None
    scores = uncertainty(probabilities, SPACE, known=known, members=stacked)
    np.testing.assert_allclose(scores, slow_uncertainty(probabilities, known, members), atol=1e-9)
    assert scores[0] == 0
    assert 0 <= scores.min() <= scores.max() <= 1


def slow_clusters(number: int, scores: np.ndarray, features: np.ndarray, seed: int) -> list[int]:
    """Take turns over the clusters, the largest first: the least sure of what is left."""
    points = [row / np.sqrt(sum(row * row)) for row in features]
    means = KMeans(number, n_init=1, random_state=seed).fit(np.array(points))
    clusters = [[face for face in range(len(points)) if means.labels_[face] == cluster] for cluster in range(number)]
    waiting = []
    for members in sorted(clusters, key=lambda members: -len(members)):
        waiting.append(sorted(members, key=lambda face: -scores[face]))
    chosen: list[int] = []
    while len(chosen) < number:
        for members in waiting:
            if members and len(chosen) < number:
                chosen.append(members.pop(0))
    return chosen


@pytest.mark.parametrize("number", [1, 7, 25])
def test_clusters_are_those_of_a_slow_reference(number: int) -> None:
    probabilities, known, features = examples(80)
    scores = uncertainty(probabilities, SPACE, known=known)
    queue = choose(number, by="clusters", scores=scores, features=features, seed=3)
    assert queue.positions.tolist() == slow_clusters(number, scores, features, 3)
    assert len(set(queue.positions.tolist())) == len(set(queue.clusters.tolist())) == number
    assert queue.sizes.tolist() == sorted(queue.sizes.tolist(), reverse=True)


def test_copies_of_one_face_fill_fewer_clusters_and_no_face_comes_twice() -> None:
    features = np.repeat(np.eye(2), 10, axis=0)
    queue = choose(8, by="clusters", scores=np.linspace(0, 1, 20), features=features)
    assert len(set(queue.positions.tolist())) == 8


def test_the_least_sure_come_first() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.9])
    assert choose(3, by="uncertainty", scores=scores).positions.tolist() == [1, 3, 2]


@pytest.mark.parametrize("by", ["random", "uncertainty", "clusters"])
def test_a_seed_gives_the_same_faces_and_few_candidates_are_all_chosen(by: str) -> None:
    probabilities, known, features = examples(30)
    scores = uncertainty(probabilities, SPACE, known=known)
    one, two = (choose(10, by=by, scores=scores, features=features, seed=5) for _ in range(2))  # type: ignore[arg-type]
    assert one.positions.tolist() == two.positions.tolist()
    everyone = choose(50, by=by, scores=scores, features=features)  # type: ignore[arg-type]
    assert sorted(everyone.positions.tolist()) == list(range(30))
    nobody = choose(5, by=by, scores=scores[:0], features=features[:0])  # type: ignore[arg-type]
    assert len(nobody.positions) == 0


def test_random_depends_on_the_seed_alone() -> None:
    first, second = (choose(20, by="random", scores=np.zeros(100), seed=seed).positions for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert first.tolist() == choose(20, by="random", scores=np.ones(100)).positions.tolist()
