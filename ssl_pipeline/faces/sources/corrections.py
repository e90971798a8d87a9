"""Labels put right by hand: a CSV of what is wrong in a set, laid over what its source says.

The header is ``image_id,attribute,value`` or ``person_id,attribute,value``, or has both of the first two, of which each
row then fills one; a column ``note`` is for people and ignored. The ids are those of the face tables,
``source:relative/path`` and ``source:person``. ``attribute`` is one of the config's, or ``age_years``; an empty
``value`` makes it unknown. An age gives every attribute that is made from it; an attribute that contradicts the age
that the source knows makes the age unknown.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.sources.columns import binned
from ssl_pipeline.faces.sources.csv_table import TableRow, read_table
from ssl_pipeline.runs.files import digest_file

logger = logging.getLogger(__name__)

KEYS = ("image_id", "person_id")
AGE = "age_years"
_COLUMNS = (*KEYS, "attribute", "value", "note")


@dataclass(frozen=True)
class Correction:
    """One row: the face or person whose attribute (or age_years) has a value, None unknown."""

    file: str
    row: int
    key: str
    id: str
    attribute: str
    value: str | None


@dataclass(frozen=True)
class CorrectionCounts:
    """What corrections came to: the faces that each of them named, [C], and the values that became others."""

    num_faces: tuple[int, ...]
    num_changed: int

    @staticmethod
    def total(counts: Sequence["CorrectionCounts"]) -> "CorrectionCounts":
        """Add up what the same corrections came to in several sources, at least one."""
        num_faces = tuple(sum(numbers) for numbers in zip(*(of.num_faces for of in counts), strict=True))
        return CorrectionCounts(num_faces, sum(of.num_changed for of in counts))


@dataclass(frozen=True)
class Corrected:
    """Faces after correction, the (row, column) pairs that a correction named, and the counts."""

    faces: pd.DataFrame
    cells: frozenset[tuple[int, str]]
    counts: CorrectionCounts


@dataclass(frozen=True)
class Corrections:
    """C corrections, none of which contradicts another of the same face or person."""

    rows: tuple[Correction, ...] = ()

    @classmethod
    def read(cls, paths: Sequence[Path], labels: LabelsConfig) -> "Corrections":
        """Read tables of corrections.

        Raises:
            FaceTableError: naming every row that cannot be understood, or contradicts another.
        """
        rows, faults = [], []
        for path in paths:
            header, table = read_table(path, needed_by="faces.corrections", columns=("attribute", "value"))
            strange = [column for column in header if column not in _COLUMNS]
            if strange or not set(KEYS) & set(header):
                raise FaceTableError(
                    f"{path}: expected the columns image_id or person_id, attribute, value and at will note, got {header}"
                )
            for row in table:
                read = _read_row(row, str(path), labels)
                if isinstance(read, str):
                    faults.append(f"{path} row {row.number}: {read}")
                else:
                    rows.append(read)
        faults += _contradictions(rows)
        if faults:
            raise FaceTableError(list_of_faults("faces.corrections cannot be applied", faults))
        return cls(tuple(rows))

    def apply(self, faces: pd.DataFrame, labels: LabelsConfig) -> Corrected:
        """Correct the faces of a source.

        Args:
            faces: image_id, person_id, one column an attribute, age_years, age_least, age_most; numbered from 0.
            labels: the attributes.

        Raises:
            FaceTableError: if a face's correction contradicts its person's, or a corrected age a corrected attribute.
        """
        counted = {key: Counter(faces[key]) if self.rows else Counter() for key in KEYS}
        num_faces = tuple(counted[correction.key][correction.id] for correction in self.rows)
        named = self._by_face(faces, labels)
        corrected, num_changed = faces.copy(), 0
        known = dict(zip(named, faces.loc[list(named)].to_dict("records"), strict=True))
        for row, corrections in named.items():
            for column, value in _consequences(corrections, known[row], labels).items():
                num_changed += not _same(known[row][column], value)
                corrected.loc[row, column] = value
                if column == AGE:
                    corrected.loc[row, ["age_least", "age_most"]] = value
        cells = {(row, column) for row, corrections in named.items() for column in corrections}
        cells |= {(row, "age_range") for row, column in cells if column == AGE}
        return Corrected(corrected, frozenset(cells), CorrectionCounts(num_faces, num_changed))

    def account(self, counts: CorrectionCounts) -> dict[str, Any]:
        """Tell what became of every correction, as it is written to a run's ``corrections.json``; warn of the idle."""
        rows = [
            {
                "file": of.file,
                "row": of.row,
                of.key: of.id,
                "attribute": of.attribute,
                "value": of.value,
                "faces": number,
            }
            for of, number in zip(self.rows, counts.num_faces, strict=True)
        ]
        idle = [_place(of) for of, number in zip(self.rows, counts.num_faces, strict=True) if number == 0]
        if idle:
            logger.warning(list_of_faults(f"{len(idle):,} corrections match no face or person of any source", idle))
        return {
            "counts": {
                "rows": len(rows),
                "applied": len(rows) - len(idle),
                "unmatched": len(idle),
                "values_changed": counts.num_changed,
            },
            "rows": rows,
        }

    def _by_face(self, faces: pd.DataFrame, labels: LabelsConfig) -> dict[int, dict[str, Correction]]:
        """Give {row: {attribute or age_years: its correction}}, once it is known that none contradicts another."""
        rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
        ids = {(correction.key, correction.id) for correction in self.rows}
        for key in KEYS if ids else ():
            for row, name in enumerate(faces[key]):
                if (key, name) in ids:
                    rows_of[key, name].append(row)
        named: dict[int, dict[str, Correction]] = defaultdict(dict)
        faults = []
        for correction in self.rows:
            for row in rows_of[correction.key, correction.id]:
                other = named[row].setdefault(correction.attribute, correction)
                if other.value != correction.value:
                    faults.append(f"{_place(correction)} contradicts {_place(other)}")
        faults += [fault for corrections in named.values() for fault in _age_contradictions(corrections, labels)]
        if faults:
            raise FaceTableError(list_of_faults("faces.corrections contradict each other", sorted(set(faults))))
        return named


NO_CORRECTIONS = Corrections()


def digest_correction(path: Path) -> str | None:
    """Digest a table of corrections; None where there is none, which reading it says better."""
    return digest_file(path) if path.is_file() else None


def _read_row(row: TableRow, file: str, labels: LabelsConfig) -> Correction | str:
    if row.fault:
        return row.fault
    given = [(key, row.values[key]) for key in KEYS if row.values.get(key)]
    if len(given) != 1:
        return f"expected an image_id or a person_id, and not both, got {dict(given) or 'neither'}"
    attribute, value = row.values["attribute"], row.values["value"]
    values_of = {known.name: known.values for known in labels.attributes}
    if attribute == AGE:
        number = math.nan
        with suppress(ValueError):
            number = float(value or 0)
        if not 0 <= number < math.inf:
            return f"column 'value': expected an age in years, got '{value}'"
        value = str(number) if value else ""
    elif attribute not in values_of:
        return f"column 'attribute': expected one of {[*values_of, AGE]}, got '{attribute}'"
    elif value and value not in values_of[attribute]:
        return f"column 'value': expected one of {list(values_of[attribute])} or nothing, got '{value}'"
    key, name = given[0]
    return Correction(file=file, row=row.number, key=key, id=name, attribute=attribute, value=value or None)


def _contradictions(rows: Sequence[Correction]) -> list[str]:
    """Name the rows that say something else of the same face or person than an earlier one."""
    first: dict[tuple[str, str, str], Correction] = {}
    faults = []
    for correction in rows:
        earlier = first.setdefault((correction.key, correction.id, correction.attribute), correction)
        if earlier.value != correction.value:
            faults.append(f"{_place(correction)} contradicts {_place(earlier)}")
    return faults


def _age_contradictions(corrections: dict[str, Correction], labels: LabelsConfig) -> list[str]:
    """Name the corrected attributes of one face that its corrected age contradicts."""
    age = corrections.get(AGE)
    if age is None or age.value is None:
        return []
    return [
        f"{_place(other)} contradicts {_place(age)}"
        for attribute in labels.made_from_age
        if (other := corrections.get(attribute.name))
        and other.value not in (None, _value_at(float(age.value), attribute))
    ]


def _consequences(corrections: dict[str, Correction], face: Mapping[Any, Any], labels: LabelsConfig) -> dict[str, Any]:
    """Give {column: value} of what corrections of one face change, what follows from an age included."""
    changes: dict[str, Any] = {name: of.value for name, of in corrections.items() if name != AGE}
    if AGE in corrections:
        text = corrections[AGE].value
        changes[AGE] = math.nan if text is None else float(text)
        for attribute in labels.made_from_age:
            changes.setdefault(attribute.name, None if text is None else _value_at(float(text), attribute))
    elif any(
        attribute.name in corrections and _known_range(face, attribute) not in (None, corrections[attribute.name].value)
        for attribute in labels.made_from_age
    ):
        changes[AGE] = math.nan
    return changes


def _value_at(age: float, attribute: AttributeConfig) -> str | None:
    return binned([age], [age], attribute, otherwise=[None])[0]


def _known_range(face: Mapping[Any, Any], attribute: AttributeConfig) -> str | None:
    return binned([face["age_least"]], [face["age_most"]], attribute, otherwise=[None])[0]


def _same(old: Any, new: Any) -> bool:
    return bool(pd.isna(old) and pd.isna(new)) or bool(old == new)


def _place(correction: Correction) -> str:
    value = correction.value if correction.value is not None else "unknown"
    return f"{correction.file} row {correction.row} ({correction.id}: {correction.attribute} {value})"
