"""A CSV table with a row a face, and image files beside it."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssl_pipeline.config import CsvSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw import RawFaces, Rejection, existing_folder, source_name


def find_in_csv(source: CsvSource, *, root: Path) -> RawFaces:
    """Read the table. Every value stays the text that it is: ``000123`` keeps its zeros, ``None`` is a value.

    An empty field is unknown. The column ``image_path`` (or the one that ``columns.image_path`` names) holds paths
    relative to the source's folder. Rejected, by the line on which they begin, are rows with too many or too few
    fields, and rows whose image is not there or lies outside the source's folder, links resolved. Empty lines are
    ignored.

    Raises:
        FaceTableError: if the table is not there, is no UTF-8 CSV, or lacks rows, a header or the path column.
    """
    folder = existing_folder(source, root=root)
    table = folder / source.table
    lines = _lines(table, source)
    _, header = next(lines, (0, []))
    path_column = _check_header(header, table, source)
    rejected = []
    paths, places = [], []
    columns: dict[str, list[str | None]] = {column: [] for column in header if column != path_column}
    real_folder = Path(os.path.realpath(folder))
    for number, fields in lines:
        place = f"row {number}: "
        path = fields[header.index(path_column)] if header.index(path_column) < len(fields) else ""
        if len(fields) != len(header):
            rejected.append(Rejection(path, f"{place}{len(fields)} fields where the header has {len(header)}"))
        elif fault := _path_fault(path, folder=folder, real_folder=real_folder):
            rejected.append(Rejection(path, f"{place}column '{path_column}': {fault}"))
        else:
            paths.append(_normal(path, folder))
            places.append(place)
            for column, value in zip(header, fields, strict=True):
                if column != path_column:
                    columns[column].append(value)
    if not paths and not rejected:
        raise FaceTableError(f"{table}: no rows below the header; source '{source_name(source)}' needs one a face")
    return RawFaces(paths=paths, columns=columns, rejected=rejected, places=places)


def _lines(table: Path, source: CsvSource) -> Iterator[tuple[int, list[str]]]:
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
        raise FaceTableError(
            f"{table}: no such file; source '{source_name(source)}' reads its table there (table is relative to the "
            "source's path, and that to faces.root)"
        ) from None
    except UnicodeDecodeError as error:
        raise FaceTableError(f"{table}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (csv.Error, OSError) as error:
        raise FaceTableError(f"{table}: not readable as CSV from line {begins} on ({error})") from None


def _check_header(header: list[str], table: Path, source: CsvSource) -> str:
    """Give the name of the path column, once the header is known to be sound."""
    path_column = source.columns.get("image_path", "image_path")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise FaceTableError(f"{table}: the header names {twice} more than once; give every column its own name")
    if path_column not in header:
        raise FaceTableError(
            f"{table}: no column '{path_column}' to find the images by; the header has {header}; "
            f"name the right one in columns.image_path of source '{source_name(source)}'"
        )
    return path_column


def _normal(path: str, folder: Path) -> str:
    """Give a path relative to the folder, without ``.`` and ``..``; one that lies outside begins with ``..``."""
    return PurePosixPath(os.path.relpath(os.path.normpath(folder / path), os.path.normpath(folder))).as_posix()


def _path_fault(path: str, *, folder: Path, real_folder: Path) -> str | None:
    """Say why a path cannot be an image of this source, or None."""
    if not path:
        return "expected the path of an image, got nothing"
    if "\0" in path:
        return "a path cannot hold the character NUL"
    inside = _normal(path, folder)
    if inside.split("/")[0] == ".." or not Path(os.path.realpath(folder / inside)).is_relative_to(real_folder):
        return f"'{path}' lies outside {folder}; images must lie inside the source's path"
    if not (folder / inside).is_file():
        return f"no such file {folder / inside} (paths are relative to {folder})"
    return None
