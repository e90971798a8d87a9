"""Each strategy equals a slow reference on random faces, and properties that all of them share."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from ssl_pipeline.config.selection import SelectionConfig
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.pseudo_labels.criteria import vote_disagreement
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned, alignment_ratio, class_prior
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import Selection, face_weights, select
from tests.pseudo_labels import slow_selection as slow
from tests.pseudo_labels.test_manifest import SPACE

ALL: list[dict[str, Any]] = [
    {"type": "fixed_threshold", "confidence_threshold": 0.6},
    {"type": "balanced_top_k", "k": 4},
    {"type": "percentile_curriculum", "step_percent": 30},
    {"type": "self_adaptive"},
    {"type": "gaussian_weights", "min_weight": 0.3},
    {"type": "ensemble_agreement", "confidence_threshold": 0.5, "max_deviation": 0.08},
    {"type": "precision_guarantee", "target": 0.6, "delta": 0.2, "num_thresholds": 4},
]


def config_of(settings: dict[str, Any], **more: Any) -> Any:
    return TypeAdapter(SelectionConfig).validate_python({**settings, **more})


class Case:
    """Random, partly known faces; members that scatter around their mean; held-out faces; a random order of ids."""

    def __init__(self, seed: int, *, num_faces: int = 40, num_held_out: int = 120, partly_known: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.members = rng.dirichlet(np.full(6, 3.0), (3, num_faces)) * 0.3
        self.members = self.members + 0.7 * rng.dirichlet(np.full(6, 0.4), num_faces)
        self.probabilities = self.members.mean(axis=0)
        unknown = [[UNKNOWN, UNKNOWN]]
        some = [*unknown * 3, [0, UNKNOWN], [UNKNOWN, 2], [1, 1]] if partly_known else unknown
        self.known = np.array(some)[rng.integers(0, len(some), num_faces)]
        self.ids = [f"face-{number:03d}" for number in rng.permutation(num_faces)]
        rows = rng.dirichlet(np.full(6, 0.4), num_held_out)
        classes = [rng.choice(6, p=row) for row in rows]
        self.held_out = HeldOutFaces(rows, SPACE.class_codes[classes], np.arange(num_held_out))
        self.training_codes = SPACE.class_codes[rng.integers(0, 6, 30)]

    def select(self, config: Any, *, order: Any = slice(None), round_index: int = 1) -> Selection:
        return select(
            self.probabilities[order],
            self.known[order],
            labels=SPACE,
            config=config,
            image_ids=np.array(self.ids, dtype=object)[order].tolist(),
            round_index=round_index,
            held_out=self.held_out,
            members=self.members[:, order],
            training_codes=self.training_codes,
        )

    def check(self, settings: dict[str, Any], rule: Any, *, round_index: int = 1) -> Selection:
        """Compare with the reference, per class and per attribute; returns the last selection."""
        for per in ("class", "attribute"):
            selection = self.select(config_of(settings, per=per), round_index=round_index)
            accepted, weights = slow.decisions(self.probabilities.tolist(), self.known.tolist(), per, rule)
            assert selection.accepted.tolist() == accepted
            np.testing.assert_allclose(selection.weights, weights, atol=1e-9)
        return selection


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("round_index", [1, 2, 3, 4])
def test_a_curriculum_accepts_the_most_confident_share_of_its_round(seed: int, round_index: int) -> None:
    case = Case(seed)
    case.check(
        {"type": "percentile_curriculum", "step_percent": 30},
        lambda probabilities, _: slow.curriculum(probabilities, case.ids, round_index, 30),
        round_index=round_index,
    )


@pytest.mark.parametrize("seed", range(20))
def test_self_adaptive_thresholds_are_the_mean_confidence_times_the_relative_mean_probability(seed: int) -> None:
    Case(seed).check({"type": "self_adaptive"}, lambda probabilities, _: slow.self_adaptive(probabilities))


@pytest.mark.parametrize("seed", range(20))
def test_gaussian_weights_fall_below_the_mean_confidence(seed: int) -> None:
    case = Case(seed)
    selection = case.check(
        {"type": "gaussian_weights", "min_weight": 0.3}, lambda probabilities, _: slow.gaussian(probabilities, 0.3)
    )
    assert ((selection.weights > 0) == selection.accepted).all()
    assert 0.3 <= selection.weights[selection.accepted].min() < selection.weights.max() == 1
    expected = face_weights(selection.weights, selection.accepted, selection.known)
    assert (selection.face_weights == expected).all()


@pytest.mark.parametrize("seed", range(20))
def test_ensemble_agreement_requires_confidence_and_a_small_deviation(seed: int) -> None:
    case = Case(seed)

    def rule(probabilities: slow.Probabilities, position: int | None) -> slow.Decisions:
        per = "class" if position is None else "attribute"
        members = [
            slow.unlabeled_probabilities(one.tolist(), case.known.tolist(), per)[position or 0] for one in case.members
        ]
        return slow.agreement(probabilities, members, 0.5, 0.08)

    case.check({"type": "ensemble_agreement", "confidence_threshold": 0.5, "max_deviation": 0.08}, rule)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("familywise", [False, True])
def test_a_guaranteed_threshold_is_the_lowest_that_the_held_out_faces_allow(seed: int, familywise: bool) -> None:
    case = Case(seed, num_held_out=300)
    settings = {"type": "precision_guarantee", "target": 0.6, "delta": 0.2, "num_thresholds": 5}

    def rule(probabilities: slow.Probabilities, position: int | None) -> slow.Decisions:
        result: slow.Decisions = {}
        per = "class" if position is None else "attribute"
        patterns = {face: tuple(code != UNKNOWN for code in case.known[face]) for face in probabilities}
        values = [6] if per == "class" else [2, 3]
        patterns_of = [
            {tuple(code != UNKNOWN for code in case.known[face]) for face in rows}
            for rows in slow.unlabeled_probabilities(case.probabilities.tolist(), case.known.tolist(), per)
        ]
        guarantees = sum(number * len(seen) for number, seen in zip(values, patterns_of, strict=True))
        for pattern in set(patterns.values()):
            held_out = []
            for row, codes in zip(case.held_out.probabilities.tolist(), case.held_out.codes.tolist(), strict=True):
                posterior = slow.inside(row, [c if known else UNKNOWN for c, known in zip(codes, pattern, strict=True)])
                value, confidence = slow.best(posterior if position is None else slow.marginal(posterior, position))
                truth = codes[0] * 3 + codes[1] if position is None else codes[position]
                held_out.append((value, confidence, value == truth))
            faces = [face for face in probabilities if patterns[face] == pattern]
            pool = [slow.best(probabilities[face]) for face in faces]
            delta = 0.2 / guarantees if familywise else 0.2
            thresholds = slow.guaranteed(pool, held_out, target=0.6, delta=delta, grid=5)
            for face, (value, confidence) in zip(faces, pool, strict=True):
                threshold = thresholds[value]
                result[face] = (threshold is not None and confidence >= threshold, 1.0)
        return result

    case.check({**settings, "familywise": familywise}, rule)


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
@pytest.mark.parametrize("per", ["class", "attribute"])
@pytest.mark.parametrize("align", ["none", "training"])
def test_the_order_of_the_faces_never_matters(settings: dict[str, Any], per: str, align: str) -> None:
    case, config = Case(7, num_faces=200), config_of(settings, per=per, align=align)
    order = np.random.default_rng(1).permutation(200)
    straight, shuffled = case.select(config), case.select(config, order=order)
    assert straight.accepted.any() and not straight.accepted.all()
    for name in ("accepted", "weights", "reasons", "class_ids", "attribute_codes", "probabilities", "face_weights"):
        assert (getattr(straight, name)[order] == getattr(shuffled, name)).all(), name
    assert straight.thresholds == shuffled.thresholds


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
@pytest.mark.parametrize("per", ["class", "attribute"])
def test_human_labels_never_change_and_nothing_known_is_accepted(settings: dict[str, Any], per: str) -> None:
    case = Case(3, num_faces=200)
    for align in ("none", "training"):
        selection = case.select(config_of(settings, per=per, align=align))
        known = case.known != UNKNOWN
        assert (selection.attribute_codes[known] == case.known[known]).all()
        assert not selection.accepted[known].any() and (selection.reasons[known] == "known").all()
        assert (selection.probabilities[~SPACE.candidates(case.known)] == 0).all()


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
@pytest.mark.parametrize("per", ["class", "attribute"])
def test_the_threshold_rows_add_up_to_the_accepted_labels(settings: dict[str, Any], per: str) -> None:
    selection = Case(5, num_faces=200).select(config_of(settings, per=per))
    rows = selection.thresholds
    if per == "class":
        assert {row.attribute for row in rows} == {"class"}
        assert sum(row.num_accepted for row in rows) == selection.accepted.any(axis=1).sum()
        assert sum(row.num_candidates for row in rows) == (~selection.known.all(axis=1)).sum()
        return
    for position, name in enumerate(SPACE.names):
        attribute_rows = [row for row in rows if row.attribute == name]
        assert sum(row.num_accepted for row in attribute_rows) == selection.accepted[:, position].sum()
        assert sum(row.num_candidates for row in attribute_rows) == (~selection.known[:, position]).sum()


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
@pytest.mark.parametrize("per", ["class", "attribute"])
def test_an_empty_or_fully_known_pool_selects_nothing(settings: dict[str, Any], per: str) -> None:
    case, config = Case(0), config_of(settings, per=per)
    assert case.select(config, order=[]).accepted.shape == (0, 2)
    case.known = np.ones_like(case.known)
    assert not case.select(config).accepted.any() and case.select(config).accepted_faces.all()


def test_held_out_faces_measure_a_fixed_threshold() -> None:
    case = Case(2, partly_known=False)
    selection = case.select(config_of(ALL[0]))
    row = next(row for row in selection.thresholds if row.value == "female")
    gender = case.held_out.probabilities[:, 3:].sum(axis=1)
    sure = gender >= 0.6
    assert (row.num_held_out, row.num_correct) == (sure.sum(), (sure & (case.held_out.codes[:, 0] == 1)).sum())
    assert row.bound_confidence == pytest.approx(0.9) and row.lower_bound < row.num_correct / row.num_held_out


def test_the_threshold_of_a_rank_is_the_confidence_of_its_last_face() -> None:
    case = Case(4, partly_known=False)
    selection = case.select(config_of({"type": "balanced_top_k", "k": 5}))
    for row in selection.thresholds:
        position = SPACE.names.index(row.attribute)
        value = SPACE.attributes[position].values.index(row.value)
        kept = selection.accepted[:, position] & (selection.attribute_codes[:, position] == value)
        assert row.num_accepted == kept.sum() == min(5, row.num_candidates)
        assert row.threshold == (selection.attribute_confidence[kept, position].min() if kept.any() else None)


def test_alignment_moves_the_mean_prediction_toward_the_class_prior() -> None:
    rng = np.random.default_rng(0)
    pool, codes = rng.dirichlet([4, 1, 1, 1, 1, 1], 500), SPACE.class_codes[rng.integers(0, 6, 60)]
    prior = class_prior(codes, SPACE)
    slow_prior = [(1 + sum(tuple(c) == divmod(k, 3) for c in codes.tolist())) / (60 + 6) for k in range(6)]
    np.testing.assert_allclose(prior, slow_prior)
    moved = aligned(pool, alignment_ratio(pool, prior))
    for face in (0, 17):
        scaled = [p * target / mean for p, target, mean in zip(pool[face], prior, pool.mean(axis=0), strict=True)]
        np.testing.assert_allclose(moved[face], np.array(scaled) / sum(scaled))
    assert np.abs(moved.mean(axis=0) - prior).sum() < 0.5 * np.abs(pool.mean(axis=0) - prior).sum()
    np.testing.assert_allclose(
        class_prior(np.array([[1, UNKNOWN]]), SPACE), np.array([1, 1, 1, 4 / 3, 4 / 3, 4 / 3]) / 7
    )


@pytest.mark.parametrize("align", ["training", "validation"])
def test_select_aligns_before_it_accepts(align: str) -> None:
    case = Case(1)
    codes = case.training_codes if align == "training" else case.held_out.codes
    ratio = alignment_ratio(case.probabilities, class_prior(codes, SPACE))
    by_hand = SPACE.condition(aligned(case.probabilities, ratio), case.known)
    selection = case.select(config_of(ALL[0], align=align))
    np.testing.assert_allclose(selection.probabilities, by_hand)
    assert not np.allclose(selection.probabilities, case.select(config_of(ALL[0])).probabilities)


def test_held_out_faces_are_aligned_like_the_pool() -> None:
    case = Case(1, partly_known=False)
    ratio = alignment_ratio(case.probabilities, class_prior(case.training_codes, SPACE))
    moved = aligned(case.held_out.probabilities, ratio)
    row = next(row for row in case.select(config_of(ALL[0], align="training")).thresholds if row.value == "female")
    assert row.num_held_out == (moved[:, 3:].sum(axis=1) >= 0.6).sum()
    assert row.num_held_out != (case.held_out.probabilities[:, 3:].sum(axis=1) >= 0.6).sum()


def test_the_weight_of_a_face_is_the_mean_over_its_labels() -> None:
    weights = np.array([[0.5, 0.0], [0.5, 0.25], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
    accepted = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [0, 0]], dtype=bool)
    known = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 1]], dtype=bool)
    assert face_weights(weights, accepted, known).tolist() == [0.5, 0.375, 0.75, 0.0, 1.0]


def test_equal_confidences_all_have_weight_one() -> None:
    case = Case(0, num_faces=3, partly_known=False)
    case.probabilities = np.tile([0.7, 0.1, 0.1, 0.1, 0.0, 0.0], (3, 1))
    assert (case.select(config_of({"type": "gaussian_weights"})).weights == 1).all()


def test_the_vote_disagreement_is_the_sample_deviation_and_needs_two_members() -> None:
    members = np.array([[[0.9, 0.1]], [[0.7, 0.3]]])
    assert vote_disagreement(members, np.array([0]))[0] == pytest.approx(np.sqrt(0.02), abs=1e-7)
    with pytest.raises(ValueError, match="at least 2 members, got 1"):
        vote_disagreement(members[:1], np.array([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"type": "precision_guarantee"},
            r"precision_guarantee needs labeled faces .* there are none",
        ),
        ({"type": "ensemble_agreement"}, r"at least two views or teachers, got 0; --set selection\.type"),
        ({"type": "self_adaptive", "align": "training"}, r"align training .* --set selection\.align=none"),
        ({"type": "self_adaptive", "align": "validation"}, r"align validation .* --set selection\.align=none"),
    ],
)
def test_a_strategy_without_a_required_input_is_refused(settings: dict[str, Any], message: str) -> None:
    case = Case(0)
    with pytest.raises(SelectionError, match=message):
        select(case.probabilities, case.known, labels=SPACE, config=config_of(settings), image_ids=case.ids)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda case: {"held_out": replace(case.held_out, probabilities=case.held_out.probabilities[:, :5])},
            r"got \[120, 5\] and",
        ),
        (
            lambda case: {"held_out": replace(case.held_out, codes=case.held_out.codes[:9])},
            r"and \[9, 2\]",
        ),
        (
            lambda case: {"held_out": replace(case.held_out, probabilities=case.held_out.probabilities * 2)},
            "120 rows of held-out probabilities are no",
        ),
        (lambda case: {"members": case.members[:, :9]}, r"members must be \[T, 40, 6\], got \[3, 9, 6\]"),
        (lambda case: {"members": case.members - 1}, "40 rows of member probabilities are no distribution"),
    ],
)
def test_invalid_held_out_faces_and_members_are_refused(spoil: Any, message: str) -> None:
    case = Case(0)
    arrays = {"held_out": case.held_out, "members": case.members, **spoil(case)}
    with pytest.raises(ValueError, match=message):
        select(case.probabilities, case.known, labels=SPACE, config=config_of(ALL[0]), image_ids=case.ids, **arrays)


def test_reasons_contain_the_compared_numbers() -> None:
    case = Case(0, num_faces=100, partly_known=False)

    def reasons(settings: dict[str, Any]) -> str:
        return "\n".join(case.select(config_of(settings)).reasons.ravel().tolist())

    for settings, pattern in (
        ({"type": "percentile_curriculum"}, "rank 20 <= 20 in round 1, of 100"),
        ({"type": "gaussian_weights", "min_weight": 0.5}, "weight 1 >= 0.5"),
        ({"type": "ensemble_agreement", "max_deviation": 0.03}, "> 0.03"),
        ({"type": "precision_guarantee", "target": 0.999}, "no guarantee for female: "),
    ):
        assert pattern in reasons(settings)
