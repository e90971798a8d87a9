"""Images to predict, in a fixed order: the files below a folder, one image, or a list of paths."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw_faces import is_image_name, list_files

LIST_SUFFIXES = (".txt", ".csv")


@dataclass(frozen=True, slots=True)
class ImageFile:
    r"""An image to predict, or the reason why there is none to open.

    Attributes:
        name: its path in tables: relative to the folder, or as written in the list. Bytes that are not UTF-8 are
            escaped, e.g. ``\xe9``.
        path: the file to open.
        fault: why there is no file to open; None if there is one.
    """

    name: str
    path: str
    fault: str | None = None


def find_images(images: Path) -> list[ImageFile]:
    """Find images, in the same order each time. The list of paths is all that grows in memory with their number.

    In a folder, files with an image suffix are found at any depth, sorted by path (see `list_files`); a folder that
    cannot be listed is one fault. A list is a ``.txt`` file with one path per line, or a ``.csv`` file with a column
    ``image_path``; its paths are relative to the list's folder. Any other file is one image, whatever its name.

    Raises:
        FaceTableError: if `images` does not exist, or is a list that cannot be read.
    """
    if images.is_dir():
        return _images_in_folder(images)
    if not images.exists():
        raise FaceTableError(f"{images}: no such folder, image or list of images")
    if images.suffix.lower() in LIST_SUFFIXES:
        return list(_listed_images(images))
    return [ImageFile(_escaped(images.name), str(images))]


def _images_in_folder(folder: Path) -> list[ImageFile]:
    faults: dict[str, str] = {}

    def note_fault(path: str, error: OSError) -> None:
        faults[path] = f"this folder cannot be listed ({error.strerror or error})"

    paths = [path for path in list_files(folder, on_error=note_fault) if is_image_name(path)]
    return [
        ImageFile(_escaped(path or "."), os.path.join(folder, path), faults.get(path))  # noqa: PTH118 - faster than Path
        for path in sorted([*paths, *faults])
    ]


def _listed_images(table: Path) -> Iterator[ImageFile]:
    folder = str(table.parent)
    try:
        with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, path in _csv_paths(file, table) if table.suffix.lower() == ".csv" else _txt_paths(file):
                if path:
                    yield ImageFile(_escaped(path), os.path.join(folder, path))  # noqa: PTH118 - faster than Path
                else:
                    yield ImageFile(f"row {number}", folder, "expected the path of an image, got nothing")
    except (OSError, csv.Error) as error:
        raise FaceTableError(f"{table}: cannot be read as a list of images ({error})") from None


def _txt_paths(file: IO[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, start=1):
        if path := line.rstrip("\r\n"):
            yield number, path


def _csv_paths(file: IO[str], table: Path) -> Iterator[tuple[int, str]]:
    reader = csv.DictReader(file, restval="")
    if "image_path" not in (reader.fieldnames or ()):
        raise FaceTableError(
            f"{table}: no column 'image_path' with the images' paths; the header has {list(reader.fieldnames or ())}"
        )
    for row in reader:
        yield reader.line_num, row["image_path"]


def _escaped(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8: a table holds text only."""
    return name.encode(errors="backslashreplace").decode()
