"""Transfer of a run between its directory and its storage.

Two files state that the other files of their directory are complete: a training's state, which relies on the best
checkpoint so far, and a stage's record, which relies on the stage's outputs. They are written last in both directions,
so an interrupted transfer never leaves a directory that looks complete and is not.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.files import digest_file, read_json
from ssl_pipeline.runs.storage.lock import LOCK
from ssl_pipeline.runs.storage.remote import RemoteDirectory, check_inside, is_hidden

logger = logging.getLogger(__name__)

STATUS = "storage.json"
_STATE, _RECORD = "last.pt", "done.json"
_PIXELS = ("faces/pixels.npy", "faces/done.json")  # and the record that relies on them

_Version = tuple[int, int]  # modification time in ns and size in bytes; runs replace files and never write into them


class SyncedRun:
    """A run directory and its copy in the storage."""

    def __init__(self, remote: RemoteDirectory, root: Path, *, pixels: bool) -> None:
        """Nothing is transferred yet; `pixels` keeps the pixels in the storage, too."""
        self._remote, self._root = remote, root
        self._left_out = (STATUS, LOCK) if pixels else (STATUS, LOCK, *_PIXELS)
        self._stored: dict[str, _Version | None] = {}  # stored file → version of the equal file here, None if unknown

    def pull(self, *, replace: bool) -> None:
        """Compare with the storage and, with `replace`, fetch the stages that differ. Other files here stay.

        A stage whose outputs do not fit its record is fetched without the record, so that it is done again.

        Raises:
            StorageError: if the storage cannot be reached.
            RunError: if a name there leads out of the run.
        """
        sizes = {name: size for name, size in self._remote.sizes().items() if self._is_kept(name)}
        self._stored = dict.fromkeys(sizes)
        for directory, group in groupby(sorted(sizes, key=_write_order), key=lambda name: Path(name).parent):
            names, record = list(group), (directory / _RECORD).as_posix()
            stored_record = (self._remote.read_json(record) if record in names else None) or {}
            outputs, equal = stored_record.get("outputs", {}), []
            if stored_record and stored_record == self._read_record(record):
                equal = [name for name in names if (self._version(name) or (0, -1))[1] == sizes[name]]
            if replace and not (equal and all((directory / output).as_posix() in equal for output in outputs)):
                equal = self._fetch(directory, names, outputs)
            self._stored.update({name: self._version(name) for name in equal})

    def pending(self) -> list[str]:
        """List the files that the storage lacks or has in another version, in the order of their upload."""
        names = [path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()]
        return sorted((name for name in names if self._is_kept(name) and self._has_changed(name)), key=_write_order)

    def push(self) -> None:
        """Upload what changed; what fails stays pending.

        Raises:
            StorageError: if the storage cannot be reached.
        """
        with self._held_states() as states:
            for name in [name for name in self._stored if Path(name).name == _RECORD]:
                if self._version(name) != self._stored[name]:
                    self._remove(name)  # before any of the outputs that it lists
            for name in self.pending():
                path = self._root / name
                if path.name == _RECORD:
                    self._remove_deleted(Path(name).parent)
                source, version = states.get(name, (path, None)) if path.name == _STATE else (path, self._version(name))
                if version is not None:  # else it is newer than this upload
                    self._remote.put(source, name)
                    self._stored[name] = version

    def _is_kept(self, name: str) -> bool:
        return not is_hidden(name) and name not in self._left_out

    def _has_changed(self, name: str) -> bool:
        return self._version(name) not in (None, self._stored.get(name))

    def _version(self, name: str) -> _Version | None:
        try:
            status = (self._root / name).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size

    def _read_record(self, name: str) -> dict[str, Any] | None:
        try:
            return read_json(self._root / name)
        except RunError:
            return None

    def _fetch(self, directory: Path, names: list[str], digests: dict[str, str]) -> list[str]:
        """Fetch a directory's files, given the digests of its outputs; returns the names of those that are now here."""
        path, url = self._root / directory, f"{self._remote.url}/{directory.as_posix()}"
        for output in digests:  # a calibration writes into the folder above its own
            check_inside(os.path.normpath(directory / output), url)
        for commit in (_RECORD, _STATE):
            (path / commit).unlink(missing_ok=True)  # before the files that they rely on
        commits = [name for name in names if Path(name).name in (_STATE, _RECORD)]
        others = [name for name in names if name not in commits]
        for name in others:
            self._remote.get(name, self._root / name)
        damaged = [
            name
            for name, digest in digests.items()
            if not (path / name).is_file() or digest_file(path / name) != digest
        ]
        if damaged:
            logger.warning("%s: its record does not fit %s; the stage is done again", url, ", ".join(damaged))
            return others
        for name in commits:
            self._remote.get(name, self._root / name)
        return names

    def _remove_deleted(self, directory: Path) -> None:
        """Remove stored files of a directory that no longer exist here, e.g. shards of a larger pool."""
        for name in list(self._stored):
            if Path(name).parent == directory and not (self._root / name).is_file():
                self._remove(name)

    def _remove(self, name: str) -> None:
        self._remote.remove(name)
        del self._stored[name]

    @contextmanager
    def _held_states(self) -> Iterator[dict[str, tuple[Path, _Version | None]]]:
        """Copy changed training states, with their versions, before the upload looks for other files.

        The processes of a training may save the next epoch during the upload. The state that is uploaded is never newer
        than the best checkpoint that is uploaded before it.
        """
        copies: dict[str, tuple[Path, _Version | None]] = {}
        try:
            for path in self._root.rglob(_STATE):
                name = path.relative_to(self._root).as_posix()
                if self._has_changed(name):
                    copies[name] = path.with_name(f".{_STATE}.held.partial"), self._version(name)
                    shutil.copyfile(path, copies[name][0])
            yield copies
        finally:
            for copy, _ in copies.values():
                copy.unlink(missing_ok=True)


def _write_order(name: str) -> tuple[bool, Path, int, str]:
    """Sort key: by directory, the run's own with its summary last; in each, the state and then the record last."""
    path = Path(name)
    return path.parent == Path(), path.parent, (path.name == _STATE) + 2 * (path.name == _RECORD), name
