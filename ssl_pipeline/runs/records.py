"""Records of finished stages: a stage is skipped while the digests of its inputs and outputs match.

A stage writes its outputs, then its record with the digests. What another stage reads, it reads through
`finished_stage`, which asks the record.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.changes import changed_values
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of, jsonable, read_json, write_json
from ssl_pipeline.runs.profile import shares_in_words, stage_profile
from ssl_pipeline.runs.run_progress import run_progress
from ssl_pipeline.runs.uploads import request_upload

logger = logging.getLogger(__name__)

RECORD = "done.json"
_KEEP_OR_DELETE = "to keep your version, move it to another folder; to discard it, delete it"


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
    profile: Mapping[str, float] = field(default_factory=dict)
    """Seconds by part, with `profile: true`; see `runs.profile`."""
    skipped: bool = False
    """Whether the stage had finished before and was skipped."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the record of a directory.

        Raises:
            RunError: if the stage has not finished, or the record is damaged or of another format.
        """
        content = read_json(directory / RECORD)
        expected = {own.name for own in fields(cls)} - {"skipped", "profile"}
        if set(content) - {"profile"} != expected:
            raise RunError(f"{directory / RECORD}: not a stage's record; delete it and run again")
        return cls(**content)

    def missing_outputs(self, directory: Path) -> list[str]:
        """List the outputs that are no longer in the stage's directory."""
        return [name for name in self.outputs if not (directory / name).is_file()]

    def edited_outputs(self, directory: Path) -> list[str]:
        """List the outputs whose content changed after the stage.

        A file with the recorded size and modification time counts as unchanged; any other is digested. So asking takes
        no longer for large outputs.
        """
        return [
            name
            for name, digest in self.outputs.items()
            if (path := directory / name).is_file()
            and (version := _size_and_mtime(path)) != self.as_written.get(name)
            and _digest_version(path, *version) != digest
        ]


def finished_stage(directory: Path, *, cure: str, inputs: Mapping[str, Any] | None = None) -> StageRecord:
    """Return the record of a stage, before another stage reads its outputs.

    Args:
        directory: of the stage.
        cure: what to do if the outputs cannot be read, as part of a sentence.
        inputs: the inputs that must be the same now, all or some of them.

    Raises:
        RunError: if the stage has not finished, an output was changed or removed since, or an input is another one now.
    """
    if not (directory / RECORD).is_file():
        raise RunError(f"{directory}: this stage has not finished; {cure}")
    record = StageRecord.read(directory)
    if missing := record.missing_outputs(directory):
        raise RunError(f"{directory}: {', '.join(missing)}: removed since the stage finished; {cure}")
    if edited := record.edited_outputs(directory):
        raise RunError(f"{directory}: {', '.join(edited)}: changed since the stage finished; {_KEEP_OR_DELETE}; {cure}")
    now = _plain(inputs or {})
    if changed := changed_values({name: record.inputs.get(name) for name in now}, now):
        raise RunError(f"{directory}: made with other settings ({', '.join(changed)}); {cure}")
    return record


def run_stage(
    directory: Path,
    *,
    version: int,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    work: Callable[[], Mapping[str, Any]],
    optional_outputs: Sequence[str] = (),
    around: AbstractContextManager[None] | None = None,
) -> StageRecord:
    """Run a stage unless it is finished, and write its record.

    Args:
        directory: where the stage writes; its record is ``done.json`` there.
        version: of the stage's code; another one computes other results.
        inputs: what the result depends on, as digests and plain values.
        outputs: names of the files that `work` writes to `directory`.
        optional_outputs: names of files that `work` may write.
        work: does the work and returns the results for the record (small, JSON-serializable).
        around: context of the work; not entered if the stage is skipped.

    Returns:
        The record.

    Raises:
        RunError: if the stage has to work again and would overwrite an output that was changed after it.
    """
    name, recorded_inputs = f"{directory.parent.name}/{directory.name}", _plain({**inputs, "version": version})
    try:
        before = StageRecord.read(directory)
    except RunError:  # no record, or one of another format
        before = None
    if before is not None:
        if edited := before.edited_outputs(directory):
            raise RunError(
                f"{directory}: {', '.join(edited)}: changed since the stage finished, and would be overwritten; "
                f"{_KEEP_OR_DELETE}; then run again"
            )
        if before.inputs == recorded_inputs and not before.missing_outputs(directory):
            logger.info("%s: finished before, skipped", name)
            run_progress().done(directory)
            return replace(before, skipped=True)
        changed = ", ".join(changed_values(before.inputs, recorded_inputs)) or ", ".join(
            before.missing_outputs(directory)
        )
        logger.info("%s: works again, as something changed: %s", name, changed)
    for stale in (RECORD, *optional_outputs):
        (directory / stale).unlink(missing_ok=True)
    with around or nullcontext(), stage_profile() as profile:
        run_progress().begin(directory)
        started = time.monotonic()
        result = work()
        parts = {} if profile is None else profile.seconds()
    written = [*outputs, *(name for name in optional_outputs if (directory / name).is_file())]
    record = StageRecord(
        inputs=recorded_inputs,
        outputs={output: digest_file(directory / output) for output in written},
        as_written={output: _size_and_mtime(directory / output) for output in written},
        seconds=round(time.monotonic() - started, 2),
        result=json.loads(json.dumps(result, default=jsonable)),
        profile=parts,
    )
    content = asdict(record)
    for left_out in ("skipped", *([] if parts else ["profile"])):
        del content[left_out]
    write_json(directory / RECORD, content)
    logger.info("%s: done in %.1f s%s", name, record.seconds, f": {shares_in_words(parts)}" if parts else "")
    run_progress().done(directory)
    request_upload(now=True)
    return record


def faces_digest(config: RunConfig, run: RunDir) -> str:
    """Digest of the prepared faces.

    Raises:
        RunError: if the faces are not prepared, changed since, or prepared with other settings.
    """
    settings = {"faces": config.faces, "labels": config.labels, "seed": config.seed}
    record = finished_stage(
        run.faces, inputs=settings, cure="prepare the faces: run `ssl-pipeline run` with this config"
    )
    return digest_of(record.outputs)


def _size_and_mtime(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


@lru_cache(maxsize=4096)
def _digest_version(path: Path, size: int, mtime: int) -> str:
    """Digest a file once per version, e.g. one that was copied from a storage."""
    return digest_file(path)


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as they are read back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(inputs, default=jsonable))
    return plain
