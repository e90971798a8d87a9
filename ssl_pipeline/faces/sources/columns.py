"""Column mapping: a source's names and values to the config's, numbers to attribute values, with checks."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.sources import CsvSource, Source
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw_faces import RawFaces, clean_text, source_name

Texts = list[str | None]
Faults = dict[int, dict[str, str]]
"""{row: {column: reason why its value is invalid}}."""

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+)|\+)")


@dataclass(frozen=True)
class LabeledRows:
    """Labels of the N faces of a source, in the config's columns.

    Attributes:
        table: person_id, one column per attribute, age_years and origin, [N]; also min_age_years and max_age_years,
            the bounds of the age (equal if the age is known). Text columns have dtype object, None unknown; ages are
            float years, NaN unknown.
        available: the config's columns that the source has.
        faults: invalid values.
    """

    table: pd.DataFrame
    available: frozenset[str]
    faults: Faults


def label_rows(raw: RawFaces, source: Source, labels: LabelsConfig) -> LabeledRows:
    """Map a source's columns, derive attributes and check values.

    An attribute with `from_column` and `bin_edges` gets its value from that number; each value begins at its bin edge.
    If the number is unknown, a column with the attribute's name is used. An age may also be given as a range in full
    years, ``age_range``, e.g. ``20-29`` or ``70+``: it gives a value if that value contains the whole range.

    Raises:
        FaceTableError: if the source's `columns` or `values` name columns that do not exist.
    """
    columns = map_columns(raw.columns, source, labels)
    unknown: Texts = [None] * len(raw.paths)
    faults: Faults = defaultdict(dict)
    ages = _parse_numbers(columns.get("age_years", unknown), "age_years", faults, minimum=0.0)
    min_ages, max_ages = _age_bounds(ages, columns.get("age_range", unknown), faults)
    table: dict[str, pd.Series[Any]] = {"person_id": _text_series(columns.get("person_id", unknown))}
    for attribute in labels.attributes:
        texts = list(columns.get(attribute.name, unknown))
        if attribute.from_column == "age_years":
            texts = bin_values(min_ages, max_ages, attribute, default=texts)
        elif attribute.from_column in columns:
            numbers = _parse_numbers(columns[attribute.from_column], attribute.from_column, faults)
            texts = bin_values(numbers, numbers, attribute, default=texts)
        table[attribute.name] = _text_series(_check_values(texts, attribute, faults))
    table.setdefault("age_years", pd.Series(ages, dtype="float64"))
    table.setdefault("origin", _text_series(columns.get("origin", unknown)))
    table["min_age_years"] = pd.Series(min_ages, dtype="float64")
    table["max_age_years"] = pd.Series(max_ages, dtype="float64")
    return LabeledRows(table=pd.DataFrame(table), available=frozenset(columns), faults=faults)


def map_columns(raw_columns: Mapping[str, Texts], source: Source, labels: LabelsConfig) -> dict[str, Texts]:
    """Rename a source's columns and translate their values; blanks around a value are dropped, nothing becomes None.

    `source.columns` is {target column: the source's column}. A mapped column no longer counts under its old name; an
    unmapped column keeps its name. Columns that the config does not use are dropped.

    Raises:
        FaceTableError: if the mapping names a target column or a source column that does not exist, or a column has
            nearly the name of a target (another case, blanks, hyphens).
    """
    name, targets = source_name(source), labels.source_columns
    mapping = {target: clean_text(raw_name) for target, raw_name in source.columns.items()}
    if isinstance(source, CsvSource):
        mapping.pop("image_path", None)  # applied when the table is read
    for target, raw_name in mapping.items():
        if target not in targets:
            raise FaceTableError(
                f"source '{name}': columns.{target}: expected one of {_quoted(targets)}, got '{target}'"
                + _did_you_mean(target, targets)
            )
        if raw_name not in raw_columns:
            raise FaceTableError(
                f"source '{name}': columns.{target}: no column '{raw_name}'; the source's columns: "
                f"{_quoted(raw_columns) or 'none'}" + _did_you_mean(raw_name, raw_columns)
            )
    unmapped = {raw: raw for raw in raw_columns if raw not in mapping.values() and raw not in mapping}
    columns = {target: raw_columns[raw] for target, raw in {**unmapped, **mapping}.items() if target in targets}
    _check_near_misses(unmapped, columns, name, labels)
    for target in source.values:
        if target not in columns:
            raise FaceTableError(
                f"source '{name}': values.{target}: the source has no column '{target}'; it has "
                f"{_quoted(columns) or 'none'}"
            )
    return {target: _translate(texts, source.values.get(target, {})) for target, texts in columns.items()}


def _check_near_misses(
    unmapped: Mapping[str, str], columns: Mapping[str, Texts], source: str, labels: LabelsConfig
) -> None:
    """Refuse a column whose name differs from a missing target in case, blanks, hyphens or underscores only."""
    by_key = {_key(raw): raw for raw in unmapped}
    for target in labels.source_columns:
        raw = by_key.get(_key(target))
        if target not in columns and raw is not None:
            numbers = {attribute.name: attribute.from_column for attribute in labels.attributes}.get(target)
            or_number = f" (or columns: {_yaml({numbers: raw})}, if it holds numbers)" if numbers else ""
            raise FaceTableError(
                f"source '{source}': its column '{raw}' would not be read as '{target}'; rename it, or write in this "
                f"source: columns: {_yaml({target: raw})}{or_number}"
            )


def _yaml(mapping: Mapping[str, Any]) -> str:
    """Format a mapping so that it can be pasted into a config."""
    return str(yaml.safe_dump(mapping, default_flow_style=True, allow_unicode=True, width=10_000)).strip()


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    similar = get_close_matches(name, names, n=1)
    return f"; did you mean '{similar[0]}'?" if similar else ""


def _translate(texts: Texts, values: Mapping[str, str]) -> Texts:
    """Clean the values and translate those that the mapping contains; afterwards the empty string is unknown."""
    values = {clean_text(theirs): clean_text(ours) for theirs, ours in values.items()}
    cleaned = {text: clean_text(text) for text in set(texts) if text is not None}
    return [(values.get(cleaned[text], cleaned[text]) or None) if text is not None else None for text in texts]


def _parse_numbers(texts: Texts, column: str, faults: Faults, *, minimum: float = -math.inf) -> list[float]:
    """Parse numbers, NaN if unknown; a number that is not finite or below the minimum is a fault."""
    numbers = []
    for row, text in enumerate(texts):
        number = math.nan
        if text is not None:
            with suppress(ValueError):
                number = float(text)
            if not minimum <= number < math.inf:
                expected = "a number" if minimum == -math.inf else f"a number of at least {minimum:g}"
                faults[row][column] = f"column '{column}': expected {expected}, got '{text}'"
                number = math.nan
        numbers.append(number)
    return numbers


def _age_bounds(ages: list[float], ranges: Texts, faults: Faults) -> tuple[list[float], list[float]]:
    """Return the smallest and largest possible ages: the age itself if known, else the ends of its range."""
    min_ages, max_ages = list(ages), list(ages)
    for row, text in enumerate(ranges):
        if text is None or not math.isnan(ages[row]):
            continue
        match = _RANGE.fullmatch(text)
        lower, upper = (float(match[1]), float(match[2] or math.inf)) if match else (1.0, 0.0)
        if lower <= upper:
            min_ages[row], max_ages[row] = lower, upper
        else:
            faults[row]["age_range"] = f"column 'age_range': expected a range, e.g. 20-29 or 70+, got '{text}'"
    return min_ages, max_ages


def bin_values(
    lower: Sequence[float], upper: Sequence[float], attribute: AttributeConfig, *, default: Sequence[str | None]
) -> Texts:
    """Return the attribute value whose bin contains both numbers; the default if there is none, or for NaN.

    A bin includes its lower edge.
    """
    bin_edges = np.asarray(attribute.bin_edges)
    lower_bins, upper_bins = (np.searchsorted(bin_edges, np.asarray(ends), side="right") for ends in (lower, upper))
    return [
        text if math.isnan(number) or lower_bin != upper_bin else attribute.values[lower_bin]
        for number, lower_bin, upper_bin, text in zip(lower, lower_bins, upper_bins, default, strict=True)
    ]


def _check_values(texts: Texts, attribute: AttributeConfig, faults: Faults) -> Texts:
    """Replace texts that are not values of the attribute by None; each is a fault of its row."""
    allowed = set(attribute.values)
    faulty = {text: _value_fault(text, attribute) for text in set(texts) if text is not None and text not in allowed}
    for row, text in enumerate(texts):
        if text in faulty:
            faults[row][attribute.name] = faulty[text]
    return [None if text in faulty else text for text in texts]


def _value_fault(text: str, attribute: AttributeConfig) -> str:
    fault = f"column '{attribute.name}': expected one of {_quoted(attribute.values)}, got '{text}'"
    similar = [value for value in attribute.values if _key(value) == _key(text)]
    if len(similar) == 1:
        return f"{fault}; write in this source: values: {_yaml({attribute.name: {text: similar[0]}})}"
    if attribute.from_column is not None and text.replace(".", "", 1).isdigit():
        return f"{fault}; write in this source: columns: {_yaml({attribute.from_column: attribute.name})}"
    return fault


def _text_series(texts: Texts) -> "pd.Series[Any]":
    return pd.Series(texts, dtype=object)
