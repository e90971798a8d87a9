"""Find the images to predict, one at a time and in a fixed order: a folder at any depth, one image, or a list of paths.

Nothing here holds all paths at once, so that memory does not grow with the number of images.
"""

import csv
import heapq
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw_faces import is_image_name

LIST_SUFFIXES = (".txt", ".csv")
NAMES_IN_MEMORY = 50_000
"""Names of one folder that are sorted in memory; beyond that, sorted parts wait in temporary files."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    r"""An image to predict, or something that should have been one and cannot be.

    Attributes:
        name: how tables call it: the path inside the folder, or as the list has it. Bytes that are no UTF-8 are
            escaped, as ``\xe9`` would be.
        path: what to open.
        fault: why there is nothing to open.
    """

    name: str
    path: str
    fault: str | None = None


def find_images(images: Path, *, in_order: bool = True) -> Iterator[ImageFile]:
    """Find images lazily, in the same order each time; for counting alone, in any order and sooner.

    In a folder, files with the suffix of an image are found at any depth, sorted by path. Hidden files and folders
    are ignored (their names begin with a dot, as macOS's ``._*`` do). Links to folders are followed, except back into
    a folder that they lie in. A folder that cannot be listed is given as one fault. A list is a ``.txt`` file with a
    path a line, or a ``.csv`` file with a column ``image_path``; its paths are relative to the list's own folder.
    Any other file is one image, whatever its name.

    Raises:
        FaceTableError: if `images` is not there, or is a list that cannot be read.
    """
    if images.is_dir():
        return _walk(str(images), "", (os.path.realpath(images),), in_order=in_order)
    if not images.exists():
        raise FaceTableError(f"{images}: no such folder, image or list of images")
    if images.suffix.lower() in LIST_SUFFIXES:
        return _listed(images)
    return iter([ImageFile(_shown(images.name), str(images))])


def _walk(folder: str, prefix: str, above: tuple[str, ...], *, in_order: bool) -> Iterator[ImageFile]:
    try:
        names = _scan(folder)
        for name in _sorted(names) if in_order else names:
            path = os.path.join(folder, name)  # noqa: PTH118 - text: a Path for each of a million images takes long
            if not name.endswith("/"):
                yield ImageFile(_shown(prefix + name), path)
            elif (real := os.path.realpath(path)) not in above:
                yield from _walk(path, prefix + name, (*above, real), in_order=in_order)
    except OSError as error:
        yield ImageFile(_shown(prefix or "."), folder, f"this folder cannot be listed ({error.strerror or error})")


def _scan(folder: str) -> Iterator[str]:
    """Names in a folder as the file system gives them: those of images, and of folders with a slash at the end.

    The slash makes the order of names folder by folder the order of whole paths.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself; opening it will give the reason
                is_folder = False
            if is_folder:
                yield entry.name + "/"
            elif is_image_name(entry.name):
                yield entry.name


def _sorted(names: Iterator[str]) -> Iterator[str]:
    """Sort any number of names while holding `NAMES_IN_MEMORY` of them."""
    parts: list[IO[str]] = []
    held: list[str] = []
    for name in names:
        held.append(name)
        if len(held) == NAMES_IN_MEMORY:
            parts.append(_spill(sorted(held)))
            held.clear()
    held.sort()
    return heapq.merge(*map(_read_back, parts), held) if parts else iter(held)


def _spill(names: list[str]) -> IO[str]:
    file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - closed by _read_back
    file.writelines(json.dumps(name) + "\n" for name in names)  # JSON: a name may hold a line break or odd bytes
    file.seek(0)
    return file


def _read_back(file: IO[str]) -> Iterator[str]:
    with file:
        for line in file:
            yield json.loads(line)


def _listed(table: Path) -> Iterator[ImageFile]:
    folder = str(table.parent)
    try:
        with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            names = _csv_column(file, table) if table.suffix.lower() == ".csv" else _lines(file)
            for number, name in names:
                if name:
                    yield ImageFile(_shown(name), os.path.join(folder, name))  # noqa: PTH118
                else:
                    yield ImageFile(f"row {number}", folder, "expected the path of an image, got nothing")
    except (OSError, csv.Error) as error:
        raise FaceTableError(f"{table}: cannot be read as a list of images ({error})") from None


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, start=1):
        if name := line.rstrip("\r\n"):
            yield number, name


def _csv_column(file: IO[str], table: Path) -> Iterator[tuple[int, str]]:
    reader = csv.DictReader(file, restval="")
    if "image_path" not in (reader.fieldnames or ()):
        raise FaceTableError(
            f"{table}: no column 'image_path' to find the images by; the header has {list(reader.fieldnames or ())}"
        )
    for row in reader:
        yield reader.line_num, row["image_path"]


def _shown(name: str) -> str:
    """Write a name as UTF-8 text, which is all that a table can hold."""
    return name.encode(errors="backslashreplace").decode()
