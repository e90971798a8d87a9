"""Paired bootstrap against a loop over persons scored like scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from ssl_pipeline.evaluation.paired_bootstrap import paired_bootstrap


def faces(num_faces: int = 120, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions of a worse and of a better model, and person ids with one or more faces each."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, num_faces)
    first = np.where(rng.random(num_faces) < 0.5, truth, rng.integers(0, 4, num_faces))
    second = np.where(rng.random(num_faces) < 0.8, truth, rng.integers(0, 4, num_faces))
    return truth, first, second, rng.integers(0, 50, num_faces)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_a_difference_and_its_interval_equal_a_loop_over_persons(metric: str) -> None:
    truth, first, second, persons = faces()

    def score(predicted: np.ndarray, rows: np.ndarray) -> float:
        right, guess = truth[rows], predicted[rows]
        if metric == "accuracy":
            return float((right == guess).mean())
        values = np.unique(right)
        return float(
            np.mean(
                [2 * ((right == v) & (guess == v)).sum() / ((right == v).sum() + (guess == v).sum()) for v in values]
            )
        )

    reference = accuracy_score(truth, first) if metric == "accuracy" else f1_score(truth, first, average="macro")
    assert score(first, np.arange(len(truth))) == pytest.approx(reference)
    rng, everyone = np.random.default_rng(7), np.unique(persons)
    rows_of = {person: np.flatnonzero(persons == person) for person in everyone}
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([rows_of[person] for person in rng.choice(everyone, len(everyone))])
        drawn.append(score(second, rows) - score(first, rows))
    result = paired_bootstrap(truth, first, second, persons, num_classes=4, metric=metric)
    rows = np.arange(len(truth))
    assert result.difference == pytest.approx(score(second, rows) - score(first, rows))
    assert (result.lower, result.upper) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)
    assert result.num_units == len(everyone)
    assert result.probability > 0.99


def test_the_interval_covers_the_true_difference_at_its_nominal_rate() -> None:
    rng, covered = np.random.default_rng(3), 0
    for draw in range(200):
        truth = rng.integers(0, 3, 150)
        models = [np.where(rng.random(150) < right, truth, (truth + 1) % 3) for right in (0.6, 0.7)]
        result = paired_bootstrap(
            truth, *models, np.arange(150), num_classes=3, metric="accuracy", num_draws=400, seed=draw
        )
        covered += result.lower <= 0.1 <= result.upper
    assert 0.90 <= covered / 200 <= 0.99


def test_equal_models_have_probability_one_half_and_swapping_models_mirrors_the_result() -> None:
    truth, first, second, persons = faces()
    same = paired_bootstrap(truth, first, first, persons, num_classes=4)
    assert (same.difference, same.lower, same.upper, same.probability) == (0.0, 0.0, 0.0, 0.5)
    forward = paired_bootstrap(truth, first, second, persons, num_classes=4)
    backward = paired_bootstrap(truth, second, first, persons, num_classes=4)
    assert backward.difference == pytest.approx(-forward.difference)
    assert backward.probability == pytest.approx(1 - forward.probability)


def test_many_images_of_one_person_count_as_one_person() -> None:
    truth = np.zeros(100, dtype=np.int64)
    truth[50:] = 1
    first, second = truth.copy(), truth.copy()
    first[:30] = 1  # thirty faces that only the second model gets right
    separate = paired_bootstrap(truth, first, second, np.arange(100), num_classes=2, metric="accuracy")
    one_person = np.arange(100)
    one_person[:30] = 0
    together = paired_bootstrap(truth, first, second, one_person, num_classes=2, metric="accuracy")
    assert separate.lower > 0.15
    assert together.lower == 0.0  # a third of the draws do not contain that person


def test_no_faces_or_an_unknown_metric_are_refused() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="at least one face"):
        paired_bootstrap(nothing, nothing, nothing, nothing, num_classes=2)
    with pytest.raises(ValueError, match="expected macro_f1 or accuracy, got 'f2'"):
        paired_bootstrap(*faces(), num_classes=4, metric="f2")
