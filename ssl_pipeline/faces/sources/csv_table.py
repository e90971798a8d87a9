"""Faces listed in tables: a user's own table, or the tables of a face set."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl_pipeline.config.sources import AppaRealSource, CsvSource, FairFaceSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, clean_text, existing_folder, source_name
from ssl_pipeline.faces.sources.tables import TableFormat, TableRow, columns_with_images, read_table


def read_csv_source(source: CsvSource, *, root: Path) -> RawFaces:
    """Read a table (CSV, Excel, Parquet). Values stay text: ``000123`` keeps its zeros, ``None`` is a value, empty is unknown.

    The column ``image_path`` (or the one that ``columns.image_path`` names) contains paths relative to the source's
    folder, or, in Parquet, the images themselves; there the first column of images is the default. Rejected are rows with too many or too few fields, and rows with an image that does not exist or lies
    outside the source's folder, links resolved. Empty lines are ignored.

    Raises:
        FaceTableError: if the table does not exist, cannot be read, or lacks rows, a header or the path column.
    """
    folder = existing_folder(source, root=root)
    tables = matching_tables(source, folder)
    needed_by = f"source '{source_name(source)}' (table is relative to the source's path, which is below faces.root)"
    table_format = TableFormat(source.delimiter, source.encoding)
    header, entries, path_column = [], [], ""
    for number, table in enumerate(tables):
        own_header, rows = read_table(table, needed_by=needed_by, table_format=table_format)
        if number == 0:
            header, path_column = own_header, _path_column(source, table, own_header)
            columns = [column for column in header if column != path_column]
        elif sorted(own_header) != sorted(header):
            raise FaceTableError(
                f"{table}: its header {own_header} is not that of {tables[0]}, {header}; a source's tables need the same "
                "columns: make two sources of them"
            )
        prefix = f"{table.name} " if len(tables) > 1 else ""
        entries += [
            Entry(
                path=row.cells.get(path_column, ""),
                values=row.fault or [row.values[column] for column in columns],
                location=f"{prefix}row {row.number}: ",
            )
            for row in rows
        ]
    if not entries:
        raise FaceTableError(
            f"{tables[0]}: no rows below the header; source '{source_name(source)}' needs one row per face"
        )
    return list_by_entry(source, root=root, columns=columns, entries=entries, path_field=f"column '{path_column}': ")


def matching_tables(source: CsvSource, folder: Path) -> list[Path]:
    """Return the tables of a source, sorted: the one that `table` names, or all that fit if it has a ``*``.

    Raises:
        FaceTableError: if none fits.
    """
    if "*" not in str(source.table):
        return [folder / source.table]
    if tables := sorted(folder.glob(str(source.table))):
        return tables
    raise FaceTableError(
        f"{folder / source.table}: no file fits this pattern; source '{source_name(source)}' needs a table"
    )


def _path_column(source: CsvSource, table: Path, header: Sequence[str]) -> str:
    column = clean_text(source.columns.get("image_path", "image_path"))
    if column in header:
        return column
    if "image_path" not in source.columns and (images := columns_with_images(table)):
        return images[0]
    raise FaceTableError(
        f"{table}: no column '{column}' with the paths of the images; the header is {list(header)}; "
        f"set columns.image_path of source '{source_name(source)}' to the right one"
    )


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
