"""Images to predict, in a fixed order: the files below a folder, one image, or a list of paths."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_archive
from ssl_pipeline.faces.image_files import escape_name, list_images

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


@dataclass(frozen=True, slots=True)
class ImageInMemory:
    """A picture to predict, and its name in tables."""

    name: str
    image: Image.Image


@dataclass(frozen=True)
class FoundImages:
    """Images to predict, and files of the folder that are not images, by their paths relative to it."""

    files: list[ImageFile]
    passed_over: list[str]


def check_exists(images: Path) -> None:
    """Check that there is something to read, which takes no time.

    Raises:
        FaceTableError: if `images` does not exist.
    """
    if not images.exists():
        raise FaceTableError(f"{images}: no such folder, image or list of images")


def find_images(images: Path) -> FoundImages:
    """Find images, in the same order each time. The list of paths is all that grows in memory with their number.

    In a folder or archive, images are found at any depth, by content or by name, sorted by path (see `image_files.list_images`); a
    folder that cannot be listed is one fault. A list is a ``.txt`` file with one path per line, or a ``.csv`` file with
    a column ``image_path``; its paths are relative to the list's folder. Any other file is one image, whatever its name.

    Raises:
        FaceTableError: if there is no image, `images` does not exist, or is a list that cannot be read.
    """
    check_exists(images)
    if images.is_dir() or is_archive(images):
        found = _images_in_folder(images)
    elif images.suffix.lower() in LIST_SUFFIXES:
        found = FoundImages(list(_listed_images(images)), [])
    else:
        found = FoundImages([ImageFile(escape_name(images.name), str(images))], [])
    if not found.files:
        others = (
            f"only {len(found.passed_over):,} other files, e.g. '{found.passed_over[0]}'" if found.passed_over else ""
        )
        raise FaceTableError(
            f"{images}: no image found{f'; {others}' if others else ''}; expected a folder or archive with images of any "
            "name (hidden ones are passed over), an image, or a .txt or .csv list of paths"
        )
    return found


def _images_in_folder(folder: Path) -> FoundImages:
    listing = list_images(folder)
    files = [
        ImageFile(escape_name(path), os.path.join(folder, path), listing.faults.get(path))  # noqa: PTH118 - faster than Path
        for path in sorted([*listing.images, *listing.faults])
    ]
    return FoundImages(files, listing.passed_over)


def _listed_images(table: Path) -> Iterator[ImageFile]:
    folder = str(table.parent)
    try:
        with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, path in _csv_paths(file, table) if table.suffix.lower() == ".csv" else _txt_paths(file):
                if path:
                    yield ImageFile(escape_name(path), os.path.join(folder, path))  # noqa: PTH118 - faster than Path
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
