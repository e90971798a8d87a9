"""Scores of labels against slow implementations of the paper's formulas, and contradicting copies."""

import numpy as np
import pytest

from ssl_pipeline.evaluation.label_errors import (
    confident_joint,
    contradicting_copies,
    estimate_joint,
    prune_by_noise_rate,
    score_labels,
)


def noisy(seed: int, num: int = 300, num_values: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_values, num)
    logits = rng.normal(0, 1, (num, num_values)) + 2 * np.eye(num_values)[truth]
    labels = np.where(rng.random(num) < 0.2, rng.integers(0, num_values, num), truth)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def slow_joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Equation 1, face by face."""
    num_values = probabilities.shape[1]
    joint = np.zeros((num_values, num_values), int)
    thresholds = {}
    for value in range(num_values):
        own = [row[value] for row, label in zip(probabilities, labels, strict=True) if label == value]
        if own:
            thresholds[value] = sum(own) / len(own)
    for row, label in zip(probabilities, labels, strict=True):
        sure = [value for value, threshold in thresholds.items() if row[value] >= threshold]
        if sure:
            joint[label, max(sure, key=lambda value: row[value])] += 1
    return joint


@pytest.mark.parametrize("seed", range(3))
def test_the_joint_is_that_of_the_paper(seed: int) -> None:
    probabilities, labels = noisy(seed)
    expected = slow_joint(probabilities, labels)
    assert expected.sum() > 100 and (expected - np.diag(np.diag(expected))).sum() > 10
    np.testing.assert_array_equal(confident_joint(probabilities, labels), expected)
    joint = estimate_joint(probabilities, labels)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(labels) / len(labels))
    np.testing.assert_allclose(joint / joint.sum(axis=1, keepdims=True), expected / expected.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_as_many_are_pruned_per_pair_of_values_as_the_joint_expects(seed: int) -> None:
    probabilities, labels = noisy(seed)
    expected = set()
    counts = len(labels) * estimate_joint(probabilities, labels)
    for label in range(4):
        for value in set(range(4)) - {label}:
            faces = [face for face in range(len(labels)) if labels[face] == label]
            faces.sort(key=lambda face: probabilities[face, label] - probabilities[face, value])
            expected |= set(faces[: round(counts[label, value])])
    doubted = {face for face in expected if probabilities[face].argmax() != labels[face]}
    assert set(np.flatnonzero(prune_by_noise_rate(probabilities, labels))) == doubted


def test_scores_are_those_of_their_formulas_and_small_for_wrong_labels() -> None:
    probabilities, labels = noisy(3)
    self_confidence, margin = [], []
    for row, label in zip(probabilities, labels, strict=True):
        others = [p for value, p in enumerate(row) if value != label]
        self_confidence.append(row[label])
        margin.append((row[label] - max(others) + 1) / 2)
    np.testing.assert_allclose(score_labels(probabilities, labels, score="self_confidence"), self_confidence)
    np.testing.assert_allclose(score_labels(probabilities, labels, score="normalized_margin"), margin)
    pruned, scores = (
        prune_by_noise_rate(probabilities, labels),
        score_labels(probabilities, labels, score="confident_joint"),
    )
    assert pruned.any() and scores[pruned].max() < 0.5 <= scores[~pruned].min()
    np.testing.assert_allclose(scores[pruned], np.array(margin)[pruned] / 2)


def test_a_value_without_faces_and_a_single_value_do_no_harm() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]])
    labels = np.array([0, 0, 0])
    assert confident_joint(probabilities, labels)[:, 1:].sum() == 0
    assert not prune_by_noise_rate(probabilities, labels).any()
    assert estimate_joint(probabilities, labels).sum() == pytest.approx(1)


def test_the_label_of_most_copies_is_likely_then_the_more_probable_one() -> None:
    pictures = ["a", "a", "a", "b", "b", "c", "c", "d", "e", "e"]
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, -1, 0])
    probabilities = np.tile([0.5, 0.5], (10, 1))
    probabilities[3:5] = [0.9, 0.1]
    likely, copies = contradicting_copies(pictures, labels, probabilities)
    assert likely.tolist() == [1, -1, -1, -1, 0, -1, -1, -1, -1, -1]
    assert copies.tolist() == [1, -1, -1, -1, 3, -1, -1, -1, -1, -1]
