"""CSV tables with one row per face: a user's own, or a face set's."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.config.sources import AppaRealSource, CsvSource, FairFaceSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, existing_folder, source_name


@dataclass(frozen=True)
class TableRow:
    """A row below the header.

    Attributes:
        number: line on which the row begins, counted from 1.
        values: {column: its text}.
        fault: reason why the row is malformed, or None.
    """

    number: int
    values: Mapping[str, str]
    fault: str | None


def read_csv_source(source: CsvSource, *, root: Path) -> RawFaces:
    """Read a CSV source. Values stay text: ``000123`` keeps its zeros, ``None`` is a value, empty is unknown.

    The column ``image_path`` (or the one that ``columns.image_path`` names) contains paths relative to the source's
    folder. Rejected are rows with too many or too few fields, and rows with an image that does not exist or lies
    outside the source's folder, links resolved. Empty lines are ignored.

    Raises:
        FaceTableError: if the table does not exist, is not a UTF-8 CSV, or lacks rows, a header or the path column.
    """
    table = existing_folder(source, root=root) / source.table
    path_column = source.columns.get("image_path", "image_path")
    needed_by = f"source '{source_name(source)}' (table is relative to the source's path, which is below faces.root)"
    header, rows = read_table(table, needed_by=needed_by)
    if path_column not in header:
        raise FaceTableError(
            f"{table}: no column '{path_column}' with the paths of the images; the header is {header}; "
            f"set columns.image_path of source '{source_name(source)}' to the right one"
        )
    columns = [column for column in header if column != path_column]
    entries = [
        Entry(
            path=row.values.get(path_column, ""),
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


def read_table(table: Path, *, needed_by: str, columns: Sequence[str] = ()) -> tuple[list[str], Iterator[TableRow]]:
    """Read a CSV table as text: its header, and its rows without empty lines.

    Args:
        table: UTF-8, with or without a byte order mark; a quoted field may span lines.
        needed_by: the part of the config that needs the table, for messages.
        columns: required columns.

    Raises:
        FaceTableError: if the table does not exist, is not a UTF-8 CSV, repeats a column or lacks one of `columns`;
            also while iterating over the rows.
    """
    lines = _read_fields(table, needed_by)
    _, header = next(lines, (0, []))
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise FaceTableError(f"{table}: the header contains {repeated} more than once; rename one of them")
    missing = [column for column in columns if column not in header]
    if missing:
        raise FaceTableError(f"{table}: no column {missing}; {needed_by} needs it; the header is {header}")
    return header, (_row(number, fields, header) for number, fields in lines)


def _row(number: int, fields: list[str], header: list[str]) -> TableRow:
    fault = None if len(fields) == len(header) else f"{len(fields)} fields where the header has {len(header)}"
    return TableRow(number, dict(zip(header, fields, strict=False)), fault)


def _read_fields(table: Path, needed_by: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row begins, and its fields."""
    first_line = 1
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:
                    yield first_line, fields
                first_line = reader.line_num + 1
    except FileNotFoundError:
        raise FaceTableError(f"{table}: no such file; {needed_by} needs this table") from None
    except UnicodeDecodeError as error:
        raise FaceTableError(f"{table}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (csv.Error, OSError) as error:
        raise FaceTableError(
            f"{table}: not readable as CSV from line {first_line} on ({error}); correct the file"
        ) from None
