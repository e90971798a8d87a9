"""Faces of a source as its own files describe them."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_archive
from ssl_pipeline.faces.image_files import escape_name

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
        rejected: entries that cannot be faces; N + len(rejected) + len(passed_over) were found.
        locations: see `Entry`.
        passed_over: files in the source's folder that are not images, by their paths relative to it.
    """

    paths: list[str]
    columns: Mapping[str, list[str | None]]
    rejected: list[Rejection]
    locations: list[str]
    passed_over: list[str] = field(default_factory=list)


def collect_faces(entries: Iterable[Entry], columns: Sequence[str]) -> RawFaces:
    """Separate faces from rejected entries. A path that is not valid UTF-8 is rejected: no table can store it."""
    faces, rejected = [], []
    for entry in entries:
        path = escape_name(entry.path)
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


def clean_text(text: str) -> str:
    """Normalize a name or value: composed letters (NFC; macOS decomposes them in file names), no blanks around it."""
    return unicodedata.normalize("NFC", text).strip("\ufeff\u200b").strip()


def source_name(source: Source) -> str:
    """Return the name of a source; its type by default."""
    return source.name or source.type


def source_folder(source: Source, *, root: Path) -> Path:
    """Return the folder of a source: ``root/path``, or the path if it is absolute."""
    return root / source.path


def existing_folder(source: Source, *, root: Path) -> Path:
    """Return the folder of a source, or the archive that stands for it.

    Raises:
        FaceTableError: if it does not exist, or is a file other than an archive.
    """
    folder = source_folder(source, root=root)
    if not folder.is_dir() and not is_archive(folder):
        tilde = "; '~' is not expanded: write the whole path" if str(folder).startswith("~") else ""
        raise FaceTableError(
            f"{folder}: {'neither a folder nor an archive (.zip, .tar, .parquet)' if folder.exists() else 'no such folder'}; source '{source_name(source)}' "
            f"reads its faces there (paths are relative to faces.root, {root}); put the faces there, or correct "
            f"the source's path or faces.root{tilde}"
        )
    return folder
