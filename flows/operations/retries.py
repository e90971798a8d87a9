"""Retries of tasks that read or write many files: after an error that passes by itself, and no other."""

import errno
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from .failure import error_of

RETRY_DELAYS_SECONDS = (10.0, 60.0)
"""The pause before each retry; a stage continues after its last finished shard."""

_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
"""A network, a file server or a disk that fails for a moment; not a full disk, an absent file or a lack of memory."""


def is_passing(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Return whether a task failed with an error that may be gone at the next attempt; Prefect asks before a retry."""
    error = error_of(state)
    return isinstance(error, ConnectionError | TimeoutError) or (isinstance(error, OSError) and error.errno in _PASSING)
