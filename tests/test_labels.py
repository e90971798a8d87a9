"""The label space against a brute-force enumeration of its classes."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_pipeline.labels import UNKNOWN, LabelSpace

MASKS = LabelSpace.of(
    {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]}
)


@st.composite
def spaces(draw: st.DrawFn) -> LabelSpace:
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    return LabelSpace.of({f"a{a}": [f"v{a}{value}" for value in range(size)] for a, size in enumerate(sizes)})


@st.composite
def partly_known(draw: st.DrawFn) -> tuple[LabelSpace, np.ndarray]:
    space = draw(spaces())
    row = st.tuples(*[st.integers(UNKNOWN, size - 1) for size in space.num_values])
    rows = draw(st.lists(row, max_size=6))
    return space, np.array(rows, dtype=np.int64).reshape(len(rows), len(space.attributes))


@st.composite
def predicted(draw: st.DrawFn) -> tuple[LabelSpace, np.ndarray, list[list[int]]]:
    space, codes = draw(partly_known())
    row = st.lists(st.integers(0, 5), min_size=space.num_classes, max_size=space.num_classes).filter(any)
    return space, codes, [draw(row) for _ in codes]


def all_classes(space: LabelSpace) -> list[tuple[int, ...]]:
    """Every class as a tuple of codes, in the order of ids: the last attribute varies fastest."""
    return list(itertools.product(*[range(size) for size in space.num_values]))


def agrees(known: np.ndarray, values: tuple[int, ...]) -> bool:
    return all(code in (UNKNOWN, value) for code, value in zip(known.tolist(), values, strict=True))


def as_probabilities(weights: list[list[int]], num_classes: int) -> np.ndarray:
    rows = [[weight / sum(row) for weight in row] for row in weights]
    return np.array(rows).reshape(len(weights), num_classes)


def test_the_18_classes_of_the_founding_case_keep_their_ids() -> None:
    assert MASKS.num_classes == 18
    for mask, gender, age in itertools.product(range(3), range(2), range(3)):
        assert MASKS.class_ids(np.array([[mask, gender, age]])).tolist() == [mask * 6 + gender * 3 + age]
    assert (MASKS.class_name(0), MASKS.class_name(17)) == ("wear/male/<30", "normal/female/>=60")


@given(spaces())
def test_class_ids_count_all_combinations_in_order(space: LabelSpace) -> None:
    classes = all_classes(space)
    assert space.num_classes == len(classes)
    assert space.class_codes.tolist() == [list(values) for values in classes]
    assert space.class_ids(space.class_codes).tolist() == list(range(len(classes)))
    names = ["/".join(a.values[code] for a, code in zip(space.attributes, v, strict=True)) for v in classes]
    assert space.class_names == names
    assert LabelSpace.of(space.to_dict()) == space


@given(partly_known())
def test_candidates_are_the_classes_that_agree_with_the_known_values(example: tuple[LabelSpace, np.ndarray]) -> None:
    space, codes = example
    expected = [[agrees(known, values) for values in all_classes(space)] for known in codes]
    assert space.candidates(codes).tolist() == expected
    ids = [row.index(True) if sum(row) == 1 else UNKNOWN for row in expected]
    assert space.class_ids(codes).tolist() == ids


@given(predicted())
def test_conditioning_renormalizes_inside_the_candidates(example: tuple[LabelSpace, np.ndarray, list]) -> None:
    space, codes, weights = example
    result = space.condition(as_probabilities(weights, space.num_classes), codes)
    for face, (known, row) in enumerate(zip(codes, weights, strict=True)):
        restricted = [
            weight if agrees(known, values) else None for weight, values in zip(row, all_classes(space), strict=True)
        ]
        total = sum(weight for weight in restricted if weight is not None)
        num = sum(weight is not None for weight in restricted)
        for class_id, weight in enumerate(restricted):
            exact = Fraction(0) if weight is None else Fraction(weight, total) if total else Fraction(1, num)
            assert result[face, class_id] == pytest.approx(float(exact), abs=1e-12)


@given(predicted())
def test_attribute_probabilities_sum_over_all_other_attributes(example: tuple[LabelSpace, np.ndarray, list]) -> None:
    space, _, weights = example
    marginals = space.attribute_probabilities(as_probabilities(weights, space.num_classes))
    assert [marginal.shape for marginal in marginals] == [(len(weights), size) for size in space.num_values]
    for face, row in enumerate(weights):
        for position, size in enumerate(space.num_values):
            for value in range(size):
                expected = sum(
                    w for w, values in zip(row, all_classes(space), strict=True) if values[position] == value
                )
                assert marginals[position][face, value] == pytest.approx(expected / sum(row), abs=1e-12)


@given(partly_known())
def test_encoding_inverts_decoding(example: tuple[LabelSpace, np.ndarray]) -> None:
    space, codes = example
    frame = space.decode(codes)
    assert list(frame) == space.names
    for known, row in zip(codes.tolist(), frame.to_dict("records"), strict=True):
        for attribute, code in zip(space.attributes, known, strict=True):
            value = row[attribute.name]
            assert pd.isna(value) if code == UNKNOWN else value == attribute.values[code]
    assert space.encode(frame).tolist() == codes.tolist()


def test_an_attribute_without_a_column_is_unknown_and_an_invalid_value_is_refused() -> None:
    faces = pd.DataFrame({"gender": ["female", None], "age": ["<30", ">=60"]})
    assert MASKS.encode(faces).tolist() == [[-1, 1, 0], [-1, -1, 2]]
    with pytest.raises(ValueError, match=r"'2' is not a value of attribute 'age'"):
        MASKS.encode(pd.DataFrame({"age": ["<30", "2"]}))
