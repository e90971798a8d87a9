"""Failures of loading processes: one sentence with the cure."""

import pytest

from ssl_pipeline.errors import TrainingError
from ssl_pipeline.learning.dataset import _explain_loading_errors


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that …"), "--shm-size"),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_7>: No space left on device"),
            "--shm-size",
        ),
        (OSError(28, "No space left on device"), "/dev/shm"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
    ],
)
def test_a_want_of_memory_or_files_is_named_with_its_cure(error: Exception, message: str) -> None:
    cure = r"^4 loading processes: .*--set num_workers=0"
    with pytest.raises(TrainingError, match=cure) as explained, _explain_loading_errors(4):
        raise error
    assert message in str(explained.value)


def test_another_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shape"), _explain_loading_errors(4):
        raise RuntimeError("shape mismatch")
