"""FairFace: one table per subset; ages are ranges, and there are seven origins."""

import re
from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import FairFaceSource
from ssl_pipeline.faces.sources.csv_table import read_subset_tables
from ssl_pipeline.faces.sources.listing import list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, Values, existing_folder
from ssl_pipeline.faces.sources.tables import TableRow

GENDERS = {"Male": "male", "Female": "female"}

_AGES = re.compile(r"([0-9]+-[0-9]+)|more than ([0-9]+)")


def read_fairface(source: FairFaceSource, *, root: Path) -> RawFaces:
    """Read the columns file, age, gender and race of ``fairface_label_{train,val}.csv``.

    Ages are ranges, ``20-29`` or ``more than 70``. An attribute made from age_years is known if one of its values
    contains the whole range. Origins become ``east_asian``, ``southeast_asian``, ``indian``, ``black``, ``white``,
    ``middle_eastern`` and ``latino_hispanic``. Every image is a different person.

    Raises:
        FaceTableError: if a subset's table does not exist or lacks a column.
    """
    columns = ("gender", "age_range", "origin")
    return list_by_entry(source, root=root, columns=columns, entries=_entries(source, root))


def _entries(source: FairFaceSource, root: Path) -> Iterator[Entry]:
    columns = ("file", "age", "gender", "race")
    folder = existing_folder(source, root=root)
    for subset, location, row in read_subset_tables(source, root=root, name="fairface_label_{}.csv", columns=columns):
        path = row.values.get("file", "")
        if path and "/" not in path and not (folder / path).exists():
            path = f"{subset}/{path}"  # some copies name the file without its folder
        yield Entry(path, row.fault or _values(row), location)


def _values(row: TableRow) -> Values | str:
    age, gender = row.values["age"], row.values["gender"]
    ages = _AGES.fullmatch(age)
    if ages is None:
        return f"column 'age': expected a range, e.g. '20-29' or 'more than 70', got '{age}'"
    if gender not in GENDERS:
        return f"column 'gender': expected Male or Female, got '{gender}'"
    origin = re.sub(r"[^a-z]+", "_", row.values["race"].lower())
    return GENDERS[gender], ages[1] or f"{ages[2]}+", origin
