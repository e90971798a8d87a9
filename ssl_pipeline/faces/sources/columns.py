"""From a source's columns to ours: names and values mapped, numbers read, attributes derived, values checked."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.sources import CsvSource, Source
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw import RawFaces, source_name

Texts = list[str | None]
Faults = dict[int, dict[str, str]]
"""{row: {column: what is wrong with its value}}."""

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+)|\+)")


@dataclass(frozen=True)
class LabeledRows:
    """Our columns for the N faces of a source.

    Attributes:
        table: person_id (None where nobody is named), one column an attribute, age_years (float, NaN unknown) and
            origin, [N]; text columns have dtype object, None unknown. Beside them age_least and age_most (float, NaN
            unknown), the ends of what is known of the age: equal where age_years is known.
        known: which of our columns the source has at all.
        faults: what is wrong with its values.
    """

    table: pd.DataFrame
    known: frozenset[str]
    faults: Faults


def label_rows(raw: RawFaces, source: Source, labels: LabelsConfig) -> LabeledRows:
    """Map, derive and check a source's columns.

    An attribute with `from_column` and `bin_edges` becomes a value by its number: a value begins at its border. Where
    the number is unknown, a column of the attribute's own name fills in. An age may also be known as a range,
    ``age_range`` as ``20-29`` or ``70+`` (full years): it gives a value where all of it lies in that value's range.

    Raises:
        FaceTableError: if the source's `columns` or `values` name what is not there.
    """
    ours = our_columns(raw.columns, source, labels)
    size = len(raw.paths)
    unknown: Texts = [None] * size
    faults: Faults = defaultdict(dict)
    ages = _numbers(ours.get("age_years", unknown), "age_years", faults, least=0.0)
    least, most = _age_bounds(ages, ours.get("age_range", unknown), faults)
    table: dict[str, pd.Series[Any]] = {"person_id": _objects(ours.get("person_id", unknown))}
    for attribute in labels.attributes:
        texts = list(ours.get(attribute.name, unknown))
        if attribute.from_column == "age_years":
            texts = binned(least, most, attribute, otherwise=texts)
        elif attribute.from_column in ours:
            numbers = _numbers(ours[attribute.from_column], attribute.from_column, faults)
            texts = binned(numbers, numbers, attribute, otherwise=texts)
        table[attribute.name] = _objects(_checked(texts, attribute, faults))
    table.setdefault("age_years", pd.Series(ages, dtype="float64"))
    table.setdefault("origin", _objects(ours.get("origin", unknown)))
    table["age_least"], table["age_most"] = pd.Series(least, dtype="float64"), pd.Series(most, dtype="float64")
    return LabeledRows(table=pd.DataFrame(table), known=frozenset(ours), faults=faults)


def our_columns(theirs: Mapping[str, Texts], source: Source, labels: LabelsConfig) -> dict[str, Texts]:
    """Rename a source's columns to ours and translate their values; the empty string becomes None.

    `source.columns` is {our column: the source's}, and a column that it names no longer counts under its old name;
    any other keeps its name. Columns that nobody asks for are left out.

    Raises:
        FaceTableError: if the mapping names a column of ours that does not exist, or one that the source has not.
    """
    name = source_name(source)
    wanted = ["person_id", "age_years", "age_range", "origin"]
    for attribute in labels.attributes:
        wanted += [attribute.name, *([attribute.from_column] if attribute.from_column else [])]
    mapping = dict(source.columns)
    if isinstance(source, CsvSource):
        mapping.pop("image_path", None)  # served when the table was read
    for ours, their in mapping.items():
        if ours not in wanted:
            expected = ", ".join(f"'{column}'" for column in dict.fromkeys(wanted))
            raise FaceTableError(f"source '{name}': columns.{ours}: expected one of {expected}, got '{ours}'")
        if their not in theirs:
            has = ", ".join(f"'{column}'" for column in theirs) or "none"
            raise FaceTableError(f"source '{name}': columns.{ours}: no column '{their}'; the source's columns: {has}")
    kept = {column: column for column in theirs if column not in mapping.values() and column not in mapping}
    available = {ours: theirs[their] for ours, their in {**kept, **mapping}.items() if ours in wanted}
    for ours in source.values:
        if ours not in available:
            has = ", ".join(f"'{column}'" for column in available) or "none"
            raise FaceTableError(f"source '{name}': values.{ours}: the source gives no column '{ours}'; it gives {has}")
    return {ours: _translated(texts, source.values.get(ours, {})) for ours, texts in available.items()}


def _translated(texts: Texts, values: Mapping[str, str]) -> Texts:
    """Translate the values that the mapping names; then the empty string is unknown."""
    return [(values.get(text, text) or None) if text is not None else None for text in texts]


def _numbers(texts: Texts, column: str, faults: Faults, *, least: float = -math.inf) -> list[float]:
    """Read numbers, NaN where unknown; what is no finite number of at least `least` is a fault of its row."""
    numbers = []
    for row, text in enumerate(texts):
        number = math.nan
        if text is not None:
            with suppress(ValueError):
                number = float(text)
            if not least <= number < math.inf:
                expected = "a number" if least == -math.inf else f"a number of at least {least:g}"
                faults[row][column] = f"column '{column}': expected {expected}, got '{text}'"
                number = math.nan
        numbers.append(number)
    return numbers


def _age_bounds(ages: list[float], ranges: Texts, faults: Faults) -> tuple[list[float], list[float]]:
    """Give the least and the most that each age may be: the age itself where it is known, else its range's ends."""
    least, most = list(ages), list(ages)
    for row, text in enumerate(ranges):
        if text is None or not math.isnan(ages[row]):
            continue
        match = _RANGE.fullmatch(text)
        ends = (float(match[1]), float(match[2] or math.inf)) if match else (1.0, 0.0)
        if ends[0] <= ends[1]:
            least[row], most[row] = ends
        else:
            faults[row]["age_range"] = f"column 'age_range': expected a range as 20-29 or 70+, got '{text}'"
    return least, most


def binned(
    least: Sequence[float], most: Sequence[float], attribute: AttributeConfig, *, otherwise: Sequence[str | None]
) -> Texts:
    """Give the value in whose range both numbers lie, border included below; `otherwise` where none does, or NaN."""
    bin_edges = np.asarray(attribute.bin_edges)
    low, high = (np.searchsorted(bin_edges, np.asarray(numbers), side="right") for numbers in (least, most))
    return [
        text if math.isnan(number) or first != last else attribute.values[first]
        for number, first, last, text in zip(least, low, high, otherwise, strict=True)
    ]


def _checked(texts: Texts, attribute: AttributeConfig, faults: Faults) -> Texts:
    """Give the values, None in place of one that is none of the attribute's, which is a fault of its row."""
    expected = ", ".join(f"'{value}'" for value in attribute.values)
    checked = list(texts)
    for row, text in enumerate(texts):
        if text is not None and text not in attribute.values:
            faults[row][attribute.name] = f"column '{attribute.name}': expected one of {expected}, got '{text}'"
            checked[row] = None
    return checked


def _objects(texts: Texts) -> "pd.Series[Any]":
    return pd.Series(texts, dtype=object)
