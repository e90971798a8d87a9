"""Selection equals a slow reference, keeps known values, and gives reasons."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_pipeline.config.selection import BalancedTopK, FixedThreshold
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.pseudo_labels.criteria import most_probable, top_k_per_value
from ssl_pipeline.pseudo_labels.selection import Selection, select

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})

Config = FixedThreshold | BalancedTopK


def threshold(value: float = 0.95, **settings: object) -> FixedThreshold:
    return FixedThreshold.model_validate({"type": "fixed_threshold", "confidence_threshold": value, **settings})


def top_k(k: int, **settings: object) -> BalancedTopK:
    return BalancedTopK.model_validate({"type": "balanced_top_k", "k": k, **settings})


def selected(rows: list[list[float]], known: list[list[int]], config: Config, image_ids: list[str] | None = None):
    return select(
        np.array(rows, dtype=float).reshape(len(rows), SPACE.num_classes),
        np.array(known, dtype=np.int64).reshape(len(rows), 2),
        labels=SPACE,
        config=config,
        image_ids=image_ids or [f"face-{row}" for row in range(len(rows))],
    )


# Weights are whole numbers that sum to at most 240, so that no exact confidence lies halfway between two of 7 decimals.
faces = st.lists(
    st.tuples(
        st.lists(st.integers(0, 40), min_size=6, max_size=6).filter(any),
        st.integers(UNKNOWN, 1),
        st.integers(UNKNOWN, 2),
    ),
    max_size=8,
)
units = st.sampled_from(["class", "attribute"])
configs = st.one_of(
    st.builds(lambda value, per: threshold(value, per=per), st.sampled_from([0.25, 0.5, 0.6, 0.75, 0.9, 1.0]), units),
    st.builds(
        lambda k, least, per: top_k(k, min_confidence=least, per=per),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.4, 0.5, 0.8]),
        units,
    ),
)


def posterior_of(weights: list[int], known: tuple[int, int]) -> list[Fraction]:
    """The exact posterior of one face, conditioned on its known values."""
    fits = [all(k in (UNKNOWN, v) for k, v in zip(known, divmod(c, 3), strict=True)) for c in range(6)]
    total = sum(w for w, fit in zip(weights, fits, strict=True) if fit)
    if total == 0:
        return [Fraction(int(fit), sum(fits)) for fit in fits]
    return [Fraction(w, total) if fit else Fraction(0) for w, fit in zip(weights, fits, strict=True)]


def best(shares: list[Fraction]) -> tuple[int, float]:
    rounded = [round(float(share), 7) for share in shares]
    return rounded.index(max(rounded)), max(rounded)


def slow_decisions(probabilities: dict[int, list[Fraction]], config: Config, image_ids: list[str]) -> dict[int, bool]:
    """Accept face by face; `probabilities` are the exact ones of the values, per unlabeled face."""
    choices = {face: best(shares) for face, shares in probabilities.items()}
    if isinstance(config, FixedThreshold):
        return {face: confidence >= config.confidence_threshold for face, (_, confidence) in choices.items()}
    decisions = dict.fromkeys(choices, False)
    for value in {value for value, _ in choices.values()}:
        rivals = [face for face, (chosen, _) in choices.items() if chosen == value]
        rivals.sort(key=lambda face: (-choices[face][1], image_ids[face]))
        for face in rivals[: config.k]:
            decisions[face] = choices[face][1] >= config.min_confidence
    return decisions


def slow_accepted(examples: list, config: Config, image_ids: list[str]) -> list[list[bool]]:
    posteriors = [posterior_of(weights, (gender, age)) for weights, gender, age in examples]
    accepted = [[False, False] for _ in examples]
    if config.per == "class":
        probabilities = {face: posteriors[face] for face, (_, *known) in enumerate(examples) if UNKNOWN in known}
        for face, decision in slow_decisions(probabilities, config, image_ids).items():
            accepted[face] = [decision and code == UNKNOWN for code in examples[face][1:]]
        return accepted
    for position, size in enumerate((2, 3)):
        probabilities = {
            face: [sum(p[c] for c in range(6) if divmod(c, 3)[position] == value) for value in range(size)]
            for face, p in enumerate(posteriors)
            if examples[face][1 + position] == UNKNOWN
        }
        for face, decision in slow_decisions(probabilities, config, image_ids).items():
            accepted[face][position] = decision
    return accepted


def select_examples(examples: list, config: Config, image_ids: list[str]) -> Selection:
    rows = [[weight / sum(weights) for weight in weights] for weights, _, _ in examples]
    return selected(rows, [[gender, age] for _, gender, age in examples], config, image_ids)


@settings(max_examples=300)
@given(examples=faces, config=configs, random=st.randoms(use_true_random=False))
def test_selection_is_what_a_slow_reference_selects(examples: list, config: Config, random) -> None:
    image_ids = [f"face-{number}" for number in random.sample(range(100), len(examples))]
    selection = select_examples(examples, config, image_ids)
    assert selection.accepted.tolist() == slow_accepted(examples, config, image_ids)
    for face, (weights, gender, age) in enumerate(examples):
        class_id, confidence = best(posterior_of(weights, (gender, age)))
        assert (selection.class_ids[face], selection.confidence[face]) == (class_id, confidence)


@settings(max_examples=150)
@given(examples=faces, config=configs)
def test_known_values_are_never_replaced(examples: list, config: Config) -> None:
    selection = select_examples(examples, config, [f"face-{row}" for row in range(len(examples))])
    codes = np.array([[gender, age] for _, gender, age in examples], dtype=int).reshape(-1, 2)
    known = codes != UNKNOWN
    assert (selection.known == known).all()
    assert (selection.attribute_codes[known] == codes[known]).all()
    assert (selection.attribute_confidence[known] == 1).all()
    assert not selection.accepted[known].any()
    assert (selection.reasons[known] == "known").all()
    assert (selection.probabilities[~SPACE.candidates(codes)] == 0).all()
    np.testing.assert_allclose(selection.probabilities.sum(axis=1), 1)
    assert (selection.attribute_codes >= 0).all()
    class_codes = SPACE.class_codes[selection.class_ids]
    assert (class_codes[known] == codes[known]).all()
    if config.per == "class":
        assert (selection.attribute_codes == class_codes).all()


@settings(max_examples=150)
@given(examples=faces, config=configs, random=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(examples: list, config: Config, random) -> None:
    image_ids = [f"face-{row}" for row in range(len(examples))]
    order = random.sample(range(len(examples)), len(examples))
    original = select_examples(examples, config, image_ids)
    shuffled = select_examples([examples[row] for row in order], config, [image_ids[row] for row in order])
    for name in ("class_ids", "confidence", "attribute_codes", "attribute_confidence", "accepted", "reasons"):
        assert (getattr(original, name)[order] == getattr(shuffled, name)).all()


@settings(max_examples=150)
@given(
    weights=st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 3)), max_size=30),
    k=st.integers(1, 6),
    random=st.randoms(use_true_random=False),
)
def test_the_top_k_of_every_value_are_its_k_most_confident(weights: list[tuple[int, int]], k: int, random) -> None:
    names = [f"{number:03d}" for number in random.sample(range(500), len(weights))]
    confidence, chosen = np.array([w / 5 for w, _ in weights]), np.array([v for _, v in weights], dtype=np.int64)
    among, rank = top_k_per_value(confidence, chosen, k=k, num_values=4, tie_break=names)
    for value in range(4):
        rows = [row for row in range(len(weights)) if chosen[row] == value]
        rows.sort(key=lambda row: (-confidence[row], names[row]))
        assert [int(rank[row]) for row in rows] == list(range(1, len(rows) + 1))
        assert [row for row in rows if among[row]] == rows[:k]
    assert not among[chosen == -1].any() and (rank[chosen == -1] == 0).all()


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in -1 … 1, got 0 … 2"):
        top_k_per_value(np.ones(2), np.array([0, 2]), k=1, num_values=2, tie_break=["a", "b"])


def test_equality_with_the_threshold_accepts_whatever_the_type_of_float() -> None:
    for dtype in (np.float32, np.float64):
        row = np.array([[0.95, 0.05], [0.9499, 0.0501]], dtype=dtype)
        assert (most_probable(row)[1] >= 0.95).tolist() == [True, False]
    assert selected([[0.6, 0.25, 0.1, 0.05, 0, 0]], [[-1, -1]], threshold(0.95)).accepted.tolist() == [[True, False]]


def test_a_confidence_below_the_threshold_is_never_accepted() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(6, 0.3), 500)
    for per in ("class", "attribute"):
        selection = selected(rows.tolist(), [[-1, -1]] * 500, threshold(0.8, per=per))
        decisive = selection.attribute_confidence if per == "attribute" else selection.confidence[:, None]
        assert selection.accepted.any()
        assert (selection.accepted == (decisive >= 0.8)).all()


def test_a_face_may_have_its_gender_accepted_and_its_age_rejected() -> None:
    selection = selected([[0.0, 0.02, 0.0, 0.38, 0.35, 0.25]], [[-1, -1]], threshold(0.95))
    assert selection.accepted.tolist() == [[True, False]]
    assert selection.accepted_faces.tolist() == [True]
    assert selection.reasons.tolist() == [["confidence 0.98 >= 0.95", "confidence 0.38 < 0.95"]]
    per_class = selected([[0.0, 0.02, 0.0, 0.38, 0.35, 0.25]], [[-1, -1]], threshold(0.95, per="class"))
    assert per_class.accepted_faces.tolist() == [False]
    assert per_class.reasons.tolist() == [["class confidence 0.38 < 0.95"] * 2]


def test_a_fully_known_face_is_accepted_without_a_pseudo_label() -> None:
    selection = selected([[0.9, 0.1, 0, 0, 0, 0]], [[1, 2]], threshold(1.0))
    assert selection.accepted_faces.tolist() == [True]
    assert not selection.accepted.any()
    assert (selection.class_ids[0], selection.confidence[0]) == (5, 1.0)


def test_known_values_raise_the_confidence_of_the_others() -> None:
    row = [0.45, 0.05, 0.0, 0.0, 0.0, 0.5]
    assert selected([row], [[-1, -1]], threshold(0.9, per="class")).accepted.tolist() == [[False, False]]
    assert selected([row], [[0, -1]], threshold(0.9, per="class")).accepted.tolist() == [[False, True]]


def test_among_equals_the_lowest_class_and_the_first_image_id_win() -> None:
    even = [[1 / 6] * 6] * 3
    selection = selected(even, [[-1, -1]] * 3, top_k(1, per="class"), ["c", "a", "b"])
    assert selection.class_ids.tolist() == [0, 0, 0]
    assert selection.accepted_faces.tolist() == [False, True, False]
    assert selection.reasons[:, 0].tolist() == [
        f"rank {r} {s} 1 for male/<30" for r, s in ((3, ">"), (1, "<="), (2, ">"))
    ]


def test_a_known_attribute_does_not_count_toward_k() -> None:
    sure, less = [0, 0, 0, 1.0, 0, 0], [0, 0, 0, 0.7, 0.3, 0]
    selection = selected([sure, less], [[1, 0], [1, -1]], top_k(1))
    assert selection.accepted.tolist() == [[False, False], [False, True]]
    assert selection.reasons[1, 1] == "rank 1 <= 1 for <30"


def test_the_top_k_must_also_reach_the_minimum_confidence() -> None:
    selection = selected([[0.3, 0.3, 0.4, 0, 0, 0]], [[-1, -1]], top_k(5, min_confidence=0.5))
    assert selection.accepted.tolist() == [[True, False]]
    assert selection.reasons.tolist() == [["rank 1 <= 5 for male", "confidence 0.4 < min_confidence 0.5"]]


def test_a_rejected_confidence_never_prints_as_the_threshold() -> None:
    row = [0.94996, 0.05004, 0, 0, 0, 0]
    assert selected([row], [[-1, -1]], threshold(0.95)).reasons[0, 1] == "confidence 0.949 < 0.95"
    assert selected([row], [[-1, -1]], threshold(0.94997)).reasons[0, 1] == "confidence 0.94996 < 0.94997"


def test_an_empty_pool_selects_nothing() -> None:
    for config in (threshold(), top_k(3, per="class")):
        assert selected([], [], config).accepted.shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "known", "message"),
    [
        (np.full((1, 5), 0.2), [[-1, -1]], r"must be \[N, 6\], got \[1, 5\]"),
        (np.full((1, 6), 1 / 6), [[-1, -1], [0, 0]], "1 faces need known_codes"),
        (np.array([[np.nan] * 6]), [[-1, -1]], "no distribution, first row 0"),
        (
            np.array([[0.2] * 5 + [0.0], [0.5] * 6]),
            [[-1, -1]] * 2,
            "1 rows of probabilities are no distribution, first row 1",
        ),
        (np.array([[1.5, -0.5, 0, 0, 0, 0]]), [[-1, -1]], "no distribution"),
    ],
)
def test_invalid_arrays_are_refused(rows: np.ndarray, known: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(rows, np.array(known), labels=SPACE, config=threshold(), image_ids=[str(n) for n in range(len(rows))])
