"""Draws of the pool by resemblance to the labeled faces."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from ssl_pipeline.evaluation.resemblance import balance_classes, draws_by_odds, labeled_log_odds


def two_populations(num_far: int, num_near: int, num_labeled: int) -> tuple[np.ndarray, np.ndarray]:
    """A pool of far faces, then near ones; labeled faces of the near population."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(num_near + num_labeled, 8)), rng.normal(size=(num_far, 8)) + 1
    pool = np.concatenate([far, near[:num_near]])
    return pool.astype(np.float32), near[num_near:].astype(np.float32)


def test_faces_of_the_labeled_population_have_higher_odds() -> None:
    pool, labeled = two_populations(500, 50, 100)
    log_odds = labeled_log_odds(pool, labeled, units=np.arange(650), seed=0)
    assert roc_auc_score(np.arange(550) >= 500, log_odds) > 0.95


def test_no_face_is_judged_by_a_classifier_that_saw_it_or_its_person() -> None:
    """Against a leave-one-fold-out reference; copies of a labeled face in the pool stay in its fold."""
    pool, labeled = two_populations(60, 20, 40)
    units = np.concatenate([np.arange(80), np.arange(40)])  # labeled face k is the person of pool face k
    log_odds = labeled_log_odds(pool, labeled, units=units, seed=3)
    features, is_labeled = np.concatenate([pool, labeled]), np.arange(120) >= 80

    def reference(train: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(features[train])
        model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        model.fit(scaler.transform(features[train]), is_labeled[train])
        return model.decision_function(scaler.transform(pool))

    everything = reference(np.full(120, True))
    assert not np.isclose(log_odds, everything, rtol=1e-3).any()


def test_few_faces_have_no_odds() -> None:
    pool, labeled = two_populations(30, 5, 3)
    assert (labeled_log_odds(pool, labeled, units=np.arange(38), seed=0) == 0).all()


@pytest.mark.parametrize("min_effective_share", [0.1, 0.3, 0.9])
def test_the_exponent_is_the_largest_that_keeps_the_effective_share(min_effective_share: float) -> None:
    log_odds = np.random.default_rng(1).normal(scale=3, size=2000)
    draws = draws_by_odds(log_odds, min_effective_share=min_effective_share)
    weights = np.exp(draws.exponent * log_odds)
    assert draws.effective_share == pytest.approx(weights.sum() ** 2 / (weights**2).sum() / 2000)
    assert draws.effective_share == pytest.approx(min_effective_share, abs=1e-6)
    np.testing.assert_allclose(draws.weights, weights / weights.mean())


def test_like_sets_keep_their_odds_and_one_draws_all_equally() -> None:
    log_odds = np.random.default_rng(2).normal(scale=0.1, size=500)
    assert draws_by_odds(log_odds, min_effective_share=0.5).exponent == 1
    assert draws_by_odds(log_odds, min_effective_share=1.0).weights == pytest.approx(np.ones(500), abs=1e-3)


def test_balanced_draws_have_equal_shares_of_certain_classes_and_exponent_0_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    draws = rng.uniform(0.1, 2, size=300)
    classes = rng.choice(3, size=300, p=[0.7, 0.25, 0.05])
    balanced = balance_classes(draws, np.eye(3)[classes], exponent=1.0)
    np.testing.assert_allclose([balanced[classes == c].sum() for c in range(3)], 100)
    np.testing.assert_allclose(balance_classes(draws, np.eye(3)[classes], exponent=0.0), draws / draws.mean())


def test_an_uncertain_face_counts_for_its_classes_in_part() -> None:
    """Against the sum written out, and between the certain faces of a common and of a rare class."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    draws = np.array([1.0, 2.0, 1.0, 0.5])
    shares = [sum(d * p[c] for d, p in zip(draws, probabilities, strict=True)) / draws.sum() for c in range(2)]
    expected = np.array(
        [d * sum(p[c] / shares[c] ** 0.5 for c in range(2)) for d, p in zip(draws, probabilities, strict=True)]
    )
    weights = balance_classes(draws, probabilities, exponent=0.5)
    np.testing.assert_allclose(weights, expected / expected.mean())
    per_draw = weights / draws
    assert per_draw[0] == pytest.approx(per_draw[1]) and per_draw[0] < per_draw[2] < per_draw[3]
