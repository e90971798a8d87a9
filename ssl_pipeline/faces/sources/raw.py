"""What every kind of source hands over before names are mapped and values are checked, and how it lists files."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Rejection:
    """A file or row that cannot be a face, by its path inside the source, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class RawFaces:
    """The faces of a source in the source's own words. Every list has one entry a face, N in all.

    Attributes:
        paths: image paths relative to the source's folder, with forward slashes.
        columns: {the source's column: its values}; None or the empty string is unknown.
        rejected: what was found and cannot be a face; found in all: N + len(rejected).
        places: where a face is listed, as ``row 17: ``; the beginning of a reason, empty if the path says enough.
    """

    paths: list[str]
    columns: Mapping[str, list[str | None]]
    rejected: list[Rejection]
    places: list[str]


def raw_faces(
    rows: Sequence[tuple[str, Sequence[str | None]]],
    columns: Sequence[str],
    rejected: list[Rejection],
    places: list[str] | None = None,
) -> RawFaces:
    """Turn rows of (path, one value a column) into columns; without places, the paths say enough."""
    return RawFaces(
        paths=[path for path, _ in rows],
        columns={column: [values[position] for _, values in rows] for position, column in enumerate(columns)},
        rejected=rejected,
        places=[""] * len(rows) if places is None else places,
    )


def without_odd_names(raw: RawFaces) -> RawFaces:
    """Reject files whose names are no UTF-8 text, which no table can hold; their odd bytes are shown escaped."""
    escaped = [path.encode(errors="backslashreplace").decode() for path in raw.paths]
    sound = [row for row, path in enumerate(raw.paths) if path == escaped[row]]
    rejected = [Rejection(no.path.encode(errors="backslashreplace").decode(), no.reason) for no in raw.rejected]
    odd = [path for path, found in zip(escaped, raw.paths, strict=True) if path != found]
    return RawFaces(
        paths=[raw.paths[row] for row in sound],
        columns={column: [values[row] for row in sound] for column, values in raw.columns.items()},
        rejected=[*rejected, *(Rejection(path, "the file's name is not UTF-8") for path in odd)],
        places=[raw.places[row] for row in sound],
    )


def source_name(source: Source) -> str:
    """Name a source: its `name`, or else its type."""
    return source.name or source.type


def source_folder(source: Source, *, root: Path) -> Path:
    """Give the folder of a source, ``root/path`` unless its path is absolute."""
    return root / source.path


def existing_folder(source: Source, *, root: Path) -> Path:
    """Give the folder of a source.

    Raises:
        FaceTableError: if it is not there, or is no folder.
    """
    folder = source_folder(source, root=root)
    if not folder.is_dir():
        raise FaceTableError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; source '{source_name(source)}' "
            f"looks for its faces there (paths are relative to faces.root, {root}); put the faces there, or correct "
            "the source's path or faces.root"
        )
    return folder


def nothing_found(source: Source, folder: Path, *, root: Path, expected: str) -> FaceTableError:
    """Word the error for a folder without a single face."""
    return FaceTableError(
        f"{folder}: nothing found for source '{source_name(source)}', expected {expected} "
        f"(paths are relative to faces.root, {root}; hidden files are ignored); put the faces there, or correct the "
        "source's path or faces.root"
    )


def is_image_name(path: str) -> bool:
    """Tell by its suffix, in any case, whether a file is looked at as an image."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def list_files(folder: Path, *, on_error: Callable[[str, OSError], None] | None = None) -> list[str]:
    """List all files below a folder, relative to it, with forward slashes, sorted.

    Hidden files and folders are ignored (their names begin with a dot, as macOS's ``._*`` do). Links to folders are
    followed, except back into a folder that they lie in. A link that leads nowhere is listed as the file it may be.

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
    except OSError:  # a link to itself: no folder, and whoever opens it as a file is told why that cannot be
        return False
