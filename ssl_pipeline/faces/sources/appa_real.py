"""APPA-REAL: real ages, and apparent ages as estimated by people; no gender."""

from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import AppaRealSource
from ssl_pipeline.faces.sources.csv_table import read_subset_tables
from ssl_pipeline.faces.sources.listing import list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces

AGE_COLUMNS = {"real": "real_age", "apparent": "apparent_age_avg"}


def read_appa_real(source: AppaRealSource, *, root: Path) -> RawFaces:
    """Read ``gt_avg_{train,valid,test}.csv``, one row per image (``gt_*.csv``, one row per rating, is ignored).

    The image is the set's own crop of ``{subset}/X.jpg``, ``{subset}/X.jpg_face.jpg``; a row without it is rejected.
    The subsets share file names, so an image id includes the folder. Every image is a different person.

    Raises:
        FaceTableError: if a subset's table does not exist or lacks a column.
    """
    return list_by_entry(source, root=root, columns=("age_years",), entries=_entries(source, root))


def _entries(source: AppaRealSource, root: Path) -> Iterator[Entry]:
    age_column = AGE_COLUMNS[source.age]
    columns = ("file_name", age_column)
    for subset, location, row in read_subset_tables(source, root=root, name="gt_avg_{}.csv", columns=columns):
        path = f"{subset}/{row.values.get('file_name', '')}_face.jpg"
        yield Entry(path, row.fault or [row.values[age_column]], location)
