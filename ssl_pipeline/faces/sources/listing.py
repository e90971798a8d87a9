"""Faces listed by the paths of a source's images, or by the entries of its tables."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_file
from ssl_pipeline.faces.image_files import list_images
from ssl_pipeline.faces.sources.raw_faces import (
    Entry,
    RawFaces,
    Values,
    collect_faces,
    existing_folder,
    source_name,
)


def list_by_path(
    source: Source,
    *,
    root: Path,
    columns: Sequence[str],
    expected: str,
    parse: Callable[[PurePosixPath], Values | str],
    subfolder: str = ".",
) -> RawFaces:
    """List the images of a source at any depth and read labels from their paths.

    Args:
        source: the source.
        root: folder that the source's path is relative to.
        columns: names of the values.
        expected: expected files in words, for the message if there are none.
        parse: returns one value per column for a path relative to `subfolder`, or the reason for rejection.
        subfolder: folder to list, relative to the source's.

    Raises:
        FaceTableError: if there are no images.
    """
    folder = existing_folder(source, root=root)
    listing = list_images(folder / subfolder)
    if not listing.images:
        instead = [f"'{path}': {fault}" for path, fault in listing.faults.items()]
        if listing.passed_over:
            instead.append(
                f"only {len(listing.passed_over):,} files that are no images, e.g. '{listing.passed_over[0]}'"
            )
        raise FaceTableError(
            f"{folder}: no image found for source '{source_name(source)}', expected {expected} "
            f"(paths are relative to faces.root, {root}){''.join(f'; {text}' for text in instead)}; put the faces there, "
            "or correct the source's path or faces.root"
        )
    below = "" if subfolder == "." else f"{subfolder}/"
    entries = [Entry(str(PurePosixPath(subfolder, path)), fault) for path, fault in listing.faults.items()]
    entries += [Entry(f"{below}{path}", parse(PurePosixPath(path))) for path in listing.images]
    passed_over = [f"{below}{path}" for path in listing.passed_over]
    return replace(collect_faces(entries, columns), passed_over=passed_over)


def list_by_entry(
    source: Source, *, root: Path, columns: Sequence[str], entries: Iterable[Entry], path_field: str = ""
) -> RawFaces:
    """Check the image of each entry; images without an entry are ignored.

    Rejected are entries with a missing image or one outside the source's folder.

    Args:
        source: the source.
        root: folder that the source's path is relative to.
        columns: names of the values.
        entries: their paths are not trusted.
        path_field: prefix of reasons about a path, e.g. ``column 'file': ``.

    Raises:
        FaceTableError: if the source's folder does not exist or there are no entries.
    """
    folder = existing_folder(source, root=root)
    real_folder = Path(os.path.realpath(folder))

    def check(entry: Entry) -> Entry:
        if isinstance(entry.values, str):
            return entry
        entry = replace(entry, path=existing_spelling(entry.path, folder))
        if fault := path_fault(entry.path, folder=folder, real_folder=real_folder):
            return replace(entry, values=path_field + fault)
        return replace(entry, path=normalize_path(entry.path, folder))

    raw = collect_faces(map(check, entries), columns)
    if not raw.paths and not raw.rejected:
        raise FaceTableError(
            f"{folder}: the lists of source '{source_name(source)}' contain no face; correct the lists or its path"
        )
    return raw


def existing_spelling(path: str, folder: Path) -> str:
    """Return the spelling of a path that exists: as it stands, without blanks, with slashes, composed or decomposed."""
    if not path or "\0" in path or is_file(folder / path):
        return path
    slashed = path.strip().replace("\\", "/")
    spellings = (path.strip(), *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")), slashed)
    return next((spelling for spelling in spellings if spelling and is_file(folder / spelling)), path)


def normalize_path(path: str, folder: Path) -> str:
    """Return a path relative to the folder, without ``.`` and ``..``; a path outside the folder begins with ``..``."""
    return PurePosixPath(os.path.relpath(os.path.normpath(folder / path), os.path.normpath(folder))).as_posix()


def path_fault(path: str, *, folder: Path, real_folder: Path) -> str | None:
    """Return why a path cannot be an image of a source, or None; `real_folder` is its folder with links resolved."""
    if not path:
        return "expected the path of an image, got nothing"
    if "\0" in path:
        return "a path cannot contain the character NUL"
    relative = normalize_path(path, folder)
    if relative.split("/")[0] == ".." or not Path(os.path.realpath(folder / relative)).is_relative_to(real_folder):
        return f"'{path}' lies outside {folder}; images must lie inside the source's path"
    if not is_file(folder / relative):
        if re.match(r"[A-Za-z]:[\\/]", path):
            return f"expected a path relative to {folder}, not of a Windows machine, got '{path}'"
        return f"no such file {folder / relative} (paths are relative to {folder})"
    return None


def first_existing(folder: Path, names: Sequence[str], *, source: Source) -> Path:
    """Return the first existing file or folder of `names` below a folder.

    Raises:
        FaceTableError: if none exists.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    others = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
    raise FaceTableError(
        f"{folder / names[0]}: no such file or folder{others}; source '{source_name(source)}' of type {source.type} "
        "needs it; docs/face-sets.md shows the expected layout"
    )


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file without blank lines at its end.

    Raises:
        FaceTableError: if it is not readable as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FaceTableError(f"{path}: not readable as UTF-8 text ({error}); save it as UTF-8") from None
