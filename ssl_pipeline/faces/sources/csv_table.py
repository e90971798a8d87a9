"""Faces listed in tables: a user's own table, or the tables of a face set."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl_pipeline.config.sources import AppaRealSource, CsvSource, FairFaceSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, clean_text, existing_folder, source_name
from ssl_pipeline.faces.sources.tables import TableFormat, TableRow, read_table


def read_csv_source(source: CsvSource, *, root: Path) -> RawFaces:
    """Read a table (CSV, Excel, Parquet). Values stay text: ``000123`` keeps its zeros, ``None`` is a value, empty is unknown.

    The column ``image_path`` (or the one that ``columns.image_path`` names) contains paths relative to the source's
    folder. Rejected are rows with too many or too few fields, and rows with an image that does not exist or lies
    outside the source's folder, links resolved. Empty lines are ignored.

    Raises:
        FaceTableError: if the table does not exist, cannot be read, or lacks rows, a header or the path column.
    """
    table = existing_folder(source, root=root) / source.table
    path_column = clean_text(source.columns.get("image_path", "image_path"))
    needed_by = f"source '{source_name(source)}' (table is relative to the source's path, which is below faces.root)"
    table_format = TableFormat(source.delimiter, source.encoding)
    header, rows = read_table(table, needed_by=needed_by, table_format=table_format)
    if path_column not in header:
        raise FaceTableError(
            f"{table}: no column '{path_column}' with the paths of the images; the header is {header}; "
            f"set columns.image_path of source '{source_name(source)}' to the right one"
        )
    columns = [column for column in header if column != path_column]
    entries = [
        Entry(
            path=row.cells.get(path_column, ""),
            values=row.fault or [row.values[column] for column in columns],
            location=f"row {row.number}: ",
        )
        for row in rows
    ]
    if not entries:
        raise FaceTableError(
            f"{table}: no rows below the header; source '{source_name(source)}' needs one row per face"
        )
    return list_by_entry(source, root=root, columns=columns, entries=entries, path_field=f"column '{path_column}': ")


def read_subset_tables(
    source: AppaRealSource | FairFaceSource, *, root: Path, name: str, columns: Sequence[str]
) -> Iterator[tuple[str, str, TableRow]]:
    """Yield (subset, location, row) of a set's tables, one table per subset.

    Args:
        source: the source.
        root: folder that the source's path is relative to.
        name: file name of a table, with ``{}`` in place of the subset.
        columns: required columns.

    Raises:
        FaceTableError: as `read_table`.
    """
    folder = existing_folder(source, root=root)
    for subset in source.subsets:
        table = name.format(subset)
        needed_by = f"source '{source_name(source)}' (subsets {list(source.subsets)})"
        _, rows = read_table(folder / table, needed_by=needed_by, columns=columns)
        for row in rows:
            yield subset, f"{table} row {row.number}: ", row
