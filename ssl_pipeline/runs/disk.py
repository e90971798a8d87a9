"""A full disk, told in one sentence: which, how much is free, and what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_pipeline.errors import RunError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left", "quota exceeded")  # of writers that raise errors of their own, as safetensors does
_NOTHING = 1 << 20  # bytes; torch.save does not say why a write failed: with so little left, that is why


@contextmanager
def catch_disk_full(path: Path) -> Iterator[None]:
    """Turn whatever a writer raises on a full disk into one message.

    Args:
        path: the file written, or to be.

    Raises:
        RunError: if the disk, or the user's quota of it, is full.
    """
    try:
        yield
    except RunError:
        raise
    except (OSError, RuntimeError) as error:
        told = isinstance(error, OSError) and error.errno in _FULL
        told = told or any(words in str(error).lower() for words in _WORDS)
        if not told:
            check_disk_space(path)
            raise
        raise _disk_full(path) from None
    except Exception as error:  # safetensors' own
        if any(words in str(error).lower() for words in _WORDS):
            raise _disk_full(path) from None
        raise


def check_disk_space(path: Path) -> None:
    """Raise if next to nothing can be written beside `path`.

    Raises:
        RunError: if so.
    """
    if shutil.disk_usage(_existing(path)).free < _NOTHING:
        raise _disk_full(path) from None


def preallocate(path: Path) -> None:
    """Take the room on disk for a file that was only given its length, as an array mapped into memory is.

    A page of it that finds no room later kills the process with SIGBUS, without a word.

    Raises:
        OSError: if there is not enough room.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _disk_full(path: Path) -> RunError:
    free = shutil.disk_usage(_existing(path)).free
    return RunError(
        f"{path.parent}: disk full: {path.name} cannot be written, {free / 1e6:,.1f} MB are free there; make room, or move "
        "the run's folder to another disk and point runs_root at it; then start the run again: it goes on from what is "
        "finished"
    )


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
