"""Upload what changed in a run's directory, so that at every moment the storage holds what can be gone on from."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ssl_pipeline.errors import StorageError
from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.runs.storage.files import (
    COMMITS,
    PIXELS,
    RECORD,
    Journal,
    Signature,
    in_directory,
    is_kept,
    local_files,
    ordered,
    recorded_outputs,
    signature,
)
from ssl_pipeline.runs.storage.remote import RemoteDirectory

logger = logging.getLogger(__name__)

Held = tuple[Path, Signature]
_SNAPSHOT = ".storage"


class Pusher:
    """Uploads a run, directory by directory, what counts on other files after them."""

    def __init__(self, remote: RemoteDirectory, root: Path, journal: Journal, *, pixels: bool) -> None:
        self._remote, self._root, self._journal, self._pixels = remote, root, journal, pixels

    def pending(self) -> list[str]:
        """Name what is not in the storage as it is here."""
        names = [Path(name) for name in local_files(self._root, pixels=self._pixels)]
        return [name.as_posix() for name in names if self._is_to_be_pushed(name.parent.as_posix(), name.name)]

    def push(self) -> None:
        """Upload what changed; what fails is tried again next time.

        Raises:
            StorageError: the first fault. One does not keep the other directories from their turn; two are an outage.
        """
        faults: list[StorageError] = []
        started, num_files, num_bytes = time.monotonic(), 0, 0
        changed = {Path(name).parent.as_posix() for name in self.pending()}
        for directory in sorted(changed, key=lambda directory: (directory == ".", directory)):  # the summary last
            before = dict(self._journal.files)
            try:
                self._push_directory(directory)
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
            logger.debug("storage: %d files, %.1f MB uploaded in %.1f s", num_files, num_bytes / 1e6, seconds)
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

    def _push_directory(self, directory: str) -> None:
        with self._snapshot(directory) as held:
            record, stored = in_directory(directory, RECORD), self._journal.files
            if record in stored and held and signature(self._root / record) != stored[record]:
                self._forget(record)  # before any of the outputs that it speaks of
            for name in ordered(list(held)):
                if name == RECORD:
                    if not self._is_whole(directory, held):
                        logger.warning("storage: %s: not uploaded, its outputs are others than its own", directory)
                        continue
                    for stale in self._gone(directory):
                        self._forget(stale)
                path, version = held[name]
                self._remote.put(path, in_directory(directory, name))
                stored[in_directory(directory, name)] = version

    def _gone(self, directory: str) -> list[str]:
        """Name the stored files of a directory that are no longer here, as shards of a longer pool."""
        stored = [name for name in self._journal.files if Path(name).parent == Path(directory)]
        return [name for name in stored if not (self._root / name).is_file()]

    def _forget(self, name: str) -> None:
        self._remote.remove(name)
        self._journal.files.pop(name, None)

    def _is_whole(self, directory: str, held: Mapping[str, Held]) -> bool:
        """Tell whether the outputs are those of the record in hand: those in hand by digest, the others uploaded before."""
        outputs = recorded_outputs(held[RECORD][0])
        return outputs is not None and all(
            digest_file(held[name][0]) == digest if name in held else not self._is_to_be_pushed(directory, name)
            for name, digest in outputs.items()
        )

    @contextmanager
    def _snapshot(self, directory: str) -> Iterator[dict[str, Held]]:
        """Hold the files that changed as they are now, whatever takes their places during the upload.

        What counts on the others is held before these are looked for: so the best checkpoint in hand or in the storage
        is never older than the training's state in hand, and the outputs never older than their record.
        """
        folder, held = self._root / _SNAPSHOT, {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            for names in (COMMITS, self._others(directory)):
                for name in names:
                    path = folder / f"{name}.held"  # by no name that whoever looks for records or pictures would find
                    if self._is_to_be_pushed(directory, name) and _link(self._root / directory / name, path):
                        held[name] = path, signature(path) or (0, 0)
            yield held
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _others(self, directory: str) -> Iterator[str]:
        """List a directory's files but those that count on others; when the first is asked for, not before."""
        for path in sorted((self._root / directory).iterdir()):
            kept = is_kept(in_directory(directory, path.name), pixels=self._pixels)
            if kept and path.name not in COMMITS and path.is_file():
                yield path.name


def _link(path: Path, held: Path) -> bool:
    """Hold a file; tell whether it was there still. If it was not, its turn comes with the next upload."""
    try:
        os.link(path, held)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without hard links
        shutil.copy2(path, held)
    return True
