"""The lock by which one process at a time works in a run, and the note of who holds it.

The lock is the kernel's (flock): it falls with the process, however it ends, so a dead process never holds a run. The
note beside it only says who took it last. Processes that were forked share the lock, and end a moment after their
parent was killed: whoever comes next waits for them.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ssl_pipeline.errors import RunError

_SECONDS_FOR_ORPHANS = 15
_SECONDS_BETWEEN_TRIES = 0.2


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, or held it last."""

    pid: int
    host: str
    since: str
    """When it took the run, ISO 8601 in UTC."""

    @classmethod
    def this_process(cls) -> "Holder":
        """Describe ourselves."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid}" if self.is_here else f"process {self.pid} on host {self.host}"


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock file for this process.

    Raises:
        RunError: if another process holds it.
    """
    with open(path, "a+", encoding="utf-8") as file:
        _acquire(file, path)
        file.truncate(0)
        file.write(json.dumps(asdict(Holder.this_process())))
        file.flush()
        yield


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock file now. Whoever takes it in this very moment tries again."""
    try:
        with open(path, encoding="utf-8") as file:
            return not _try(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def last_holder(path: Path) -> Holder | None:
    """Name the process that took a lock file last; None if none did."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(pid: int) -> bool:
    """Tell whether a process of this host lives; one that has ended and is not yet asked for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # a system without /proc, or it ended meanwhile
        return not Path("/proc/self").exists()


def _acquire(file: TextIO, path: Path) -> None:
    deadline = time.monotonic() + _SECONDS_FOR_ORPHANS
    while not _try(file, fcntl.LOCK_EX):
        holder = last_holder(path)
        if holder is not None and (not holder.is_here or is_alive(holder.pid)):
            raise RunError(
                f"{path.parent}: {holder} is working in this run since {holder.since}; wait for it, end it, or give "
                "this run another --run-name"
            )
        if time.monotonic() > deadline:
            raise RunError(
                f"{path.parent}: {holder or 'the process'} that held this run is dead, but one that it started still "
                f"holds it; `fuser {path}` names it: end it and run again"
            )
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _try(file: TextIO, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
