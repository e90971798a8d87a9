"""The precision guarantee: bound, grid, order of tests, and how often it is broken where the truth is known."""

import math

import numpy as np
import pytest

from benchmarks.precision_guarantee import TEACHERS, simulate
from ssl_pipeline.config.selection import PrecisionGuarantee
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.pseudo_labels.precision_guarantee import (
    Evidence,
    choose_threshold,
    confidence_steps,
    fixed_sequence,
    num_units_needed,
    precision_lower_bound,
    threshold_grid,
)
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces, predict_held_out
from ssl_pipeline.pseudo_labels.selection import Selection, select
from tests.pseudo_labels.slow_selection import passes_test
from tests.pseudo_labels.test_manifest import SPACE


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.3])
def test_at_the_bound_that_many_correct_or_more_have_probability_delta(delta: float) -> None:
    for num in (1, 5, 40):
        for right in range(num + 1):
            bound = float(precision_lower_bound(right, num, delta=delta))
            tail = math.fsum(math.comb(num, k) * bound**k * (1 - bound) ** (num - k) for k in range(right, num + 1))
            assert tail == pytest.approx(delta) if right else bound == 0
    assert precision_lower_bound(0, 0, delta=delta) == 0


@pytest.mark.parametrize(("target", "delta"), [(0.9, 0.1), (0.95, 0.05), (0.5, 0.25), (0.99, 0.01)])
def test_the_faces_needed_are_the_fewest_that_pass_if_all_are_correct(target: float, delta: float) -> None:
    needed = num_units_needed(target, delta)
    assert passes_test(needed, needed, target, delta + 1e-12)
    assert not passes_test(needed - 1, needed - 1, target, delta)
    assert precision_lower_bound(needed, needed, delta=delta) >= target - 1e-12


def test_the_sequence_stops_at_the_first_failure_whatever_comes_later() -> None:
    num = np.array([[30, 60, 90, 500], [30, 60, 90, 500], [3, 60, 90, 500], [30, 60, 90, 500]])
    right = np.array([[30, 60, 85, 400], [30, 40, 90, 500], [3, 60, 90, 500], [30, 60, 90, 500]])
    assert fixed_sequence(right, num, target=0.9, delta=0.1).tolist() == [1, 0, -1, 3]


def test_confidences_round_down_to_steps_also_as_float32() -> None:
    confidence = np.array([0.95, 0.94999, 1.0, 0.0, 0.12345], dtype=np.float32)
    assert confidence_steps(confidence).tolist() == [9500, 9499, 10_000, 0, 1234]
    assert confidence_steps(confidence.astype(np.float64)).tolist() == [9500, 9499, 10_000, 0, 1234]


@pytest.mark.parametrize("seed", range(5))
def test_the_grid_splits_the_pool_and_begins_where_enough_held_out_faces_are_expected(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 1, 2000).round(7)
    grid = threshold_grid(confidence, held_out_per_pool_face=0.2, num_needed=22, num_thresholds=10)
    assert (np.diff(grid) < 0).all() and len(grid) == 10
    at_least = [(confidence >= threshold).sum() for threshold in grid]
    assert 0.2 * at_least[0] == pytest.approx(2 * 22, rel=0.1)
    assert at_least[-1] == 2000
    assert np.diff(at_least) == pytest.approx((2000 - 220) / 9, rel=0.2)


def test_the_grid_begins_at_a_tenth_if_that_is_more() -> None:
    confidence = np.random.default_rng(0).random(5000)
    grid = threshold_grid(confidence, held_out_per_pool_face=1, num_needed=22, num_thresholds=4)
    assert grid == pytest.approx([0.9, 0.6, 0.3, 0.0], abs=0.02)


def test_the_grid_of_few_faces_is_short_and_of_none_empty() -> None:
    nothing, three = np.zeros(0), np.full(3, 0.9)
    assert len(threshold_grid(nothing, held_out_per_pool_face=1, num_needed=22, num_thresholds=5)) == 0
    assert threshold_grid(three, held_out_per_pool_face=1, num_needed=22, num_thresholds=5).tolist() == [0.9]
    assert threshold_grid(three, held_out_per_pool_face=0, num_needed=22, num_thresholds=1).tolist() == [0.9]


def test_correct_units_are_counted_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    confidence, right, thresholds = rng.random(50).round(2), rng.random(50) < 0.5, np.array([0.9, 0.5, 0.51, 0.0])
    num_right, num = Evidence(confidence, right, np.arange(50)).count(thresholds)
    assert num.tolist() == [(confidence >= t).sum() for t in thresholds]
    assert num_right.tolist() == [(right & (confidence >= t)).sum() for t in thresholds]


def test_a_person_counts_once_at_each_threshold_by_the_first_face_there() -> None:
    confidence = np.array([0.5, 0.9, 0.9, 0.7, 0.8])
    correct = np.array([False, True, True, True, False])
    evidence = Evidence(confidence, correct, np.array([3, 3, 3, 7, 7]))
    num_right, num = evidence.count(np.array([0.95, 0.85, 0.6, 0.0]))
    assert num.tolist() == [0, 1, 2, 2]
    assert num_right.tolist() == [0, 1, 2, 1]  # at 0 person 3 counts by the wrong face


def test_copies_of_five_pictures_prove_nothing() -> None:
    """Thirty faces would suffice for a precision of 0.9."""
    sure, grid = np.full(30, 0.95), np.array([0.9])
    copies = Evidence(sure, np.ones(30, bool), np.arange(30) // 6)
    test = choose_threshold(grid, copies, target=0.9, delta=0.1)
    assert (test.threshold, test.num_held_out) == (None, 5)
    thirty = Evidence(sure, np.ones(30, bool), np.arange(30))
    assert choose_threshold(grid, thirty, target=0.9, delta=0.1).threshold == 0.9


def test_under_strong_shift_the_guarantee_is_withheld_and_says_why() -> None:
    withheld = answered(40, 40, withheld="the pool is of another origin")
    assert not withheld.accepted.any()
    assert withheld.reasons[0, 0] == "no guarantee for male: withheld, the pool is of another origin"
    row = withheld.thresholds[0]
    assert (row.threshold, row.num_accepted, row.num_held_out, row.num_correct) == (None, 0, 40, 40)


@pytest.mark.parametrize("teacher", list(TEACHERS))
@pytest.mark.parametrize("num_values", [1, 4])
def test_the_guarantee_is_broken_no_more_often_than_delta(teacher: str, num_values: int) -> None:
    draws = 2000 // num_values
    result = simulate(TEACHERS[teacher], num_draws=draws, num_held_out=150, num_pool=400, num_values=num_values)
    assert result.num_broken <= result.most_allowed(0.1)
    assert result.num_broken_in_pool <= result.most_allowed(0.1)
    assert result.num_kept > 0
    if teacher == "calibrated":
        assert result.num_kept > 0.9 * draws and result.acceptance > 0.4  # and it accepts much


def answered(num_held_out: int, num_right: int, *, withheld: str = "", **settings: object) -> Selection:
    """Select from 100 faces predicted as men at 0.8, with held-out faces predicted alike."""
    sure = np.array([0.8, 0, 0, 0.2, 0, 0])
    truth = np.array([[0, 0]] * num_right + [[1, 0]] * (num_held_out - num_right), dtype=np.int64).reshape(-1, 2)
    config = PrecisionGuarantee.model_validate({"type": "precision_guarantee", **settings})
    return select(
        np.tile(sure, (100, 1)),
        np.full((100, 2), UNKNOWN),
        labels=SPACE,
        config=config,
        image_ids=[f"{number:03d}" for number in range(100)],
        held_out=HeldOutFaces(np.tile(sure, (num_held_out, 1)), truth, np.arange(num_held_out), withheld=withheld),
    )


def test_a_value_without_a_guarantee_gets_no_label_and_a_reason() -> None:
    kept = answered(40, 40)
    assert kept.accepted[:, 0].all()
    assert kept.reasons[0, 0] == "confidence 0.8 >= 0.8 for male"
    assert (kept.thresholds[0].threshold, kept.thresholds[0].num_held_out, kept.thresholds[0].num_correct) == (
        0.8,
        40,
        40,
    )
    too_few = answered(21, 21)
    assert not too_few.accepted[:, 0].any()
    assert too_few.reasons[0, 0] == (
        "no guarantee for male: 21 held-out persons at the first threshold 0.8000, 22 needed"
    )
    wrong = answered(40, 36)
    assert not wrong.accepted[:, 0].any()
    assert wrong.reasons[0, 0].startswith(
        "no guarantee for male: 36 of 40 held-out persons correct at 0.8000, lower bound 0."
    )
    assert [row.note for row in wrong.thresholds if row.value == "female"] == ["no candidates"]


def test_a_familywise_guarantee_needs_more_faces_of_each_value() -> None:
    assert answered(30, 30).accepted[:, 0].all()
    assert not answered(30, 30, familywise=True).accepted.any()  # δ / 5 values: 38 are needed
    assert answered(40, 40, familywise=True).accepted[:, 0].all()


def test_without_held_out_faces_nothing_is_guaranteed() -> None:
    assert not answered(0, 0).accepted.any()


def test_held_out_faces_are_conditioned_on_the_known_attributes_of_the_pool() -> None:
    rows = np.array([[0.5, 0, 0, 0.1, 0.4, 0]] * 2)
    held_out = HeldOutFaces(rows, np.array([[1, 1], [1, UNKNOWN]]), np.arange(2))
    known = np.array([[True, False], [False, False]])
    with_gender, without_gender = predict_held_out(held_out, SPACE, known, np.array([True, True]), position=1)[::-1]
    assert (with_gender.known_attributes, with_gender.pool_faces.tolist()) == ("gender", [True, False])
    assert (with_gender.predicted.tolist(), with_gender.confidence.tolist(), with_gender.correct.tolist()) == (
        [1],
        [0.8],
        [True],
    )
    assert (without_gender.known_attributes, without_gender.pool_faces.tolist()) == ("", [False, True])
    assert (without_gender.predicted.tolist(), without_gender.confidence.tolist(), without_gender.correct.tolist()) == (
        [0],
        [0.6],
        [False],
    )
    per_class = predict_held_out(held_out, SPACE, known, np.array([False, True]), position=None)
    assert [
        (answers.known_attributes, answers.predicted.tolist(), answers.correct.tolist()) for answers in per_class
    ] == [("", [0], [False])]
