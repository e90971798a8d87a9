"""The attributes, persons and source section that follow from a folder or table of labeled faces."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import pandas as pd

from ssl_pipeline.config.base import ATTRIBUTE_NAME
from ssl_pipeline.config.labels import RESERVED_NAMES, AttributeConfig, LabelsConfig
from ssl_pipeline.config.sources import UNUSED_LEVEL
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.discovery import Discovery, FoundColumn
from ssl_pipeline.faces.value_names import suggest_name

MIN_FACES = 4
"""Of each class: two stay to train and validate on when the test split is taken, see `splitting.hold_out`."""
_BIN_EDGES: tuple[tuple[float, ...], ...] = ((30, 60), (18, 40), (30,))
_MIN_PER_BIN = 10


@dataclass(frozen=True)
class LabelChoice:
    """What a config says of the labels.

    Attributes:
        labels: the attributes.
        counts: {attribute: {value: number of faces}}.
        columns: {our name: the table's column}, where they differ.
        values: {attribute: {value of the source: our value}}, where they differ.
        levels: of a folder.
        num_people: named persons; None if no column names them.
        notes: what was left out, and what looks wrong, in sentences.
    """

    labels: LabelsConfig
    counts: Mapping[str, Mapping[str, int]]
    columns: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    levels: tuple[str, ...]
    num_people: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """An attribute with the value of each face, None where it has none."""

    attribute: AttributeConfig
    key: str
    of_faces: "pd.Series[Any]"
    renamed: Mapping[str, str]
    notes: tuple[str, ...]


def choose_labels(found: Discovery) -> LabelChoice:
    """Choose the attributes: those of the columns, and bins of an age; classes that cannot be learned are left out.

    Raises:
        FaceTableError: if no attribute has two values with `MIN_FACES` faces each.
    """
    notes: list[str] = []
    kept: list[_Candidate] = []
    for candidate in _candidates(found, notes):
        if fault := _combination_fault([*kept, candidate]):
            notes.append(f"{candidate.attribute.name} is left out: {fault}; a second config can learn it alone")
            continue
        kept.append(candidate)
        notes += candidate.notes
    if not kept:
        described = "; ".join(f"{column.key}: {_shown(column.values)}" for column in found.columns) or "no labels"
        raise FaceTableError(
            f"{found.folder}: no attribute with two values of at least {MIN_FACES} faces each; found {described}. Put "
            "the images into a folder per value, or give a table with a column per attribute"
        )
    people = found.meaning("person_id")
    if not people and not found.is_face_set:
        notes.append(
            "people unknown: each picture counts as its own person. If one person has several pictures, name who they "
            "are (a folder per person, or a column of the table), or the test is too easy"
        )
    return LabelChoice(
        labels=LabelsConfig(attributes=tuple(candidate.attribute for candidate in kept)),
        counts={candidate.attribute.name: _counts(candidate) for candidate in kept},
        columns=_columns(found, kept),
        values={candidate.attribute.name: candidate.renamed for candidate in kept if candidate.renamed},
        levels=_levels(found, kept),
        num_people=len(people[0].values) if people else None,
        notes=tuple(notes),
    )


def _candidates(found: Discovery, notes: list[str]) -> Iterator[_Candidate]:
    """Yield the attributes that have two values, in the order of the columns; an age last."""
    taken: list[str] = []
    for column in found.meaning("attribute"):
        candidate = _attribute(column, found.cells[column.key], name=_attribute_name(column, taken))
        if candidate is None:
            notes.append(f"{column.key} is left out: fewer than two values with {MIN_FACES} faces")
            continue
        taken.append(candidate.attribute.name)
        yield candidate
    for column in found.meaning("age_years"):
        if (candidate := _age(column, found.cells[column.key], name="age_group" if "age" in taken else "age")) is None:
            notes.append(f"{column.key} is left out: too few ages for two groups of {_MIN_PER_BIN} faces")
        else:
            yield candidate


def _attribute_name(column: FoundColumn, taken: Sequence[str]) -> str:
    """Return a name that the config allows: the column's own, what its values suggest, or a numbered one."""
    own = re.sub(r"\W+", "_", column.name.strip().casefold(), flags=re.ASCII).strip("_")
    for name in (own, suggest_name(column.values), *(f"label_{number}" for number in range(2, 100))):
        if re.match(ATTRIBUTE_NAME, name) and name not in RESERVED_NAMES and name not in taken:
            return name
    raise FaceTableError(f"{column.key}: no name for this attribute; rename the column in lower-case letters")


def _attribute(column: FoundColumn, cells: "pd.Series[Any]", *, name: str) -> _Candidate | None:
    """Merge the spellings of a value, and leave out values with too few faces."""
    spellings: dict[str, dict[str, int]] = {}
    for value, number in column.values.items():  # the most frequent spelling comes first
        spellings.setdefault(re.sub(r"[\s_-]+", "_", value.casefold()), {})[value] = number
    totals = {next(iter(same)): sum(same.values()) for same in spellings.values()}
    kept = [value for value, number in totals.items() if number >= MIN_FACES]
    if len(kept) < 2:
        return None
    renamed = {
        other: first for same in spellings.values() for first in [next(iter(same))] for other in same if other != first
    }
    rare = {value: number for value, number in totals.items() if value not in kept}
    notes = []
    if rare:
        notes.append(
            f"{name}: {_shown(rare)}: fewer than {MIN_FACES} faces, so these are rejected; add some, or merge values"
        )
    if renamed:
        notes.append(f"{name}: taken as the same: {', '.join(f'{a!r} and {b!r}' for a, b in renamed.items())}")
    attribute = AttributeConfig(name=name, values=tuple(sorted(kept, key=_sort_key)))
    of_faces = cells.map(lambda value: renamed.get(value, value)).where(lambda values: values.isin(kept))
    return _Candidate(attribute, column.key, of_faces, {k: v for k, v in renamed.items() if v in kept}, tuple(notes))


def _sort_key(value: str) -> tuple[float, str]:
    """Sort ranges by their first number, `<30` before `30-59`; everything else by name, after them."""
    number = re.search(r"\d+", value)
    starts = re.match(r"[<≤]?\s*\d", value) is not None
    return (float(number[0]) - value.startswith(("<", "≤")) if number and starts else float("inf"), value.casefold())


def _age(column: FoundColumn, cells: "pd.Series[Any]", *, name: str) -> _Candidate | None:
    """Bin an age in years at the first edges that leave enough faces on each side."""
    ages = pd.to_numeric(cells, errors="coerce").dropna()
    if ages.empty:
        return None
    for edges in (*_BIN_EDGES, (5.0 * round(ages.median() / 5),)):
        names = bin_names(edges)
        binned = pd.cut(ages, [-float("inf"), *edges, float("inf")], right=False, labels=names)
        if binned.value_counts().min() >= _MIN_PER_BIN:
            attribute = AttributeConfig(name=name, values=tuple(names), from_column="age_years", bin_edges=edges)
            of_faces = binned.astype(object).reindex(cells.index)
            return _Candidate(attribute, column.key, of_faces, {}, ())
    return None


def bin_names(edges: Sequence[float]) -> list[str]:
    """Name the bins of an age in full years.

    >>> bin_names([30, 60])
    ['<30', '30-59', '>=60']
    """
    inner = [f"{low:g}-{high - 1:g}" for low, high in pairwise(edges)]
    return [f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"]


def _combination_fault(candidates: Sequence[_Candidate]) -> str:
    """Describe a class, a combination of values, with too few faces; empty if there is none."""
    values = pd.concat([candidate.of_faces for candidate in candidates], axis=1, keys=range(len(candidates))).dropna()
    counts = values.value_counts()
    classes = list(product(*(candidate.attribute.values for candidate in candidates)))
    rare = {"/".join(one): int(counts.get(one, 0)) for one in classes if counts.get(one, 0) < MIN_FACES}
    if not rare:
        return ""
    name, number = next(iter(rare.items()))
    return (
        f"with it, {len(rare)} of {len(classes)} classes would have fewer than {MIN_FACES} faces, e.g. {name} {number}"
    )


def _counts(candidate: _Candidate) -> dict[str, int]:
    counts = candidate.of_faces.value_counts()
    return {value: int(counts.get(value, 0)) for value in candidate.attribute.values}


def _columns(found: Discovery, kept: Sequence[_Candidate]) -> dict[str, str]:
    """Map our names to the table's columns; a folder's levels and a face set's columns have our names."""
    if found.source["type"] not in ("csv", "webdataset"):
        return {}
    columns = {"image_path": found.source.get("image_column", "image_path")}
    columns |= {candidate.attribute.from_column or candidate.attribute.name: candidate.key for candidate in kept}
    columns |= {meaning: found.meaning(meaning)[0].key for meaning in ("person_id", "origin") if found.meaning(meaning)}
    return {ours: theirs for ours, theirs in columns.items() if ours != theirs}


def _levels(found: Discovery, kept: Sequence[_Candidate]) -> tuple[str, ...]:
    """Name the levels of a folder; those that are left out name nothing."""
    if found.source["type"] != "folder":
        return ()
    names = {candidate.key: candidate.attribute.from_column or candidate.attribute.name for candidate in kept}
    names |= {column.key: "person_id" for column in found.meaning("person_id")[:1]}
    levels = [names.get(column.key, UNUSED_LEVEL) for column in found.columns]
    while levels[-1:] == [UNUSED_LEVEL]:
        levels.pop()
    return tuple(levels)


def _shown(values: Mapping[str, int], at_most: int = 5) -> str:
    shown = ", ".join(f"'{value}' {number:,}" for value, number in list(values.items())[:at_most])
    return shown + (f" and {len(values) - at_most} more" if len(values) > at_most else "")
