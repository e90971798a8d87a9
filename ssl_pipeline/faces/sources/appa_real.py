"""APPA-REAL: real ages, and ages as people saw them; no gender."""

from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import AppaRealSource
from ssl_pipeline.faces.sources.csv_table import read_table
from ssl_pipeline.faces.sources.finding import Listed, find_listed
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, source_name

AGE_COLUMNS = {"real": "real_age", "apparent": "apparent_age_avg"}


def find_appa_real(source: AppaRealSource, *, root: Path) -> RawFaces:
    """Read ``gt_avg_{train,valid,test}.csv``, one row an image (``gt_*.csv`` has one a rating and is not read).

    Of ``{subset}/X.jpg`` the set's own crop is taken, ``{subset}/X.jpg_face.jpg``; a row without one is rejected.
    The subsets name their images alike in places, so that the folder belongs to an image's id. Nobody is named, so
    each image is a person of its own.

    Raises:
        FaceTableError: if a subset's table is not there, or lacks a column.
    """
    entries = _entries(source, existing_folder(source, root=root))
    return find_listed(source, root=root, columns=("age_years",), entries=entries)


def _entries(source: AppaRealSource, folder: Path) -> Iterator[Listed]:
    age_column = AGE_COLUMNS[source.age]
    for subset in source.subsets:
        table = f"gt_avg_{subset}.csv"
        needed_by = f"source '{source_name(source)}' (subsets {list(source.subsets)})"
        _, rows = read_table(folder / table, needed_by=needed_by, columns=("file_name", age_column))
        for row in rows:
            path = f"{subset}/{row.values.get('file_name', '')}_face.jpg"
            values = row.fault or [row.values[age_column]]
            yield Listed(path, values, place=f"{table} row {row.number}: ")
