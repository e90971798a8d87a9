"""Files below a folder or in an archive: its images, by content and not by suffix, and the files that are passed over."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.faces.archives import COMPRESSED_TARS, is_archive, member_names
from ssl_pipeline.faces.decoding import has_image_signature

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".jpe", ".jfif", ".mpo", ".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm"),
)
"""Files with such a name are meant as images: what they hold instead is a reason for rejection. Others are opened."""
_NUM_ROWS_TRIED = 10
"""Of a Parquet table: if none of the first rows holds an image, it is a table of something else."""


@dataclass(frozen=True)
class FolderListing:
    """Files below a folder, by paths relative to it with forward slashes, sorted.

    Attributes:
        images: files that begin like an image or are named like one; whether they can be decoded is not known yet.
        passed_over: all other files, and hidden files and folders (a folder ends with a slash).
        faults: {folder (with a slash at its end) or archive that cannot be listed: reason}.
    """

    images: list[str]
    passed_over: list[str]
    faults: dict[str, str]

    @property
    def num_found(self) -> int:
        """All files."""
        return len(self.images) + len(self.passed_over) + len(self.faults)


def list_images(folder: Path) -> FolderListing:
    """List the images below a folder at any depth, and what else there is. An archive is a folder, see `archives`.

    Hidden files and folders (their names begin with a dot, e.g. macOS's ``._*``) are passed over. Links to folders are
    followed, except back into a folder that they lie in. A broken link counts by its name.
    """
    listing = FolderListing([], [], {})

    def note_fault(path: str, error: OSError) -> None:
        listing.faults[path or "."] = f"this folder cannot be listed ({error.strerror or error})"

    def files() -> Iterator[tuple[str, bool, bool]]:
        walked = _walk(folder, "", (os.path.realpath(folder),), note_fault)
        for path, is_hidden in walked if folder.is_dir() else [("", False)]:
            if not is_hidden and path.lower().endswith(COMPRESSED_TARS):
                listing.faults[path] = "a compressed tar is not read in place: unpack it, or decompress it to .tar"
            elif is_hidden or not is_archive(f"{folder}/{path}" if path else folder):
                yield path, is_hidden, False
            else:
                yield from _members(folder / path, path, listing.faults)

    for path, is_hidden, is_row in sorted(files()):
        is_meant = is_row or _is_named_like_an_image(path)
        if not is_hidden and (is_meant or has_image_signature(folder / path)):
            listing.images.append(path)
        else:
            listing.passed_over.append(escape_name(path))
    return listing


def escape_name(name: str) -> str:
    r"""Escape the bytes of a file name that are not UTF-8, e.g. ``\xe9``: a table holds text only."""
    return name.encode(errors="backslashreplace").decode()


def list_files(folder: Path) -> list[str]:
    """List all files below a folder except hidden ones, as `list_images` does, without opening any.

    Raises:
        OSError: if a folder cannot be listed.
    """
    files = _walk(folder, "", (os.path.realpath(folder),), None)
    return sorted(path for path, is_hidden in files if not is_hidden)


def _is_named_like_an_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _walk(
    folder: Path, prefix: str, above: tuple[str, ...], on_error: Callable[[str, OSError], None] | None
) -> Iterator[tuple[str, bool]]:
    """Yield the relative path of each file, and whether it is hidden; a hidden folder is one path with a slash."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        if on_error is None:
            raise
        on_error(prefix, error)
        return
    for entry in entries:
        is_folder = _is_folder(entry)
        if entry.name.startswith("."):
            yield f"{prefix}{entry.name}{'/' if is_folder else ''}", True
        elif not is_folder:
            yield prefix + entry.name, False
        elif (real := os.path.realpath(entry.path)) not in above:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, real), on_error)


def _members(archive: Path, path: str, faults: dict[str, str]) -> Iterator[tuple[str, bool, bool]]:
    """Yield the path of each file of an archive, and whether it is hidden, or a row of a table of images.

    A path that leaves the archive is hidden. Rows are not opened one by one: all images would be read.
    """
    try:
        names = member_names(archive)
    except OSError as error:
        faults[path or "."] = error.strerror or str(error)
        return
    is_table = archive.suffix.lower() == ".parquet"
    if not names or (is_table and not any(has_image_signature(archive / name) for name in names[:_NUM_ROWS_TRIED])):
        yield path or archive.name, True, False  # a table of something else
        return
    for name in dict.fromkeys(names):
        is_hidden = name.startswith("/") or any(part.startswith(".") for part in name.split("/"))
        yield f"{path}/{name}" if path else name, is_hidden, is_table


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself is listed as a file; reading it gives the reason for rejection
        return False
