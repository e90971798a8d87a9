"""Hook for uploads of a run's new files; without a storage it does nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Upload = Callable[[bool], None]
"""Uploads what changed. True uploads now, False only if the last upload is long enough ago."""

_upload: ContextVar[Upload] = ContextVar("upload", default=lambda now: None)


@contextmanager
def provide_uploads(upload: Upload) -> Iterator[None]:
    """Call `upload` after the stages, checkpoints and shards that are finished inside this context."""
    token = _upload.set(upload)
    try:
        yield
    finally:
        _upload.reset(token)


def request_upload(*, now: bool = False) -> None:
    """Upload the run's new files, if it has a storage. Call it when files are complete; it never raises StorageError.

    Args:
        now: upload even if the last upload was a moment ago.
    """
    _upload.get()(now)
