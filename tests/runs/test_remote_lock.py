"""When the lock of a stored run is taken over."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.storage.lock import RemoteLock
from ssl_pipeline.runs.storage.remote import RemoteDirectory


class Remote:
    """A storage with a lock that another directory renewed some seconds ago."""

    url = "memory://run"

    def __init__(self, age: float) -> None:
        renewed = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        self.lock: dict[str, Any] = {"owner": "other", "host": "there", "process": 1, "renewed": renewed}

    def read_json(self, name: str) -> dict[str, Any]:
        return self.lock

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        self.lock = content


@pytest.mark.parametrize(("age", "is_taken"), [(0, False), (80, False), (120, True)])
def test_a_lock_is_taken_over_after_lock_seconds_without_renewal(age: float, is_taken: bool) -> None:
    remote = Remote(age)
    lock = RemoteLock(cast(RemoteDirectory, remote), "mine", seconds=100)
    if is_taken:
        lock.acquire()
    else:
        with pytest.raises(RunError, match=r"its lock expires 100 s after its last upload"):
            lock.acquire()
    assert (remote.lock["owner"] == "mine") == is_taken
