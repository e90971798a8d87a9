"""Tables with one row per face, as text: CSV in any delimiter and encoding, Excel (xlsx) and Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import image_columns, member_of_row
from ssl_pipeline.faces.encodings import guess_encoding
from ssl_pipeline.faces.sources.raw_faces import clean_text

DELIMITERS = (",", ";", "\t")
_GUESS_BYTES = 2**16


@dataclass(frozen=True)
class TableFormat:
    """How to read a delimited table; None detects the delimiter from the header, and takes UTF-8."""

    delimiter: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A row below the header.

    Attributes:
        number: line on which the row begins, counted from 1; in a Parquet table, its row.
        cells: {column: its text as it stands}.
        fault: reason why the row is malformed, or None.
        values: {column: its text in NFC, without blanks around it}.
    """

    number: int
    cells: Mapping[str, str]
    fault: str | None
    values: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {column: clean_text(text) for column, text in self.cells.items()})


def read_table(
    table: Path, *, needed_by: str, columns: Sequence[str] = (), table_format: TableFormat | None = None
) -> tuple[list[str], Iterator[TableRow]]:
    """Read a table as text: its header, and its rows without empty lines. Its kind follows from its content.

    Args:
        table: a delimited text (a quoted field may span lines), an Excel workbook (its first sheet) or a Parquet file.
        needed_by: the part of the config that needs the table, for messages.
        columns: required columns.
        table_format: of a delimited text.

    Raises:
        FaceTableError: if the table does not exist or cannot be read, repeats a column or lacks one of `columns`; also
            while iterating over the rows.
    """
    lines = _read_lines(table, needed_by, table_format or TableFormat())
    _, header = next(lines, (0, []))
    header = [clean_text(column) for column in header]
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


def _read_lines(table: Path, needed_by: str, table_format: TableFormat) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each row, the header first."""
    try:
        with open(table, "rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise FaceTableError(f"{table}: no such file; {needed_by} needs this table") from None
    except OSError as error:
        raise FaceTableError(f"{table}: cannot be read ({error.strerror or error})") from None
    kind = {b"PAR1": "Parquet", b"PK\x03\x04": "an Excel workbook"}.get(head, "CSV")
    readers: dict[str, Callable[[], Iterable[tuple[int, list[str]]]]] = {
        "Parquet": lambda: _parquet_rows(table),
        "an Excel workbook": lambda: _excel_rows(table),
        "CSV": lambda: _delimited_rows(table, table_format, head),
    }
    number = 0
    try:
        for number, fields in readers[kind]():
            yield number, fields
    except UnicodeDecodeError as error:
        raise FaceTableError(_wrong_encoding(table, error)) from None
    except (csv.Error, OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise FaceTableError(
            f"{table}: not readable as {kind} from line {number + 1} on ({error}); correct the file"
        ) from None


def _delimited_rows(table: Path, table_format: TableFormat, head: bytes) -> Iterator[tuple[int, list[str]]]:
    is_utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")  # Excel's "Unicode text"
    encoding = table_format.encoding or ("utf-16" if is_utf16 else "utf-8-sig")
    with open(table, newline="", encoding=encoding) as file:
        delimiter = table_format.delimiter or _detect_delimiter(file)
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        first_line = 1
        for fields in reader:
            if any(fields):
                yield first_line, fields
            first_line = reader.line_num + 1


def _detect_delimiter(file: io.TextIOWrapper) -> str:
    """Return the delimiter that splits the first line into most fields; a comma if none does."""
    line = file.readline()
    file.seek(0)

    def num_fields(delimiter: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=delimiter), []))
        except csv.Error:
            return 0

    return max(DELIMITERS, key=num_fields)


def _excel_rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise FaceTableError(
            f"{table}: an Excel workbook; install the extra: pip install 'ssl-pipeline[xlsx]', or save it as CSV"
        ) from None
    try:
        sheet = load_workbook(io.BytesIO(table.read_bytes()), read_only=True, data_only=True).worksheets[0]
    except Exception as error:  # zipfile, XML and openpyxl's own errors
        raise FaceTableError(f"{table}: not readable as an Excel workbook ({error}); save it as CSV") from None
    width = 0
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        texts = [_cell_text(cell) for cell in cells]
        while texts and not texts[-1]:
            texts.pop()  # a sheet is as wide as its widest row
        if texts:
            width = width or len(texts)
            yield number, texts + [""] * (width - len(texts))


def _cell_text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # Excel keeps whole numbers as floats
    return str(cell)


def _parquet_rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows; a cell with an image is the image's path, see `archives`."""
    file = pq.ParquetFile(table)
    schema, images = file.schema_arrow, image_columns(file.schema_arrow)
    plain = [field.name for field in schema if not pa.types.is_nested(field.type) and field.name not in images]
    class_names = _class_names(schema)
    yield 0, [*plain, *images]
    number = 0
    for batch in file.iter_batches(columns=plain):
        columns = [
            _named_classes(column.to_pylist(), class_names.get(name))
            for name, column in zip(plain, batch.columns, strict=True)
        ]
        for index in range(batch.num_rows):
            members = [str(table / member_of_row(image, number)) for image in images]
            number += 1
            yield number, [*(column[index] for column in columns), *members]


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return {column: names of its numbers} of a Hugging Face data set, which keeps classes as numbers from 0."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _named_classes(cells: Sequence[object], names: Sequence[str] | None) -> list[str]:
    """Return the cells as text; a number becomes its class's name, -1 unknown."""
    if names is None:
        return [_cell_text(cell) for cell in cells]
    return [
        "" if cell in (None, -1) else names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else str(cell)
        for cell in cells
    ]


def columns_with_images(table: Path) -> list[str]:
    """Return the columns of a Parquet table that hold images; none of another table, or if it cannot be read."""
    try:
        with open(table, "rb") as file:
            return image_columns(pq.read_schema(table)) if file.read(4) == b"PAR1" else []
    except (OSError, pa.ArrowException):
        return []


def _wrong_encoding(table: Path, error: UnicodeDecodeError) -> str:
    guess = guess_encoding(table.read_bytes()[:_GUESS_BYTES]) if error.encoding.startswith("utf") else None
    cure = (
        f"set the source's encoding, probably {guess}" if guess else "set the source's encoding, e.g. cp949 or cp1252"
    )
    name = "UTF-8" if error.encoding.startswith("utf-8") else error.encoding
    return f"{table}: not {name} ({error.reason} at byte {error.start}); {cure}, or save the table as UTF-8"
