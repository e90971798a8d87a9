"""Faces of a source as its own files describe them, and the files in its folder."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

Values = Sequence[str | None]
"""Labels of a face, one per column; None or the empty string is unknown."""


@dataclass(frozen=True)
class Entry:
    """A file, table row or list line that may be a face.

    Attributes:
        path: image path relative to the source's folder.
        values: one per column, or the reason for rejection.
        location: prefix of a reason, e.g. ``row 17: ``; empty if the path identifies the entry.
    """

    path: str
    values: Values | str
    location: str = ""


@dataclass(frozen=True)
class Rejection:
    """An entry that cannot be used: its path relative to the source's folder, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class RawFaces:
    """Faces of a source before columns are mapped and values are checked. Every list has one item per face, N in all.

    Attributes:
        paths: image paths relative to the source's folder, with forward slashes.
        columns: {the source's column: its values}; None or the empty string is unknown.
        rejected: entries that cannot be faces; N + len(rejected) entries were found.
        locations: see `Entry`.
    """

    paths: list[str]
    columns: Mapping[str, list[str | None]]
    rejected: list[Rejection]
    locations: list[str]


def collect_faces(entries: Iterable[Entry], columns: Sequence[str]) -> RawFaces:
    """Separate faces from rejected entries. A path that is not valid UTF-8 is rejected: no table can store it."""
    faces, rejected = [], []
    for entry in entries:
        path = entry.path.encode(errors="backslashreplace").decode()
        if isinstance(entry.values, str):
            rejected.append(Rejection(path, entry.location + entry.values))
        elif path != entry.path:
            rejected.append(Rejection(path, "the file's name is not UTF-8"))
        else:
            faces.append((path, entry.values, entry.location))
    return RawFaces(
        paths=[path for path, _, _ in faces],
        columns={column: [values[index] for _, values, _ in faces] for index, column in enumerate(columns)},
        rejected=rejected,
        locations=[location for _, _, location in faces],
    )


def source_name(source: Source) -> str:
    """Return the name of a source; its type by default."""
    return source.name or source.type


def source_folder(source: Source, *, root: Path) -> Path:
    """Return the folder of a source: ``root/path``, or the path if it is absolute."""
    return root / source.path


def existing_folder(source: Source, *, root: Path) -> Path:
    """Return the folder of a source.

    Raises:
        FaceTableError: if it does not exist or is not a folder.
    """
    folder = source_folder(source, root=root)
    if not folder.is_dir():
        raise FaceTableError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; source '{source_name(source)}' "
            f"reads its faces there (paths are relative to faces.root, {root}); put the faces there, or correct "
            "the source's path or faces.root"
        )
    return folder


def is_image_name(path: str) -> bool:
    """Return whether a file has the suffix of an image, in upper or lower case."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def list_files(folder: Path, *, on_error: Callable[[str, OSError], None] | None = None) -> list[str]:
    """List all files below a folder, relative to it, with forward slashes, sorted.

    Hidden files and folders are ignored (their names begin with a dot, e.g. macOS's ``._*``). Links to folders are
    followed, except back into a folder that they lie in. A broken link is listed as a file.

    Args:
        folder: where to look, at any depth.
        on_error: receives the relative path (with a slash at its end) and the error of each folder that cannot be
            listed; None raises the error.
    """
    return sorted(_walk(folder, "", (os.path.realpath(folder),), on_error))


def _walk(
    folder: Path, prefix: str, above: tuple[str, ...], on_error: Callable[[str, OSError], None] | None
) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        if on_error is None:
            raise
        on_error(prefix, error)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            yield prefix + entry.name
        elif (real := os.path.realpath(entry.path)) not in above:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, real), on_error)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself is listed as a file; reading it gives the reason for rejection
        return False
