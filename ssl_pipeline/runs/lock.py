"""The lock of a run: one process at a time, and a note of the process that holds it.

The operating system releases the lock when the process ends, so a dead process never holds a run. The note
(``.lock.json`` next to ``.lock``) only records which process took the lock last.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.files import write_json

_ORPHAN_TIMEOUT_SECONDS = 15  # while the noted holder is dead and yet the lock is held, e.g. by its child or by a check
_CHECK_SECONDS = 1  # `is_locked` holds a lock for a moment: who holds it longer works in the run
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, or held it last."""

    pid: int
    host: str
    since: str
    """When it took the lock, ISO 8601 in UTC."""
    flow_run: str = ""
    """The ID of the flow run that it works for, if any."""

    @classmethod
    def this_process(cls, flow_run: str = "") -> "Holder":
        """Describe the current process."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), flow_run)

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid}" if self.is_here else f"process {self.pid} on host {self.host}"


@contextmanager
def hold_lock(path: Path, flow_run: str = "") -> Iterator[None]:
    """Hold a lock file for this process, and note the flow run that it works for.

    Raises:
        RunError: if another process holds it.
    """
    check_ends = time.monotonic() + _CHECK_SECONDS

    def is_held() -> bool:
        return time.monotonic() > check_ends and _may_be_alive(last_holder(path))

    try:
        held = FileLock(path, thread_local=False).acquire(_ORPHAN_TIMEOUT_SECONDS, _POLL_SECONDS, cancel_check=is_held)
    except Timeout:
        raise _locked(path) from None
    with held:
        write_json(_note(path), asdict(Holder.this_process(flow_run)))
        yield


def is_locked(path: Path) -> bool:
    """Check whether a process holds a lock file now. A process that takes it at the same moment retries."""
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except PermissionError:  # another user's run: only its owner may open the file for writing
        holder = last_holder(path)
        return holder is not None and holder.is_here and is_alive(holder.pid)


def last_holder(path: Path) -> Holder | None:
    """Read which process took a lock file last; None if none did."""
    try:
        return Holder(**json.loads(_note(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(pid: int) -> bool:
    """Check whether a process of this host is alive; a zombie is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # no /proc on this system, or the process has just ended
        return not Path("/proc/self").exists()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _may_be_alive(holder: Holder | None) -> bool:
    return holder is not None and (not holder.is_here or is_alive(holder.pid))


def _locked(path: Path) -> RunError:
    holder = last_holder(path)
    if holder is not None and _may_be_alive(holder):
        return RunError(
            f"{path.parent}: {holder} is working in this run (since {holder.since}); wait for it, end it, or choose "
            "another --run-name"
        )
    return RunError(
        f"{path.parent}: {holder or 'the process'} that held this run is dead, but a process that it started still holds "
        f"the lock; find it with `fuser {path}`, end it and run again"
    )
