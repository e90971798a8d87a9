"""The map's coordinates, the nearest labeled faces by brute force, and the interval of one model's score."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ssl_pipeline.evaluation.paired_bootstrap import bootstrap_interval
from ssl_pipeline.evaluation.projection import nearest, project


def test_the_first_component_separates_what_differs_most() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    features[:30] += 10
    plane, method = project(features)
    assert method == "PCA" and plane.min() >= 0 and plane.max() <= 1
    sides = plane[:30, 0].mean() < plane[30:, 0].mean()
    left, right = (plane[:30, 0], plane[30:, 0]) if sides else (plane[30:, 0], plane[:30, 0])
    assert left.max() < right.min()


def test_umap_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    reducer = SimpleNamespace(fit_transform=lambda features: features[:, :2])
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=lambda **_: reducer))
    assert project(np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))[1] == "UMAP"


def test_the_nearest_are_those_of_a_brute_force_search() -> None:
    rng = np.random.default_rng(0)
    features, references = (rng.normal(size=(number, 6)).astype(np.float32) for number in (2100, 40))
    positions, distances = nearest(features, references, num=3)
    mean, std = references.mean(axis=0), references.std(axis=0)
    for row in (0, 2047, 2048, 2099):
        own = (features[row] - mean) / std
        all_distances = [
            1 - own @ other / np.linalg.norm(own) / np.linalg.norm(other) for other in (references - mean) / std
        ]
        assert positions[row].tolist() == np.argsort(all_distances)[:3].tolist()
        np.testing.assert_allclose(distances[row], np.sort(all_distances)[:3], atol=1e-4)


def test_the_interval_of_one_model_is_that_of_a_plain_bootstrap_over_units() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 120)
    predicted = np.where(rng.random(120) < 0.7, truth, rng.integers(0, 3, 120))
    units = np.arange(120) // 2
    lower, upper = bootstrap_interval(truth, predicted, units, num_classes=3)
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([[2 * unit, 2 * unit + 1] for unit in rng.integers(0, 60, 60)])
        drawn.append(f1_score(truth[rows], predicted[rows], average="macro"))
    np.testing.assert_allclose((lower, upper), np.quantile(drawn, [0.025, 0.975]), atol=0.015)
