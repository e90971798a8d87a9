"""FairFace: a table a subset, ages as ranges, seven origins."""

import re
from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import FairFaceSource
from ssl_pipeline.faces.sources.csv_table import TableRow, read_table
from ssl_pipeline.faces.sources.finding import Listed, Values, find_listed
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, source_name

COLUMNS = ("gender", "age_range", "origin")
GENDERS = {"Male": "male", "Female": "female"}

_AGES = re.compile(r"([0-9]+-[0-9]+)|more than ([0-9]+)")


def find_fairface(source: FairFaceSource, *, root: Path) -> RawFaces:
    """Read ``fairface_label_{train,val}.csv``: file, age, gender, race; other columns are ignored.

    An age is a range as ``20-29`` or ``more than 70``, so that it gives an attribute made from age_years where the
    whole range lies in one value's, and leaves it unknown elsewhere. Origins become ``east_asian``,
    ``southeast_asian``, ``indian``, ``black``, ``white``, ``middle_eastern`` and ``latino_hispanic``. Rows with another
    gender or age are rejected. Nobody is named, so each image is a person of its own.

    Raises:
        FaceTableError: if a subset's table is not there, or lacks a column.
    """
    return find_listed(source, root=root, columns=COLUMNS, entries=_entries(source, existing_folder(source, root=root)))


def _entries(source: FairFaceSource, folder: Path) -> Iterator[Listed]:
    for subset in source.subsets:
        table = f"fairface_label_{subset}.csv"
        needed_by = f"source '{source_name(source)}' (subsets {list(source.subsets)})"
        _, rows = read_table(folder / table, needed_by=needed_by, columns=("file", "age", "gender", "race"))
        for row in rows:
            yield Listed(row.values.get("file", ""), row.fault or _values(row), place=f"{table} row {row.number}: ")


def _values(row: TableRow) -> Values | str:
    age, gender = row.values["age"], row.values["gender"]
    ages = _AGES.fullmatch(age)
    if ages is None:
        return f"column 'age': expected a range as 20-29 or 'more than 70', got '{age}'"
    if gender not in GENDERS:
        return f"column 'gender': expected Male or Female, got '{gender}'"
    origin = re.sub(r"[^a-z]+", "_", row.values["race"].lower())
    return GENDERS[gender], ages[1] or f"{ages[2]}+", origin
