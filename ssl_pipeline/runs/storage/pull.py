"""Fetch what the storage has and this directory has not, so that the same command goes on here."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.runs.storage.files import (
    COMMITS,
    RECORD,
    Journal,
    in_directory,
    is_kept,
    ordered,
    recorded_outputs,
    signature,
)
from ssl_pipeline.runs.storage.remote import RemoteDirectory

logger = logging.getLogger(__name__)

_FETCHED = ".fetched"


def pull(remote: RemoteDirectory, root: Path, journal: Journal, *, pixels: bool) -> None:
    """Make the local directory what the storage holds, but for files that only the former has.

    A stage whose outputs are not those that its record speaks of is fetched without its record, and so done again.

    Raises:
        StorageError: if the storage cannot be reached.
        RunError: if a name there would lead out of the run; nothing is fetched then.
    """
    directories: dict[str, dict[str, int]] = {}
    for name, size in remote.names().items():
        if is_kept(name, pixels=pixels):
            directories.setdefault(Path(name).parent.as_posix(), {})[Path(name).name] = size
            journal.files[name] = (0, 0)
    folder = root / _FETCHED
    try:
        for directory, sizes in sorted(directories.items()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in _pull_directory(remote, root, directory, sizes, folder):
                journal.files[in_directory(directory, name)] = signature(root / directory / name) or (0, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pull_directory(
    remote: RemoteDirectory, root: Path, directory: str, sizes: Mapping[str, int], folder: Path
) -> list[str]:
    """Fetch a directory's files into `folder`, and those that go together from there to their places.

    Returns:
        The names of the files that now are here as they are stored.
    """
    local = root / directory
    if RECORD in sizes:
        remote.get(in_directory(directory, RECORD), folder / RECORD)
        if _is_same_stage(local, sizes, folder):
            return list(sizes)
    names = list(ordered([name for name in sizes if name != RECORD]))
    for name in names:
        remote.get(in_directory(directory, name), folder / name)
    if RECORD in sizes:
        if damaged := _damaged(folder, names):
            logger.warning(
                "%s/%s: its record does not fit %s; the stage is done again",
                remote.url,
                directory,
                ", ".join(damaged),
            )
            names = [name for name in names if name not in damaged and name not in COMMITS]
        else:
            names = [*names, RECORD]
    local.mkdir(parents=True, exist_ok=True)
    for name in reversed(COMMITS):
        (local / name).unlink(missing_ok=True)  # of other files than those that come now
    for name in names:
        (folder / name).replace(local / name)
    return names


def _is_same_stage(local: Path, sizes: Mapping[str, int], folder: Path) -> bool:
    """Tell whether the stage whose record was fetched is here: the same record, outputs of the same sizes."""
    try:
        if (local / RECORD).read_bytes() != (folder / RECORD).read_bytes():
            return False
    except FileNotFoundError:
        return False
    outputs = recorded_outputs(local / RECORD) or {}
    return all((of := signature(local / name)) is not None and of[1] == sizes.get(name, of[1]) for name in outputs)


def _damaged(folder: Path, names: Sequence[str]) -> list[str]:
    """Name the outputs in `folder` that are not those of the record there, and the record if it cannot be read."""
    outputs = recorded_outputs(folder / RECORD)
    if outputs is None:
        return [RECORD]
    return [name for name, digest in outputs.items() if name not in names or digest_file(folder / name) != digest]
