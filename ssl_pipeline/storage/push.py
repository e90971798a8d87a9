"""Upload what changed in a run's directory, so that at every moment the storage holds what can be gone on from."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ssl_pipeline.errors import StorageError
from ssl_pipeline.runs import digest_file
from ssl_pipeline.storage.files import (
    COMMITS,
    PIXELS,
    RECORD,
    Journal,
    Signature,
    in_directory,
    local_files,
    ordered,
    recorded_outputs,
    signature,
)
from ssl_pipeline.storage.remote import RemoteDirectory

logger = logging.getLogger(__name__)

_SNAPSHOT = ".storage"


class Pusher:
    """Uploads a run, directory by directory, what counts on other files after them."""

    def __init__(self, remote: RemoteDirectory, root: Path, journal: Journal, *, pixels: bool) -> None:
        self._remote, self._root, self._journal, self._pixels = remote, root, journal, pixels

    def pending(self) -> list[str]:
        """Name what is not in the storage as it is here."""
        return [
            in_directory(directory, name)
            for directory, names in local_files(self._root, pixels=self._pixels).items()
            for name in names
            if self._is_to_be_pushed(directory, name)
        ]

    def push(self) -> None:
        """Upload what changed; what fails is tried again next time.

        Raises:
            StorageError: the first fault. One does not keep the other directories from their turn; two are an outage.
        """
        faults: list[StorageError] = []
        started, num_files, num_bytes = time.monotonic(), 0, 0
        for directory, names in local_files(self._root, pixels=self._pixels).items():
            before = dict(self._journal.files)
            try:
                self._push_directory(directory, names)
            except StorageError as error:
                faults.append(error)
            except OSError as error:  # of the local disk
                faults.append(StorageError(f"{self._root}: nothing can be made ready for upload ({error})"))
            if len(faults) == 2:
                break
            arrived = {name: of for name, of in self._journal.files.items() if before.get(name) != of}
            num_files += len(arrived)
            num_bytes += sum(size for _, size in arrived.values())
        if num_files:
            seconds = time.monotonic() - started
            logger.info("storage: %d files, %.1f MB uploaded in %.1f s", num_files, num_bytes / 1e6, seconds)
            self._journal.write(self._root)
        if faults:
            raise faults[0]

    def _is_to_be_pushed(self, directory: str, name: str) -> bool:
        """Tell whether a file changed. A record whose outputs are not kept, as without the pixels, stays here."""
        here = signature(self._root / directory / name)
        if here is None or here == self._journal.files.get(in_directory(directory, name)):
            return False
        if name != RECORD or self._pixels:
            return True
        outputs = recorded_outputs(self._root / directory / name) or {}
        return all(in_directory(directory, output) != PIXELS for output in outputs)

    def _push_directory(self, directory: str, names: Sequence[str]) -> None:
        changed = [name for name in names if self._is_to_be_pushed(directory, name)]
        gone = self._gone(directory, names)
        if not changed:
            return
        with self._snapshot(directory, changed) as (folder, signatures):
            stored = in_directory(directory, RECORD) in self._journal.files
            if stored and (RECORD in gone or RECORD in changed):
                self._forget(directory, RECORD)  # before any of the outputs that it speaks of
            for name in ordered(list(signatures)):
                if name == RECORD:
                    if not _is_whole(folder, list(signatures), self._root / directory):
                        logger.warning("storage: %s: not uploaded, its outputs are others than its own", directory)
                        continue
                    for stale in gone:
                        self._forget(directory, stale)
                self._remote.put(folder / name, in_directory(directory, name))
                self._journal.files[in_directory(directory, name)] = signatures[name]

    def _gone(self, directory: str, names: Sequence[str]) -> list[str]:
        """Name the stored files of a directory that are no longer here, as shards of a longer pool."""
        stored = [Path(name) for name in self._journal.files]
        return [path.name for path in stored if path.parent == Path(directory) and path.name not in names]

    def _forget(self, directory: str, name: str) -> None:
        self._remote.remove(in_directory(directory, name))
        self._journal.files.pop(in_directory(directory, name), None)

    @contextmanager
    def _snapshot(self, directory: str, names: Sequence[str]) -> Iterator[tuple[Path, dict[str, Signature]]]:
        """Hold the files as they are now, whatever takes their places during the upload.

        What counts on the others is held first: so the best checkpoint in hand is never older than the training's state
        in hand, and the outputs never older than their record.
        """
        folder, held = self._root / _SNAPSHOT, {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            for name in sorted(names, key=lambda name: name not in COMMITS):
                try:
                    _link(self._root / directory / name, folder / name)
                except FileNotFoundError:
                    continue  # replaced or removed meanwhile: its turn comes with the next upload
                held[name] = signature(folder / name) or (0, 0)
            yield folder, held
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _link(path: Path, held: Path) -> None:
    try:
        os.link(path, held)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(path, held)


def _is_whole(folder: Path, changed: Sequence[str], directory: Path) -> bool:
    """Tell whether the outputs at hand are those of the record at hand; those not at hand were uploaded before."""
    outputs = recorded_outputs(folder / RECORD)
    if outputs is None:
        return False
    return all(
        digest_file(folder / name) == digest if name in changed else (directory / name).is_file()
        for name, digest in outputs.items()
    )
