"""Which files of a run are kept, in what order, and what is known to be in the storage.

Two kinds of file say that the others of their directory are there: a training's state, which counts on the best
checkpoint so far, and a stage's record, which counts on the stage's outputs. So they come last, in either direction, and
whatever breaks off leaves nothing that looks whole and is not.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.runs.storage.remote import check_inside, is_hidden

RECORD, STATE = "done.json", "last.pt"
COMMITS = (STATE, RECORD)
"""What counts on the other files of its directory, in the order in which it is written."""
JOURNAL, LOCK = "storage.json", "lock.json"
PIXELS = "faces/pixels.npy"

Signature = tuple[int, int]


@dataclass
class Journal:
    """What of this directory is known to be in the storage; kept in the run as ``storage.json``.

    It goes when the directory is emptied, as it should.
    """

    url: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names this directory. The storage holds the name of the one that last worked in the run: where it is this one's,
    nothing newer can be there; where not, what is there is the run, and what is here is behind."""
    files: dict[str, Signature] = field(default_factory=dict)
    """Of each file its time of change in ns and size when it was uploaded; (0, 0) where what is stored is another."""
    pending: list[str] = field(default_factory=list)
    """What did not get there, when the run was last closed."""

    @classmethod
    def read(cls, root: Path, url: str) -> "Journal":
        """Read it, or begin another for another storage."""
        try:
            content = read_json(root / JOURNAL)
            files = {name: (int(time), int(size)) for name, (time, size) in content["files"].items()}
            return cls(url, str(content["owner"]), files) if content["url"] == url else cls(url)
        except (RunError, KeyError, TypeError, ValueError):
            return cls(url)

    def write(self, root: Path) -> None:
        """Keep it."""
        about = {"url": self.url, "owner": self.owner, "complete": not self.pending, "pending": self.pending}
        write_json(root / JOURNAL, {**about, "files": dict(sorted(self.files.items()))})


def local_files(root: Path, *, pixels: bool) -> list[str]:
    """Name the files of a run that are to be kept, by their paths inside it."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return [name for name in names if is_kept(name, pixels=pixels)]


def is_kept(name: str, *, pixels: bool) -> bool:
    """Tell whether a file of a run is kept: all but hidden ones, the journal, the lock and, if not asked for, the pixels."""
    return not is_hidden(name) and name not in (JOURNAL, LOCK) and (pixels or name != PIXELS)


def in_directory(directory: str, name: str) -> str:
    """Name a file by its path inside the run."""
    return name if directory == "." else f"{directory}/{name}"


def signature(path: Path) -> Signature | None:
    """Tell a version of a file from others; None if it is not there. Every write of a run makes a new file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def recorded_outputs(path: Path) -> dict[str, str] | None:
    """Read the outputs, file name → SHA-256, of a stage's record; None where there is none to be read.

    Raises:
        RunError: if it names an output outside of its stage.
    """
    try:
        outputs: Any = json.loads(path.read_text(encoding="utf-8"))["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(outputs, Mapping):
        return None
    for name in outputs:
        check_inside(name, str(path))
    return dict(outputs)


def ordered(names: list[str]) -> Iterator[str]:
    """Give the names of a directory in the order in which they may be written."""
    yield from (name for name in names if name not in COMMITS)
    yield from (name for name in COMMITS if name in names)
