"""The state of a run, read from its files: run.json, lock, stage records. Read-only."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.lock import Holder, is_alive, is_locked, last_holder
from ssl_pipeline.runs.plan import PlannedStage, planned_stages, promoted
from ssl_pipeline.runs.records import RECORD, StageRecord

_VERDICTS = {None: "", True: "promoted", False: "not promoted"}
LEFT_AS_RUNNING = "left as running"
"""The state of a run whose run.json says `running` although no process holds it."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run."""

    name: str
    """Its directory, relative to the run's."""
    title: str
    """In plain words."""
    state: Literal["finished", "begun", "to do"]
    note: str = ""
    """Duration, or progress."""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run and of its stages."""

    root: Path
    state: str
    """``running``, ``left as running``, or the status in run.json: ``finished``, ``partly finished``, ``failed``, …"""
    detail: str
    """Why it is in this state: the process, or the error."""
    holder: Holder | None
    """The process that holds the run, or held it last."""
    stages: tuple[StageStatus, ...]
    """In their order. Stages that turned out not to be needed are omitted, e.g. rounds after a gate that did not promote."""
    next_step: str
    """How to continue."""


def run_status(root: Path) -> RunStatus:
    """Read the state of a run.

    Args:
        root: the run's directory.

    Raises:
        RunError: if there is no run.
    """
    if not (root / "run.json").is_file():
        raise RunError(f"{root}: no run (no run.json in it); name a folder such as data/runs/demo")
    run, metadata = RunDir(root), read_json(root / "run.json")
    config = load_config(root / "config.yaml")
    holder, state = last_holder(run.lock_file), str(metadata["status"])
    if is_locked(run.lock_file):
        state = "running"
        detail = f"{holder} is working in it since {holder.since}" if holder else "a process is working in it"
    elif state == "running":
        state, detail = LEFT_AS_RUNNING, _interruption(holder)
    elif state == "partly finished":
        detail = f"the flow {metadata.get('flow')} has ended, the cycle has not"
    else:
        detail = str(metadata.get("error", ""))
    stages = tuple(_stage(run, planned, config) for planned in planned_stages(config, run))
    if state == "finished" and run.summary.exists():
        stages = tuple(stage for stage in stages if stage.state != "to do")
    return RunStatus(root, state, detail, holder, stages, _next_step(root, state, config))


def _interruption(holder: Holder | None) -> str:
    if holder is None:
        return "run.json says running, but no process holds the run"
    if not holder.is_here:
        return (
            f"run.json says running, but no process of this host holds the run; {holder} took it last, {holder.since}: check "
            "there whether that process is alive"
        )
    if is_alive(holder.pid):  # or another process with the same number by now
        return f"{holder} took it {holder.since} and no longer holds it"
    return f"{holder} took it {holder.since} and is dead; it left no error (killed, or its machine went down)"


def _next_step(root: Path, state: str, config: RunConfig) -> str:
    command = RunDir(root).command
    match state:
        case "running":
            return "Wait for it, or cancel it and start the same command again."
        case "finished":
            return f"Nothing to do; {root / 'summary.json'} has the results." if RunDir(root).summary.exists() else ""
        case "waiting for review":
            return f"Decide: ssl-pipeline cycle resume {root} --accept, --threshold T or --reject."
        case "failed":
            return f"Fix the error and start the run again as before, or: {command}"
        case _:
            return f"Start the run again as before (a flow run: `prefect flow-run retry ID`), or: {command}"


def _stage(run: RunDir, planned: PlannedStage, config: RunConfig) -> StageStatus:
    """Read the progress of a stage."""
    directory, work = planned.directory, planned.work
    status = partial(StageStatus, _name(run, directory), planned.title)
    if directory == run.summary:
        return status("finished" if directory.exists() else "to do")
    if directory.name == "gate.json":
        is_promoted = promoted(directory.parent)
        return status("to do" if is_promoted is None else "finished", _VERDICTS[is_promoted])
    if (directory / RECORD).exists():
        return status(*_finished(directory))
    if work is not None and work.trains and work.role is not None and (directory / "last.pt").exists():
        history = directory / "history.csv"
        num_epochs = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.exists() else 0
        return status("begun", f"{num_epochs} epochs saved, of {work.role.training.budget}")
    if directory.name == "predictions" and (num_saved := len(list(directory.rglob("part-*.parquet")))):
        num_shards = -(-StageRecord.read(run.faces).result["unlabeled"] // config.prediction.shard_size)
        return status("begun", f"{num_saved} of {planned.num_members * num_shards} shards saved")
    return status("to do")


def _finished(directory: Path) -> tuple[Literal["finished", "begun"], str]:
    """Return the state and note of a stage that has a record."""
    try:
        record = StageRecord.read(directory)
    except RunError:
        return "begun", "its record is damaged"
    for outputs, state in ((record.missing_outputs, "removed"), (record.edited_outputs, "changed")):
        if names := outputs(directory):
            return "begun", f"{', '.join(names)}: {state} since it finished"
    return "finished", f"{record.seconds:,.1f} s"


def _name(run: RunDir, path: Path) -> str:
    return str(path.relative_to(run.root))
