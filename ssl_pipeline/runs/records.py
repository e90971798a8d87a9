"""Records of finished stages: the digests by which a stage skips itself.

A stage writes its outputs, then its record. The record holds the digests of its inputs and outputs, so a stage is
finished only while both still match. Nothing here knows what a stage does.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from ssl_pipeline.errors import PipelineError, RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of, jsonable, read_json, write_json

VERSION = version("ssl-pipeline")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage left: its ``done.json``."""

    inputs: Mapping[str, Any]
    """Digests and plain values that the result depends on."""
    outputs: Mapping[str, str]
    """File name → digest."""
    as_written: Mapping[str, Sequence[int]]
    """File name → bytes, and nanoseconds since 1970 of its last change."""
    seconds: float
    result: Mapping[str, Any]
    """What the stage says of itself; JSON-able."""
    skipped: bool = False
    """Whether the stage had finished before."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the record of a directory.

        Raises:
            RunError: if the stage has not finished.
        """
        return cls(**read_json(directory / "done.json"))


def finished_record(directory: Path, inputs: Mapping[str, Any]) -> StageRecord | None:
    """Give the stage's record if it is finished: same inputs, outputs still as they were. Else None.

    A file of the same size and time of change as when it was recorded is taken for the same; any other is read and
    digested. So a stage that wrote a hundred gigabytes is skipped as fast as one that wrote a line.
    """
    try:
        record = StageRecord.read(directory)
    except (RunError, TypeError):  # none, or one of another format
        return None
    if record.inputs != _stamped(inputs):
        return None
    for name, digest in record.outputs.items():
        path, as_written = directory / name, record.as_written.get(name)
        if not path.is_file() or (_size_and_time(path) != as_written and digest_file(path) != digest):
            return None
    return record


def run_stage(
    directory: Path,
    *,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    work: Callable[[], Mapping[str, Any]],
    optional_outputs: Sequence[str] = (),
    around: AbstractContextManager[None] | None = None,
) -> StageRecord:
    """Do a stage's work unless it is finished, and record it.

    Args:
        directory: where the stage writes; its record is ``done.json`` there.
        inputs: what the result depends on, as digests and plain values.
        outputs: file names inside `directory` that `work` leaves behind.
        optional_outputs: file names of outputs that `work` leaves only sometimes.
        work: does it, and returns what to keep of it in the record (small, JSON-able).
        around: entered before the work and left after it; a stage that skips itself never enters it.

    Returns:
        The record.
    """
    name = f"{directory.parent.name}/{directory.name}"
    if (record := finished_record(directory, inputs)) is not None:
        logger.info("%s: finished before, skipped", name)
        return replace(record, skipped=True)
    for stale in ("done.json", *optional_outputs):
        (directory / stale).unlink(missing_ok=True)
    with around or nullcontext():
        started = time.monotonic()
        result = work()
    made = [*outputs, *(name for name in optional_outputs if (directory / name).is_file())]
    record = StageRecord(
        inputs=_stamped(inputs),
        outputs={output: digest_file(directory / output) for output in made},
        as_written={output: _size_and_time(directory / output) for output in made},
        seconds=round(time.monotonic() - started, 2),
        result=json.loads(json.dumps(result, default=jsonable)),
    )
    content = asdict(record)
    del content["skipped"]
    write_json(directory / "done.json", content)
    logger.info("%s: done in %.1f s", name, record.seconds)
    return record


def faces_digest(run: RunDir) -> str:
    """One digest for all that `prepare` wrote.

    Raises:
        PipelineError: if nothing was prepared.
    """
    if not (run.faces / "done.json").is_file():
        raise PipelineError(f"{run.faces}: no faces are prepared here; run flows.train_teacher with this config first")
    return digest_of(StageRecord.read(run.faces).outputs)


def _size_and_time(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _stamped(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as they read back from JSON, with the library's version: another version may compute otherwise."""
    stamped: dict[str, Any] = json.loads(json.dumps({**inputs, "version": VERSION}, default=jsonable))
    return stamped
