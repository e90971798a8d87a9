"""Reading and writing YAML: repeated keys, aliases, numbers, round trips."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssl_pipeline.config.yaml_text import YamlError, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "'a': given twice, in lines 1 and 3; keep one of them"),
        ("a:\n  - b: 1\n    c: 2\n    b: 3", "'a.0.b': given twice, in lines 2 and 4; keep one of them"),
        ("a: {b: 1, b: 1}", "'a.b': given twice, in line 1; keep one of them"),
        ("1: a\n'1': b", "'1': given twice, in lines 1 and 2; keep one of them"),
        ("a: 1\na: 2\na: 3", "lines 2 and 3"),
        ("a: {<<: {b: 1}, <<: {c: 2}}", "'a.<<': given twice"),
        ("&a [*a]", "line 1: an alias contains itself"),
        ("a: [", "not YAML: line 1, column 5"),
        ("a: 1\n---\nb: 2", "not YAML: line 2"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(YamlError) as error:
        read_yaml(text)
    assert message in str(error.value)


def test_all_repeated_keys_are_named_at_once() -> None:
    with pytest.raises(YamlError, match=r"'a\.b': given twice.*'c': given twice"):
        read_yaml("a: {b: 1, b: 2}\nc: 1\nc: 2")


def test_nested_aliases_that_would_fill_the_memory_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_yaml("\n".join(lines))


def test_aliases_and_merge_keys_share_nothing() -> None:
    data = read_yaml("a: &a {b: {c: [1]}}\nd: *a\ne: {<<: *a, f: 2}\ng: {<<: [*a, {h: 3}], b: 4}")
    data["a"]["b"]["c"].append(2)
    assert data["d"] == {"b": {"c": [1]}}
    assert data["e"] == {"b": {"c": [1]}, "f": 2}
    assert data["g"] == {"b": 4, "h": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e6", 1e6),
        (".5", 0.5),
        ("-1.", -1.0),
        ("010", 10),
        ("-7", -7),
        ("true", True),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
    ],
)
def test_plain_text_reads_as_yaml_1_2_has_it(text: str, value: object) -> None:
    read = read_yaml(text)
    assert read == value
    assert type(read) is type(value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]))
    | st.sampled_from(
        ["yes", "3e-4", "1e3", ".5", "~", "null", "<<", "010", "1:30", "0x1f", "a: b", "- a", "#", "=", "!"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc<=", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_written_values_read_back_equal(value: Any) -> None:
    assert read_yaml(write_yaml(value)) == value


def test_text_that_another_reader_takes_for_something_else_is_quoted() -> None:
    for text in ("yes", "3e-4", "010", "1:30", "2024-01-01"):
        assert yaml.safe_load(write_yaml([text])) == [text]
