"""Label corrections: CSV tables that override what a source's own files state.

The header is ``image_id,attribute,value`` or ``person_id,attribute,value``, or has both ids, one of them filled per
row; a column ``note`` is ignored. Ids are those of the face tables, ``source:relative/path`` and ``source:person``.
``attribute`` is an attribute of the config or ``age_years``; an empty ``value`` makes it unknown. Cells may be written as
exported tables write them (`spreadsheet_cells.safe_cell`). A corrected age determines the attributes made from it; a
corrected attribute that contradicts the source's age makes the age unknown.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.sources.columns import bin_values
from ssl_pipeline.faces.sources.tables import TableRow, read_table
from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.runs.spreadsheet_cells import safe_cell

logger = logging.getLogger(__name__)

KEYS = ("image_id", "person_id")
AGE = "age_years"
_COLUMNS = (*KEYS, "attribute", "value", "note")


@dataclass(frozen=True)
class Correction:
    """One row: the value of an attribute (or age_years) of a face or person, None unknown."""

    file: str
    row: int
    key: str
    id: str
    attribute: str
    value: str | None

    def __str__(self) -> str:
        value = self.value if self.value is not None else "unknown"
        return f"{self.file} row {self.row} ({self.id}: {self.attribute} {value})"


@dataclass(frozen=True)
class CorrectionCounts:
    """Number of faces that each correction matches, [C], and number of values changed."""

    num_faces: tuple[int, ...]
    num_changed: int

    @staticmethod
    def total(counts: Sequence["CorrectionCounts"]) -> "CorrectionCounts":
        """Sum the counts of the same corrections over at least one source."""
        num_faces = tuple(sum(numbers) for numbers in zip(*(source.num_faces for source in counts), strict=True))
        return CorrectionCounts(num_faces, sum(source.num_changed for source in counts))


@dataclass(frozen=True)
class Corrected:
    """Corrected faces, the (row, column) pairs with a correction, and the counts."""

    faces: pd.DataFrame
    cells: frozenset[tuple[int, str]]
    counts: CorrectionCounts


@dataclass(frozen=True)
class Corrections:
    """C corrections without contradictions for the same face or person."""

    rows: tuple[Correction, ...] = ()

    @classmethod
    def read(cls, paths: Sequence[Path], labels: LabelsConfig) -> "Corrections":
        """Read tables of corrections.

        Raises:
            FaceTableError: listing every row that is invalid or contradicts another.
        """
        rows, faults = [], []
        for path in paths:
            header, table = read_table(path, needed_by="faces.corrections", columns=("attribute", "value"))
            unexpected = [column for column in header if column not in _COLUMNS]
            if unexpected or not set(KEYS) & set(header):
                raise FaceTableError(
                    f"{path}: expected the columns image_id or person_id, attribute, value and optionally note, got "
                    f"{header}"
                )
            for row in table:
                correction = _parse_row(row, str(path), labels)
                if isinstance(correction, str):
                    faults.append(f"{path} row {row.number}: {correction}")
                else:
                    rows.append(correction)
        first: dict[tuple[str, str, str], Correction] = {}
        for correction in rows:
            earlier = first.setdefault((correction.key, correction.id, correction.attribute), correction)
            if earlier.value != correction.value:
                faults.append(f"{correction} contradicts {earlier}")
        if faults:
            raise FaceTableError(list_of_faults("faces.corrections cannot be applied", faults))
        return cls(tuple(rows))

    def apply(self, faces: pd.DataFrame, labels: LabelsConfig) -> Corrected:
        """Correct the faces of a source.

        Args:
            faces: image_id, person_id, one column per attribute, age_years, min_age_years, max_age_years; index 0, 1, …
            labels: the attributes.

        Raises:
            FaceTableError: if the corrections of a face and its person contradict each other, or a corrected age
                contradicts a corrected attribute.
        """
        if not self.rows:
            return Corrected(faces.copy(), frozenset(), CorrectionCounts((), 0))
        return self._written_exactly(faces)._apply(faces, labels)

    def _written_exactly(self, faces: pd.DataFrame) -> "Corrections":
        """Take back the ' that an exported table puts before ids that a spreadsheet would take for formulas."""
        exact = {key: _by_safe_cell(faces[key].dropna().unique()) for key in KEYS}
        return Corrections(tuple(replace(row, id=exact[row.key].get(row.id, row.id)) for row in self.rows))

    def _apply(self, faces: pd.DataFrame, labels: LabelsConfig) -> Corrected:
        num_matches = {key: Counter(faces[key]) for key in KEYS}
        num_faces = tuple(num_matches[correction.key][correction.id] for correction in self.rows)
        by_row = self._by_row(faces, labels)
        corrected, num_changed = faces.copy(), 0
        originals = dict(zip(by_row, faces.loc[list(by_row)].to_dict("records"), strict=True))
        for row, corrections in by_row.items():
            for column, value in _changes(corrections, originals[row], labels).items():
                num_changed += not _equal(originals[row][column], value)
                corrected.loc[row, column] = value
                if column == AGE:
                    corrected.loc[row, ["min_age_years", "max_age_years"]] = value
        cells = {(row, column) for row, corrections in by_row.items() for column in corrections}
        cells |= {(row, "age_range") for row, column in cells if column == AGE}
        return Corrected(corrected, frozenset(cells), CorrectionCounts(num_faces, num_changed))

    def report(self, counts: CorrectionCounts) -> dict[str, Any]:
        """Return the content of ``corrections.json``, one entry per correction; warn of those without a match."""
        pairs = list(zip(self.rows, counts.num_faces, strict=True))
        rows = [
            {
                "file": correction.file,
                "row": correction.row,
                correction.key: correction.id,
                "attribute": correction.attribute,
                "value": correction.value,
                "faces": num_faces,
            }
            for correction, num_faces in pairs
        ]
        unmatched = [str(correction) for correction, num_faces in pairs if num_faces == 0]
        if unmatched:
            headline = f"{len(unmatched):,} corrections match no face or person of any source"
            logger.warning(list_of_faults(headline, unmatched))
        return {
            "counts": {
                "rows": len(rows),
                "applied": len(rows) - len(unmatched),
                "unmatched": len(unmatched),
                "values_changed": counts.num_changed,
            },
            "rows": rows,
        }

    def _by_row(self, faces: pd.DataFrame, labels: LabelsConfig) -> dict[int, dict[str, Correction]]:
        """Return {row of a face: {attribute or age_years: its correction}}; refuse contradictions."""
        matching_rows: dict[tuple[str, str], list[int]] = defaultdict(list)
        ids = {(correction.key, correction.id) for correction in self.rows}
        for key in KEYS:
            for row, name in enumerate(faces[key]):
                if (key, name) in ids:
                    matching_rows[key, name].append(row)
        by_row: dict[int, dict[str, Correction]] = defaultdict(dict)
        faults = []
        for correction in self.rows:
            for row in matching_rows[correction.key, correction.id]:
                other = by_row[row].setdefault(correction.attribute, correction)
                if other.value != correction.value:
                    faults.append(f"{correction} contradicts {other}")
        faults += [fault for corrections in by_row.values() for fault in _age_contradictions(corrections, labels)]
        if faults:
            raise FaceTableError(list_of_faults("faces.corrections contradict each other", sorted(set(faults))))
        return by_row


NO_CORRECTIONS = Corrections()


def digest_correction(path: Path) -> str | None:
    """Digest a table of corrections; None if it does not exist, an error that reading it reports."""
    return digest_file(path) if path.is_file() else None


def _parse_row(row: TableRow, file: str, labels: LabelsConfig) -> Correction | str:
    """Return the correction, or the reason why it is invalid."""
    if row.fault:
        return row.fault
    ids = [(key, row.values[key]) for key in KEYS if row.values.get(key)]
    if len(ids) != 1:
        return f"expected either an image_id or a person_id, got {dict(ids) or 'neither'}"
    attribute, value = row.values["attribute"], row.values["value"]
    allowed = {config.name: config.values for config in labels.attributes}
    attribute = _by_safe_cell(allowed).get(attribute, attribute)
    value = _by_safe_cell(allowed.get(attribute, ())).get(value, value)
    if attribute == AGE:
        age = math.nan
        with suppress(ValueError):
            age = float(value or 0)
        if not 0 <= age < math.inf:
            return f"column 'value': expected an age in years, got '{value}'"
        value = str(age) if value else ""
    elif attribute not in allowed:
        return f"column 'attribute': expected one of {[*allowed, AGE]}, got '{attribute}'"
    elif value and value not in allowed[attribute]:
        return f"column 'value': expected one of {list(allowed[attribute])} or nothing, got '{value}'"
    key, name = ids[0]
    return Correction(file=file, row=row.number, key=key, id=name, attribute=attribute, value=value or None)


def _by_safe_cell(names: Iterable[str]) -> dict[str, str]:
    """Return {name as an exported table writes it: name} of the names that it writes otherwise."""
    return {safe: name for name in names if (safe := safe_cell(name)) != name}


def _age_contradictions(corrections: dict[str, Correction], labels: LabelsConfig) -> list[str]:
    """List the corrected attributes of one face that contradict its corrected age."""
    age = corrections.get(AGE)
    if age is None or age.value is None:
        return []
    return [
        f"{correction} contradicts {age}"
        for attribute in labels.made_from_age
        if (correction := corrections.get(attribute.name))
        and correction.value not in (None, _value_of_ages(float(age.value), float(age.value), attribute))
    ]


def _changes(corrections: dict[str, Correction], face: Mapping[Any, Any], labels: LabelsConfig) -> dict[str, Any]:
    """Return {column: new value} for one face, including the consequences for age and the attributes made from it."""
    changes: dict[str, Any] = {name: correction.value for name, correction in corrections.items() if name != AGE}
    if AGE in corrections:
        text = corrections[AGE].value
        age = changes[AGE] = math.nan if text is None else float(text)
        for attribute in labels.made_from_age:
            changes.setdefault(attribute.name, _value_of_ages(age, age, attribute))
        return changes
    for attribute in labels.made_from_age:
        known = _value_of_ages(face["min_age_years"], face["max_age_years"], attribute)
        if attribute.name in corrections and known not in (None, corrections[attribute.name].value):
            changes[AGE] = math.nan
    return changes


def _value_of_ages(lower: float, upper: float, attribute: AttributeConfig) -> str | None:
    """Return the value whose bin contains both ages in years; None if there is none, or for NaN."""
    return bin_values([lower], [upper], attribute, default=[None])[0]


def _equal(old: Any, new: Any) -> bool:
    return bool(pd.isna(old) and pd.isna(new)) or bool(old == new)
