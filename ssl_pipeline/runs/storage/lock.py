"""Lock of a stored run: an object that names the host, process and time of its writer.

Best effort. It trusts both clocks to within `lock_seconds`, and two writers that start at the same moment may both get
in; the earlier one finds the other's name at its next upload and stops uploading.
"""

import logging
import os
import socket
import time
from datetime import UTC, datetime
from typing import Any

from ssl_pipeline.errors import RunError, StorageError
from ssl_pipeline.runs.storage.remote import RemoteDirectory

logger = logging.getLogger(__name__)

LOCK = "lock.json"


class RemoteLock:
    """The lock of a stored run, renewed at each upload."""

    def __init__(self, remote: RemoteDirectory, owner: str, *, seconds: float) -> None:
        """Describe this process; `owner` is the ID of its run directory, whose local lock it holds."""
        self._remote, self._seconds = remote, seconds
        self._holder = {"owner": owner, "host": socket.gethostname(), "process": os.getpid(), "since": _now()}

    def acquire(self) -> None:
        """Take the lock; a stale one is taken over.

        Raises:
            RunError: if a process in another directory holds it.
            StorageError: if the storage cannot be reached.
        """
        other = self._read_other()
        if other is not None and _age(other) <= self._seconds:
            raise RunError(
                f"{self._describe(other)}; wait for it, end it, or give this run another --run-name. If that machine is "
                f"gone, its lock expires {self._seconds:.0f} s after its last upload; --set storage.lock_seconds=1 takes "
                "it over now"
            )
        if other is not None:
            logger.warning(
                "%s; that is longer than storage.lock_seconds, its lock is taken over", self._describe(other)
            )
        self._write()

    def renew(self) -> None:
        """State that this process still works in the run.

        Raises:
            RunError: if another process has taken the lock over.
            StorageError: if the storage cannot be reached.
        """
        if (other := self._read_other()) is not None:
            raise RunError(
                f"{self._describe(other)}; it took the lock over, and this process uploads no more: what it did "
                "since its last upload is on this machine only"
            )
        self._write()

    def release(self) -> None:
        """Remove the lock, unless another process has taken it over."""
        try:
            if self._read_other() is None:
                self._remote.remove(LOCK)
        except StorageError as error:
            logger.warning("%s; the lock expires in %.0f s", error, self._seconds)

    def _read_other(self) -> dict[str, Any] | None:
        holder = self._remote.read_json(LOCK)
        return None if holder is None or holder.get("owner") == self._holder["owner"] else holder

    def _write(self) -> None:
        self._remote.write_json(LOCK, {**self._holder, "renewed": _now()})

    def _describe(self, holder: dict[str, Any]) -> str:
        return (
            f"{self._remote.url}: process {holder.get('process')} on {holder.get('host')} is working in this run since "
            f"{holder.get('since')}, last upload {_age(holder):.0f} s ago"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _age(holder: dict[str, Any]) -> float:
    """Seconds since the lock was renewed, by both machines' clocks; infinite if it names no time."""
    try:
        return max(time.time() - datetime.fromisoformat(str(holder.get("renewed"))).timestamp(), 0.0)
    except ValueError:
        return float("inf")
