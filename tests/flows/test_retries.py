"""Tasks of I/O try again after an error that passes by itself, and after no other."""

import errno
from typing import Any

import pytest
from prefect.states import Failed
from torch import OutOfMemoryError

from flows import tasks
from flows.operations.retries import is_passing
from ssl_pipeline.errors import ConfigError, StorageError


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (ConnectionResetError("gone"), True),
        (TimeoutError("too slow"), True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False),
        (OSError("cannot identify image file"), False),
        (ConfigError("3 is not 4"), False),
        (StorageError("no such bucket"), False),
        (OutOfMemoryError("CUDA out of memory"), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_only_an_error_that_passes_by_itself_is_retried(error: Exception, passes: bool) -> None:
    anything: Any = None
    assert is_passing(anything, anything, Failed(data=error)) is passes


def test_stages_that_read_and_write_many_files_are_retried_and_trainings_are_not() -> None:
    for task in (tasks.draw, tasks.draw_masks, tasks.prepare, tasks.predict, tasks.label_pool_again, tasks.finish):
        assert (task.retries, task.retry_condition_fn) == (2, is_passing), task.name
    for task in (tasks.train_teacher, tasks.train_student, tasks.train_control, tasks.train_fold_teachers):
        assert task.retries == 0, task.name
