"""Full disks: detection, one error message, preallocation of files."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_pipeline.errors import RunError

_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_FULL_PHRASES = ("no space left", "quota exceeded")  # in errors of other types, e.g. of safetensors
_MIN_FREE_BYTES = 1 << 20  # torch.save does not give a reason: with less than this free, a full disk is assumed


@contextmanager
def catch_disk_full(path: Path) -> Iterator[None]:
    """Turn any error that a writer raises on a full disk into one RunError.

    Args:
        path: the file being written.

    Raises:
        RunError: if the disk, or the user's quota of it, is full.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        has_errno = isinstance(error, OSError) and error.errno in _FULL_ERRNOS
        if has_errno or any(phrase in str(error).lower() for phrase in _FULL_PHRASES):
            raise _disk_full(path) from None
        if isinstance(error, OSError | RuntimeError):
            check_disk_space(path)
        raise


def check_disk_space(path: Path) -> None:
    """Check that the disk of `path` is not full.

    Raises:
        RunError: if less than 1 MB is free.
    """
    if shutil.disk_usage(_existing_parent(path)).free < _MIN_FREE_BYTES:
        raise _disk_full(path) from None


def preallocate(path: Path) -> None:
    """Allocate the disk blocks of a sparse file, e.g. a memory-mapped array.

    Otherwise a full disk kills the process with SIGBUS when it writes to a page.

    Raises:
        OSError: if there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _disk_full(path: Path) -> RunError:
    free = shutil.disk_usage(_existing_parent(path)).free
    return RunError(
        f"{path.parent}: disk full: {path.name} cannot be written, {free / 1e6:,.1f} MB are free there; make room, or move "
        "the run's folder to another disk and set runs_root to it; then start the run again: it continues after the last "
        "finished stage"
    )


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
