"""CSV tables with a row a face, and image files beside them: the user's own, or a set's."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.config.sources import CsvSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.finding import Listed, find_listed
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, source_name


@dataclass(frozen=True)
class TableRow:
    """A row below the header.

    Attributes:
        number: the line on which it begins, the file's first being 1.
        values: {column: the text in it}.
        fault: what is wrong with the row as such, or None.
    """

    number: int
    values: Mapping[str, str]
    fault: str | None


def find_in_csv(source: CsvSource, *, root: Path) -> RawFaces:
    """Read the table. Every value stays the text that it is: ``000123`` keeps its zeros, ``None`` is a value.

    An empty field is unknown. The column ``image_path`` (or the one that ``columns.image_path`` names) holds paths
    relative to the source's folder. Rejected, by the line on which they begin, are rows with too many or too few
    fields, and rows whose image is not there or lies outside the source's folder, links resolved. Empty lines are
    ignored.

    Raises:
        FaceTableError: if the table is not there, is no UTF-8 CSV, or lacks rows, a header or the path column.
    """
    table = existing_folder(source, root=root) / source.table
    path_column = source.columns.get("image_path", "image_path")
    needed_by = f"source '{source_name(source)}' (table is relative to the source's path, and that to faces.root)"
    header, rows = read_table(table, needed_by=needed_by)
    if path_column not in header:
        raise FaceTableError(
            f"{table}: no column '{path_column}' to find the images by; the header has {header}; "
            f"name the right one in columns.image_path of source '{source_name(source)}'"
        )
    columns = [column for column in header if column != path_column]
    entries = [
        Listed(
            path=row.values.get(path_column, ""),
            values=row.fault or [row.values[column] for column in columns],
            place=f"row {row.number}: ",
        )
        for row in rows
    ]
    if not entries:
        raise FaceTableError(f"{table}: no rows below the header; source '{source_name(source)}' needs one a face")
    return find_listed(source, root=root, columns=columns, entries=entries, path_name=f"column '{path_column}': ")


def read_table(table: Path, *, needed_by: str, columns: Sequence[str] = ()) -> tuple[list[str], Iterator[TableRow]]:
    """Read a CSV table: its header, and the rows below, empty lines left out; every value stays text.

    Args:
        table: UTF-8, with or without a byte order mark; a quoted field may span lines.
        needed_by: who needs it, in words, for the messages.
        columns: those that the header must have.

    Raises:
        FaceTableError: if it is not there, is no UTF-8 CSV, names a column twice or lacks one of `columns`; also
            later, from the rows.
    """
    lines = _lines(table, needed_by)
    _, header = next(lines, (0, []))
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise FaceTableError(f"{table}: the header names {twice} more than once; give every column its own name")
    absent = [column for column in columns if column not in header]
    if absent:
        raise FaceTableError(f"{table}: no column {absent}; {needed_by} needs them, and the header has {header}")
    return header, (_row(number, fields, header) for number, fields in lines)


def _row(number: int, fields: list[str], header: list[str]) -> TableRow:
    fault = None if len(fields) == len(header) else f"{len(fields)} fields where the header has {len(header)}"
    return TableRow(number, dict(zip(header, fields, strict=False)), fault)


def _lines(table: Path, needed_by: str) -> Iterator[tuple[int, list[str]]]:
    """Give each row with the line on which it begins; a quoted field may span lines."""
    begins = 1
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:
                    yield begins, fields
                begins = reader.line_num + 1
    except FileNotFoundError:
        raise FaceTableError(f"{table}: no such file; {needed_by} reads its table there") from None
    except UnicodeDecodeError as error:
        raise FaceTableError(f"{table}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (csv.Error, OSError) as error:
        raise FaceTableError(f"{table}: not readable as CSV from line {begins} on ({error})") from None
