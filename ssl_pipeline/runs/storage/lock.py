"""One machine at a time in a stored run: a small object that says who, and by its heartbeat that it still lives.

Best effort, and no more: it holds apart machines whose clocks agree to within `lock_seconds` and whose storage shows
what was written. Where the storage knows no "create unless there", two that start in the same moment may both get in;
the later one's name stands in the lock, and the earlier one stops uploading at its next heartbeat.
"""

import logging
import os
import socket
import threading
import time
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

from ssl_pipeline.errors import RunError, StorageError
from ssl_pipeline.runs.storage.files import LOCK
from ssl_pipeline.runs.storage.remote import RemoteDirectory

logger = logging.getLogger(__name__)


class RemoteLock:
    """The lock of a stored run, held by this process with a heartbeat from a thread of its own."""

    def __init__(self, remote: RemoteDirectory, owner: str, *, seconds: float) -> None:
        self._remote, self._seconds = remote, seconds
        self._holder = {"owner": owner, "host": socket.gethostname(), "process": os.getpid()}
        self._since = _now()
        self._released = threading.Event()
        self._heart = threading.Thread(target=copy_context().run, args=(self._beat,), name="storage-lock", daemon=True)
        self.lost = ""
        """Who has taken over, in words, if another machine has."""

    def acquire(self) -> None:
        """Take the lock; one that is stale, or left by an ended process of this very directory, is taken over.

        Raises:
            RunError: if another machine holds it.
            StorageError: if the storage cannot be reached.
        """
        if not self._remote.create_json(LOCK, self._content()):
            held = self._remote.read_json(LOCK)
            if held is not None and not self._may_take_over(held):
                raise RunError(self._in_words(held))
            self._remote.write_json(LOCK, self._content())
        if not self._is_ours(held := self._remote.read_json(LOCK) or {}):
            raise RunError(self._in_words(held))
        self._heart.start()

    def release(self) -> None:
        """Give the lock back, unless another machine has taken it over."""
        self._released.set()
        self._heart.join()
        try:
            if self._is_ours(self._remote.read_json(LOCK) or {}):
                self._remote.remove(LOCK)
        except StorageError as error:
            logger.warning("%s; the lock is stale in %.0f s", error, self._seconds)

    def _beat(self) -> None:
        while not self._released.wait(self._seconds / 4):
            try:
                held = self._remote.read_json(LOCK)
                if held is not None and not self._is_ours(held):
                    self.lost = f"{self._in_words(held)}; this one was silent for too long, and uploads no more"
                    logger.error("%s", self.lost)
                    return
                if not self._released.is_set():
                    self._remote.write_json(LOCK, self._content())
            except StorageError as error:
                logger.warning("%s; no heartbeat", error)

    def _may_take_over(self, held: dict[str, Any]) -> bool:
        """Tell whether the holder is dead: silent for too long, or of this very directory, whose local lock is ours."""
        return held.get("owner") == self._holder["owner"] or _age(held) > self._seconds

    def _is_ours(self, held: dict[str, Any]) -> bool:
        return {key: held.get(key) for key in (*self._holder, "since")} == {**self._holder, "since": self._since}

    def _content(self) -> dict[str, Any]:
        return {**self._holder, "since": self._since, "heartbeat": _now()}

    def _in_words(self, held: dict[str, Any]) -> str:
        return (
            f"{self._remote.url}: process {held.get('process')} on {held.get('host')} is working in this run since "
            f"{held.get('since')} and was heard of {_age(held):.0f} s ago; wait for it, end it, or give this run another "
            f"--run-name. If that machine is gone, its lock falls after {self._seconds:.0f} s of silence"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _age(held: dict[str, Any]) -> float:
    """Seconds since the holder's last heartbeat, by both machines' clocks; endless if it says none."""
    try:
        return max(time.time() - datetime.fromisoformat(str(held.get("heartbeat"))).timestamp(), 0.0)
    except ValueError:
        return float("inf")
