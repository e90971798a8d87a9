"""Runs kept in a storage while they are open: fetched at the start, uploaded as they grow."""

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import PipelineError, RunError, StorageError, list_of_faults
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.runs.storage.lock import RemoteLock
from ssl_pipeline.runs.storage.remote import RemoteDirectory
from ssl_pipeline.runs.storage.sync import STATUS, SyncedRun
from ssl_pipeline.runs.uploads import provide_uploads

logger = logging.getLogger(__name__)

_BACKOFF = 10  # times the seconds of a failed upload: waiting for timeouts takes at most a tenth of a stage's time


@contextmanager
def mirror_run(config: StorageConfig | None, root: Path) -> Iterator[None]:
    """Keep the run in `root`, whose local lock is held, in the storage too; without a config do nothing.

    Training, memory-mapped pixels and atomic renames need a local disk, so the run works in its local directory and
    `runs.uploads.request_upload` uploads what is finished.

    Raises:
        ConfigError: if the storage's package is missing.
        RunError: if another machine is working in the run, or has taken it over meanwhile.
        StorageError: if the storage cannot be reached at the start, or not everything is uploaded at the end.
    """
    if config is None:
        yield
        return
    remote = RemoteDirectory.of_run(config, root.name)
    owner = _directory_id(root, remote.url)
    lock = RemoteLock(remote, owner, seconds=config.lock_seconds)
    lock.acquire()
    try:
        # The storage names the directory that last worked in the run. If it is this one, nothing newer can be there.
        is_behind = (remote.read_json(STATUS) or {}).get("owner") != owner
        run = SyncedRun(remote, root, pixels=config.pixels)
        run.pull(replace=is_behind)
        if is_behind:
            remote.write_json(STATUS, {"owner": owner})
        uploads = _Uploads(run, lock, config.every_seconds)
        try:
            with provide_uploads(uploads.upload):
                yield
        except BaseException:
            with suppress(OSError, PipelineError):  # the error that ended the run is raised
                uploads.close(root)
            raise
        uploads.close(root)
        logger.info("storage: %s holds all of the run", remote.url)
    finally:
        lock.release()


def _directory_id(root: Path, url: str) -> str:
    """Return the ID of this run directory in this storage. An emptied directory loses it and gets a new one."""
    with suppress(RunError):
        status = read_json(root / STATUS)
        if status.get("url") == url and "owner" in status:
            return str(status["owner"])
    owner = uuid.uuid4().hex
    write_json(root / STATUS, {"url": url, "owner": owner})
    return owner


class _Uploads:
    """Uploads of an open run. A failed one is logged, and the next one tries again."""

    def __init__(self, run: SyncedRun, lock: RemoteLock, every_seconds: float) -> None:
        self._run, self._lock, self._every_seconds = run, lock, every_seconds
        self._next = time.monotonic() + every_seconds
        self._taken_over: RunError | None = None

    def upload(self, now: bool) -> None:
        """Upload what changed, if `now` or after a pause since the last upload; see `runs.uploads.Upload`."""
        started, pause = time.monotonic(), self._every_seconds
        if self._taken_over is not None or not (now or started >= self._next):
            return
        try:
            self._push()
        except RunError as error:
            self._taken_over = error
            logger.error("%s", error)
        except StorageError as error:
            logger.warning("%s; the run goes on, and the next upload tries again", error)
            pause = max(pause, _BACKOFF * (time.monotonic() - started))
        self._next = time.monotonic() + pause

    def close(self, root: Path) -> None:
        """Upload the rest.

        Raises:
            RunError: if another machine has taken the run over.
            StorageError: if something could not be uploaded.
        """
        if self._taken_over is not None:
            raise self._taken_over
        try:
            self._push()
        except StorageError as error:
            pending = self._run.pending()
            headline = (
                f"{error}\n{len(pending):,} files of the run are on this machine only, complete and in {root}; run the "
                "same command again to upload them"
            )
            fault = StorageError(list_of_faults(headline, pending, at_most=5))
            logger.warning("%s", fault)
            raise fault from None

    def _push(self) -> None:
        self._lock.renew()
        try:
            self._run.push()
        except OSError as error:
            raise StorageError(f"the local disk cannot be read for an upload ({error})") from error
