"""The run directory: where things lie, atomic writes, and the records by which a finished stage skips itself.

A stage writes its outputs, then its record. The record holds the digests of its inputs and outputs, so a stage is
finished only while both still match. Nothing here knows what a stage does.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_pipeline import __version__
from ssl_pipeline.disk_space import told_when_full
from ssl_pipeline.errors import PipelineError, RunError
from ssl_pipeline.run_lock import held

logger = logging.getLogger(__name__)

_PARTIAL, _SECONDS_UNTOUCHED = ".partial", 60


@dataclass(frozen=True)
class RunDir:
    """The paths of one run. Round 0 is the teacher's; round k ≥ 1 holds pseudo-labels and a student."""

    root: Path

    @property
    def faces(self) -> Path:
        """Face tables and the pixels of the faces."""
        return self.root / "faces"

    @property
    def teacher(self) -> Path:
        """The first teacher."""
        return self.root / "round-00" / "teacher"

    @property
    def out_of_fold(self) -> Path:
        """What the teachers that each miss a part of the training faces say of it, and these teachers, calibrated."""
        return self.root / "round-00" / "out_of_fold"

    def fold_teacher(self, fold: int) -> Path:
        """The training of the teacher that misses this part of the training faces, counted from 0."""
        return self.root / "round-00" / f"teacher-without-fold-{fold}"

    def pseudo_labels(self, round_index: int) -> Path:
        """Predictions and manifest of a round."""
        return self.root / f"round-{round_index:02d}" / "pseudo_labels"

    def review(self, round_index: int) -> Path:
        """What a person was asked about a round's selection, and decided."""
        return self.root / f"round-{round_index:02d}" / "review"

    def student(self, round_index: int) -> Path:
        """The student of a round."""
        return self.root / f"round-{round_index:02d}" / "student"

    @property
    def summary(self) -> Path:
        """What a finished cycle came to."""
        return self.root / "summary.json"

    @property
    def command(self) -> str:
        """What takes the run up where it is, at a shell."""
        return f"python -m flows.full_cycle --config {self.root / 'config.yaml'}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the lock falls with the process, however it ends.

        Raises:
            RunError: if another process holds it.
        """
        with told_when_full(self.lock_file):
            self.root.mkdir(parents=True, exist_ok=True)
        with held(self.lock_file):
            remove_leftovers(self.root)
            yield

    @property
    def lock_file(self) -> Path:
        """The file that a process working in the run has locked."""
        return self.root / ".lock"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes `path`'s place when the block ends well, else it vanishes.

    Raises:
        RunError: if the disk is full.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with told_when_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(root: Path) -> None:
    """Remove the half-written files of processes that were killed; one touched in the last minute may be under way."""
    for path in root.rglob(f".*{_PARTIAL}"):
        if time.time() - path.stat().st_mtime > _SECONDS_UNTOUCHED:
            path.unlink(missing_ok=True)
            logger.info("%s: half-written by a process that was killed, removed", path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=_jsonable) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: if the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: not JSON ({error}); delete it and run again") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: Any) -> str:
    """SHA-256 of a JSON-able value, whatever the order of its keys, hexadecimal."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_record(directory: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the stage's record if it is finished: same inputs, outputs still as they were. Else None.

    A file of the same size and time of change as when it was recorded is taken for the same; any other is read and
    digested. So a stage that wrote a hundred gigabytes is skipped as fast as one that wrote a line.
    """
    try:
        record = read_json(directory / "done.json")
    except RunError:
        return None
    if record.get("inputs") != _stamped(inputs):
        return None
    for name, digest in record["outputs"].items():
        path, as_written = directory / name, record.get("as_written", {}).get(name)
        if not path.is_file() or (_size_and_time(path) != as_written and digest_file(path) != digest):
            return None
    return record


def run_stage(
    directory: Path,
    *,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    work: Callable[[], Mapping[str, Any]],
    if_made: Sequence[str] = (),
    around: AbstractContextManager[None] | None = None,
) -> dict[str, Any]:
    """Do a stage's work unless it is finished, and record it.

    Args:
        directory: where the stage writes; its record is ``done.json`` there.
        inputs: what the result depends on, as digests and plain values.
        outputs: file names inside `directory` that `work` leaves behind.
        if_made: file names of outputs that `work` leaves only sometimes.
        work: does it, and returns what to keep of it in the record (small, JSON-able).
        around: entered before the work and left after it; a stage that skips itself never enters it.

    Returns:
        The record: `inputs`, `outputs` (file name → digest), `as_written` (file name → bytes and nanoseconds since 1970),
        `seconds`, `result`, and `skipped`.
    """
    name = f"{directory.parent.name}/{directory.name}"
    if (record := finished_record(directory, inputs)) is not None:
        logger.info("%s: finished before, skipped", name)
        return record | {"skipped": True}
    for stale in ("done.json", *if_made):
        (directory / stale).unlink(missing_ok=True)
    with around or nullcontext():
        started = time.monotonic()
        result = work()
    made = [*outputs, *(name for name in if_made if (directory / name).is_file())]
    record = {
        "inputs": _stamped(inputs),
        "outputs": {output: digest_file(directory / output) for output in made},
        "as_written": {output: _size_and_time(directory / output) for output in made},
        "seconds": round(time.monotonic() - started, 2),
        "result": json.loads(json.dumps(result, default=_jsonable)),
    }
    write_json(directory / "done.json", record)
    logger.info("%s: done in %.1f s", name, record["seconds"])
    return record | {"skipped": False}


def faces_digest(run: RunDir) -> str:
    """One digest for all that `prepare` wrote.

    Raises:
        PipelineError: if nothing was prepared.
    """
    if not (run.faces / "done.json").is_file():
        raise PipelineError(f"{run.faces}: no faces are prepared here; run flows.train_teacher with this config first")
    return digest_of(read_json(run.faces / "done.json")["outputs"])


def _size_and_time(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _stamped(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as they read back from JSON, with the library's version: another version may compute otherwise."""
    stamped: dict[str, Any] = json.loads(json.dumps({**inputs, "version": __version__}, default=_jsonable))
    return stamped


def _jsonable(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
