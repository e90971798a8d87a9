"""Images inside archives, read in place: ``pool.zip/male/1.jpg`` is a path like any other.

An archive is a zip file, an uncompressed tar, or a Parquet file with a column of image bytes, as Hugging Face data sets
come. The members of the last are ``<column>/<row>``. Nothing is unpacked.
"""

import errno
import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.faces.encodings import guess_encoding

ARCHIVE_SUFFIXES = (".zip", ".tar", ".parquet")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_FILE_BYTES = 512 * 2**20
"""Largest file that is read; an uncompressed image of 100 megapixels is smaller."""
_NUM_OPEN, _NUM_ROW_GROUPS = 32, 2
_UTF8_NAME = 0x800  # flag of a zip's entry; without it the name is in the encoding of the system that wrote it


class _Archive(Protocol):
    names: list[str]
    """Paths of the members, with forward slashes."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a member of this name."""

    def read(self, name: str, num_bytes: int) -> bytes:
        """Read the first bytes of a member.

        Raises:
            KeyError: if there is none of this name.
            OSError: if it holds nothing.
        """


class _Zip:
    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path)
        if (encoding := _encoding_of_names(self._file)) is not None:
            self._file.close()
            self._file = zipfile.ZipFile(path, metadata_encoding=encoding)
        self.names = [entry.filename for entry in self._file.infolist() if not entry.is_dir()]

    def __contains__(self, name: object) -> bool:
        return name in self._file.NameToInfo

    def read(self, name: str, num_bytes: int) -> bytes:
        with self._file.open(name) as member:
            return member.read(num_bytes)


def _encoding_of_names(file: zipfile.ZipFile) -> str | None:
    """Guess the encoding of the names that are not UTF-8 by their flag; None if zipfile reads them as they are."""
    names = [entry.filename.encode("cp437") for entry in file.infolist() if not entry.flag_bits & _UTF8_NAME]
    joined = b"\n".join(names)
    if joined.isascii():
        return None
    try:
        joined.decode()
    except UnicodeDecodeError:
        return guess_encoding(joined)
    return "utf-8"  # macOS writes UTF-8 without saying so


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, "r:") as file:
            self._places = {
                member.name.removeprefix("./"): (member.offset_data, member.size) for member in file if member.isfile()
            }
        self.names = list(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def read(self, name: str, num_bytes: int) -> bytes:
        offset, size = self._places[name]
        with open(self._path, "rb") as file:
            file.seek(offset)
            return file.read(min(size, num_bytes))


class _Parquet:
    """Rows are read by groups, as the file stores them; the last ones are kept, since faces are mostly read in order."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._columns = image_columns(self._file.schema_arrow)
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self._groups: dict[tuple[str, int], pa.ChunkedArray] = {}
        self._lock = threading.Lock()
        first = self._columns[:1]
        self.names = [member_of_row(column, row) for column in first for row in range(metadata.num_rows)]

    def __contains__(self, name: object) -> bool:
        column, _, digits = str(name).rpartition("/")
        return column in self._columns and digits.isdecimal() and int(digits) < self._starts[-1]

    def read(self, name: str, num_bytes: int) -> bytes:
        if name not in self:
            raise KeyError(name)
        column, _, digits = name.rpartition("/")
        row = int(digits)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        cell = self._group(column, group)[row - self._starts[group]].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if content is None:
            raise OSError(errno.EIO, "no image in this row")
        return bytes(content[:num_bytes])

    def _group(self, column: str, group: int) -> pa.ChunkedArray:
        with self._lock:
            key = column, group
            if key not in self._groups:
                leaf = f"{column}.bytes" if pa.types.is_struct(self._file.schema_arrow.field(column).type) else column
                if len(self._groups) >= _NUM_ROW_GROUPS:
                    self._groups.pop(next(iter(self._groups)))
                self._groups[key] = self._file.read_row_group(group, columns=[leaf]).column(0)
            return self._groups[key]


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that may hold images: bytes, or a struct with a field ``bytes``."""

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(part.name == "bytes" and holds_bytes(part.type) for part in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    named = sorted(schema, key=lambda field: not pa.types.is_struct(field.type))  # plain bytes may be anything
    return [field.name for field in named if holds_bytes(field.type)]


def member_of_row(column: str, row: int) -> str:
    """Return the path of a row's image inside a Parquet file; row counts from 0."""
    return f"{column}/{row:08d}"


def without_archive_suffix(name: str) -> str:
    """Return a file name without the suffix of an archive, if it has one."""
    return name.rpartition(".")[0] if name.lower().endswith(ARCHIVE_SUFFIXES) else name


def is_archive(path: str | Path) -> bool:
    """Return whether a path is a file with the suffix of an archive."""
    return os.fspath(path).lower().endswith(ARCHIVE_SUFFIXES) and Path(path).is_file()


def member_names(archive: Path) -> list[str]:
    """Return the paths of an archive's files, relative to it; of a Parquet file, one per row of its first image column.

    Raises:
        OSError: if it cannot be read; `strerror` says why.
    """
    with _faults():
        return list(_open(archive).names)


def read_bytes(path: str | Path, num_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a file, or a file inside an archive, or only its beginning.

    Raises:
        OSError: if there is none, or it cannot be read; `strerror` says why.
    """
    try:
        with open(path, "rb") as file:
            return file.read(num_bytes)
    except (NotADirectoryError, FileNotFoundError):  # the second on Windows
        archive = _archive_above(Path(path))
        if archive is None:
            raise
    name = Path(path).relative_to(archive).as_posix()
    with _faults():
        try:
            return _open(archive).read(name, num_bytes)
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"no such file in {archive.name}", str(path)) from None


def open_binary(path: str | Path) -> BinaryIO:
    """Open a file, or a file inside an archive, which is then in memory.

    Raises:
        OSError: see `read_bytes`.
    """
    try:
        return open(path, "rb")
    except (NotADirectoryError, FileNotFoundError):  # see `read_bytes`
        return BytesIO(read_bytes(path))


def is_file(path: Path) -> bool:
    """Return whether a path is a file, or a file inside an archive; True if the archive cannot be read, as reading says."""
    if path.is_file():
        return True
    archive = _archive_above(path)
    if archive is None:
        return False
    try:
        with _faults():
            return path.relative_to(archive).as_posix() in _open(archive)
    except OSError:
        return True


def _archive_above(path: Path) -> Path | None:
    return next((parent for parent in path.parents if is_archive(parent)), None)


def _open(path: Path) -> _Archive:
    status = path.stat()
    return _open_version(path, status.st_mtime_ns, status.st_size, os.getpid())


@lru_cache(maxsize=_NUM_OPEN)
def _open_version(path: Path, modified_ns: int, size: int, process: int) -> _Archive:
    """Open an archive, once per version of the file and process: an open file must not be shared with a fork."""
    kinds: dict[str, type[_Zip | _Tar | _Parquet]] = {".zip": _Zip, ".tar": _Tar, ".parquet": _Parquet}
    return kinds[path.suffix.lower()](path)


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the libraries' errors about damaged archives into `OSError`."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, pa.ArrowException) as error:
        raise OSError(errno.EIO, f"a damaged archive ({str(error)[:80]})") from None
    except NotImplementedError as error:
        raise OSError(errno.EIO, f"an archive that cannot be read ({error}); unpack it") from None
    except RuntimeError as error:  # zipfile's only word for a password
        raise OSError(
            errno.EIO, "locked by a password; unpack it" if "password" in str(error) else str(error)
        ) from None
