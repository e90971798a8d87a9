"""A run that is kept in a storage while it is worked on: fetched when it is opened, uploaded as it grows.

Training, memory-mapped pixels and atomic renames need a local disk, so a run works in its local directory as ever, and
no stage knows of this. A thread looks every few seconds for what changed there and uploads it. Every file of a run is
written beside its place and moved there, so that what the thread sees is always whole; and what processes of a
training or of a labeling write is seen like all else. A storage that fails takes no second of a stage, let alone its life.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import PipelineError, RunError, StorageError, list_of_faults
from ssl_pipeline.runs.storage.files import JOURNAL, Journal
from ssl_pipeline.runs.storage.lock import RemoteLock
from ssl_pipeline.runs.storage.pull import pull
from ssl_pipeline.runs.storage.push import Pusher
from ssl_pipeline.runs.storage.remote import RemoteDirectory, with_retries

logger = logging.getLogger(__name__)


@contextmanager
def mirror_run(config: StorageConfig | None, root: Path) -> Iterator[None]:
    """Keep the run in `root`, whose local lock is held, in the storage, too; None keeps it here alone.

    Raises:
        ConfigError: if the storage's package is missing.
        RunError: if another machine is working in the run.
        StorageError: if the storage cannot be reached at the start, or at the end not everything got there.
    """
    if config is None:
        yield
        return
    remote = RemoteDirectory.of_run(config, root.name)
    journal = Journal.read(root, remote.url)
    journal.write(root)
    lock = RemoteLock(remote, journal.owner, seconds=config.lock_seconds)
    with_retries(lock.acquire, seconds=config.retry_seconds)
    try:
        with_retries(lambda: _take_over(remote, root, journal, config), seconds=config.retry_seconds)
        pusher = Pusher(remote, root, journal, pixels=config.pixels)
        try:
            with _uploading(pusher, lock, every_seconds=config.every_seconds):
                yield
        except BaseException:
            with suppress(OSError):  # of a full disk: what ended the run is the news
                _close(pusher, journal, root, lock, retry_seconds=0)
            raise
        if fault := _close(pusher, journal, root, lock, retry_seconds=config.retry_seconds):
            raise fault
    finally:
        lock.release()


def _take_over(remote: RemoteDirectory, root: Path, journal: Journal, config: StorageConfig) -> None:
    """Fetch the run if it was last worked on elsewhere, and then put this directory's name to it."""
    marker = remote.read_json(JOURNAL)
    if marker is not None and marker.get("owner") == journal.owner:
        return
    journal.files.clear()
    if marker is not None:
        logger.info("storage: going on from what %s holds", remote.url)
        pull(remote, root, journal, pixels=config.pixels)
    remote.write_json(JOURNAL, {"owner": journal.owner})
    journal.write(root)


@contextmanager
def _uploading(pusher: Pusher, lock: RemoteLock, *, every_seconds: float) -> Iterator[None]:
    """Upload what changes, from a thread, until the block ends and the upload then under way."""
    stopped = threading.Event()

    def run() -> None:
        failing = False
        while not stopped.wait(every_seconds) and not lock.lost:
            try:
                pusher.push()
            except (StorageError, OSError) as error:  # of the storage, or of the local disk
                if not failing:
                    logger.warning("%s; the run goes on here, what is pending is uploaded later", error)
                failing = True
            else:
                if failing:
                    logger.warning("storage: reached again")
                failing = False

    # in this context, so that an orchestrator's log handlers know which run the thread's lines belong to
    thread = threading.Thread(target=copy_context().run, args=(run,), name="storage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _close(
    pusher: Pusher, journal: Journal, root: Path, lock: RemoteLock, *, retry_seconds: float
) -> PipelineError | None:
    """Upload what is left, and note and give what did not get there."""
    if lock.lost:
        return RunError(lock.lost)
    try:
        with_retries(pusher.push, seconds=retry_seconds)
        journal.pending = []
        logger.info("storage: %s holds all of the run", journal.url)
    except StorageError as error:
        journal.pending = pusher.pending()
        fault = StorageError(
            list_of_faults(
                f"{error}\n{len(journal.pending):,} files of the run are on this machine alone, whole and in {root}; run "
                "the same command again to upload them",
                journal.pending,
                at_most=5,
            )
        )
        logger.warning("%s", fault)
        return fault
    finally:
        journal.write(root)
    return None
