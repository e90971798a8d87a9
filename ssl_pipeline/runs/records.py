"""Records of finished stages: a stage is skipped while the digests of its inputs and outputs match.

A stage writes its outputs, then its record with the digests.
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
from ssl_pipeline.runs.uploads import request_upload

VERSION = version("ssl-pipeline")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRecord:
    """The record of a finished stage, its ``done.json``."""

    inputs: Mapping[str, Any]
    """Digests and plain values that the result depends on."""
    outputs: Mapping[str, str]
    """File name → digest."""
    as_written: Mapping[str, Sequence[int]]
    """File name → size in bytes and modification time in nanoseconds since 1970."""
    seconds: float
    result: Mapping[str, Any]
    """Results of the stage; JSON-serializable."""
    skipped: bool = False
    """Whether the stage had finished before and was skipped."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the record of a directory.

        Raises:
            RunError: if the stage has not finished.
        """
        return cls(**read_json(directory / "done.json"))


def finished_record(directory: Path, inputs: Mapping[str, Any]) -> StageRecord | None:
    """Return the record if the stage is finished with the same inputs and unchanged outputs, else None.

    A file with the recorded size and modification time counts as unchanged; any other is digested. So skipping a stage
    takes no longer for large outputs.
    """
    try:
        record = StageRecord.read(directory)
    except (RunError, TypeError):  # no record, or one of another format
        return None
    if record.inputs != _with_version(inputs):
        return None
    for name, digest in record.outputs.items():
        path, as_written = directory / name, record.as_written.get(name)
        if not path.is_file() or (_size_and_mtime(path) != as_written and digest_file(path) != digest):
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
    """Run a stage unless it is finished, and write its record.

    Args:
        directory: where the stage writes; its record is ``done.json`` there.
        inputs: what the result depends on, as digests and plain values.
        outputs: names of the files that `work` writes to `directory`.
        optional_outputs: names of files that `work` may write.
        work: does the work and returns the results for the record (small, JSON-serializable).
        around: context of the work; not entered if the stage is skipped.

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
    written = [*outputs, *(name for name in optional_outputs if (directory / name).is_file())]
    record = StageRecord(
        inputs=_with_version(inputs),
        outputs={output: digest_file(directory / output) for output in written},
        as_written={output: _size_and_mtime(directory / output) for output in written},
        seconds=round(time.monotonic() - started, 2),
        result=json.loads(json.dumps(result, default=jsonable)),
    )
    content = asdict(record)
    del content["skipped"]
    write_json(directory / "done.json", content)
    logger.info("%s: done in %.1f s", name, record.seconds)
    request_upload(now=True)
    return record


def faces_digest(run: RunDir) -> str:
    """Digest of the prepared faces.

    Raises:
        PipelineError: if the faces are not prepared.
    """
    if not (run.faces / "done.json").is_file():
        raise PipelineError(f"{run.faces}: no faces are prepared here; run `ssl-pipeline run` with this config first")
    return digest_of(StageRecord.read(run.faces).outputs)


def _size_and_mtime(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _with_version(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as read back from JSON, with the library's version: other versions may compute different results."""
    plain: dict[str, Any] = json.loads(json.dumps({**inputs, "version": VERSION}, default=jsonable))
    return plain
