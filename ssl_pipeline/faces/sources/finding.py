"""The two ways in which sets tell of their faces: by the paths of the images, or by a list beside them."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw import (
    RawFaces,
    Rejection,
    existing_folder,
    is_image_name,
    list_files,
    nothing_found,
    raw_faces,
    source_name,
)

Values = Sequence[str | None]
"""What is known of a face, one entry a column; None or the empty string is unknown."""


def find_by_path(
    source: Source,
    *,
    root: Path,
    columns: Sequence[str],
    expected: str,
    values_of: Callable[[PurePosixPath], Values | str],
    inside: str = ".",
    is_looked_at: Callable[[str], bool] = is_image_name,
) -> RawFaces:
    """List the images of a source at any depth and read what their paths say.

    Args:
        source: the source.
        root: the folder that its path is relative to.
        columns: what the values are called.
        expected: what should lie there, in words, for the message when nothing does.
        values_of: gives one value a column for an image's path relative to `inside`, or the reason why it is no face.
        inside: the folder to list, relative to the source's.
        is_looked_at: tells which files count as found; others are ignored.

    Raises:
        FaceTableError: if no file is looked at.
    """
    folder = existing_folder(source, root=root)
    paths = [path for path in list_files(folder / inside) if is_looked_at(path)]
    if not paths:
        raise nothing_found(source, folder, root=root, expected=expected)
    rows: list[tuple[str, Values]] = []
    rejected = []
    for path in paths:
        values = values_of(PurePosixPath(path))
        whole = str(PurePosixPath(inside, path))
        if isinstance(values, str):
            rejected.append(Rejection(whole, values))
        else:
            rows.append((whole, values))
    return raw_faces(rows, columns, rejected)


@dataclass(frozen=True)
class Listed:
    """One entry of a set's list.

    Attributes:
        path: of the image, relative to the source's folder; not to be trusted.
        values: one a column, or the reason why the entry is no face.
        place: where it stands, as ``row 17: ``.
    """

    path: str
    values: Values | str
    place: str


def find_listed(
    source: Source, *, root: Path, columns: Sequence[str], entries: Iterable[Listed], path_name: str = ""
) -> RawFaces:
    """Take the faces of a list whose image is there; images that no entry names are not looked at.

    `path_name` says where in an entry its path stands, for the reasons.

    Rejected are entries that are no face, and those whose image is missing or lies outside the source's folder.

    Raises:
        FaceTableError: if the source's folder is not there, or the list is empty.
    """
    folder = existing_folder(source, root=root)
    real_folder = Path(os.path.realpath(folder))
    rows: list[tuple[str, Values]] = []
    places, rejected = [], []
    for entry in entries:
        if isinstance(entry.values, str):
            rejected.append(Rejection(entry.path, entry.place + entry.values))
        elif fault := path_fault(entry.path, folder=folder, real_folder=real_folder):
            rejected.append(Rejection(entry.path, entry.place + path_name + fault))
        else:
            rows.append((normal_path(entry.path, folder), entry.values))
            places.append(entry.place)
    if not rows and not rejected:
        raise FaceTableError(f"{folder}: the lists of source '{source_name(source)}' name no face")
    return raw_faces(rows, columns, rejected, places)


def normal_path(path: str, folder: Path) -> str:
    """Give a path relative to the folder, without ``.`` and ``..``; one that lies outside begins with ``..``."""
    return PurePosixPath(os.path.relpath(os.path.normpath(folder / path), os.path.normpath(folder))).as_posix()


def path_fault(path: str, *, folder: Path, real_folder: Path) -> str | None:
    """Say why a path cannot be an image of a source, or None; `real_folder` is its folder, links resolved."""
    if not path:
        return "expected the path of an image, got nothing"
    if "\0" in path:
        return "a path cannot hold the character NUL"
    inside = normal_path(path, folder)
    if inside.split("/")[0] == ".." or not Path(os.path.realpath(folder / inside)).is_relative_to(real_folder):
        return f"'{path}' lies outside {folder}; images must lie inside the source's path"
    if not (folder / inside).is_file():
        return f"no such file {folder / inside} (paths are relative to {folder})"
    return None


def first_that_exists(folder: Path, names: Sequence[str], *, source: Source) -> Path:
    """Give the first of some files or folders below a folder that is there.

    Raises:
        FaceTableError: if none is.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    others = f" (or {', '.join(names[1:])} there)" if len(names) > 1 else ""
    raise FaceTableError(
        f"{folder / names[0]}: not there{others}; source '{source_name(source)}' of type {source.type} needs it; "
        "docs/face-sets.md shows the folder that it expects"
    )


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, blank ones at its end left out.

    Raises:
        FaceTableError: if it is not readable as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FaceTableError(f"{path}: not readable as UTF-8 text ({error})") from None
