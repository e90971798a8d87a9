"""The state of a run, read from its files: run.json, lock, stage records. Read-only."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import NetworkTeacher
from ssl_pipeline.config.training import TrainingConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.lock import Holder, is_alive, is_locked, last_holder
from ssl_pipeline.runs.records import StageRecord

LEFT_AS_RUNNING = "left as running"
"""The state of a run whose run.json says `running` although no process holds it."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run."""

    name: str
    """Its directory, relative to the run's."""
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
    """In their order. Rounds after a gate that did not promote the student are omitted."""
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
    stages = tuple(_stages(run, config))
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


def _stages(run: RunDir, config: RunConfig) -> Iterator[StageStatus]:
    yield _stage(run, run.faces)
    yield from _teachers(run, config, run.teacher)
    if config.out_of_fold is not None:
        for fold in range(config.out_of_fold.num_folds):
            yield from _teachers(run, config, run.fold_teacher(fold))
        yield _stage(run, run.out_of_fold)
    compared = 1
    for round_index in range(1, config.rounds + 1):
        yield from _labels(run, config, round_index)
        student = run.student(round_index)
        yield _stage(run, student, training=config.student.training)
        gate = student / "gate.json"
        is_decided = (student / "done.json").exists() and gate.exists()
        verdict = "" if not is_decided else "promoted" if read_json(gate)["promoted"] else "not promoted"
        yield StageStatus(_name(run, gate), "finished" if is_decided else "to do", verdict)
        compared = round_index if verdict == "promoted" or round_index == 1 else compared  # see `finish.compared_round`
        if verdict == "not promoted":
            break
    if config.control:
        yield _stage(run, run.control(compared), training=config.student.training)
    if config.student_can_label and compared == round_index:  # else the labels of a later round are the student's
        for stage in _labels(run, config, compared + 1):
            yield replace(stage, note=f"{stage.note}, the student's labels".removeprefix(", "))
    summary = run.summary.name
    yield StageStatus(summary, "finished" if run.summary.exists() else "to do")


def _labels(run: RunDir, config: RunConfig, round_index: int) -> Iterator[StageStatus]:
    labels = run.pseudo_labels(round_index)
    shards = config.prediction.shard_size, config.num_members(round_index)
    yield _stage(run, labels / "predictions", shards=shards)
    yield _stage(run, labels)


def _teachers(run: RunDir, config: RunConfig, directory: Path) -> Iterator[StageStatus]:
    """Read the stages of a teacher: of a vote, those of its members first."""
    single = config.network_teacher
    if single is None:
        for name, teacher in config.named_teachers.items():
            training = teacher.training if isinstance(teacher, NetworkTeacher) else None
            yield _stage(run, run.members(directory) / name, training=training)
    yield _stage(run, directory, training=None if single is None else single.training)


def _stage(
    run: RunDir, directory: Path, *, training: TrainingConfig | None = None, shards: tuple[int, int] | None = None
) -> StageStatus:
    """Read the progress of a stage; `training` of a model, `shards` of a prediction: faces per shard, predictions per face."""
    name, record = _name(run, directory), directory / "done.json"
    if record.exists():
        return _finished_stage(name, directory)
    if training is not None and (directory / "last.pt").exists():
        history = directory / "history.csv"
        num_epochs = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.exists() else 0
        return StageStatus(name, "begun", f"{num_epochs} epochs saved, of {training.budget}")
    if shards is not None and (num_saved := len(list(directory.rglob("part-*.parquet")))):
        shard_size, num_members = shards
        num_faces = StageRecord.read(run.faces).result["unlabeled"]
        return StageStatus(name, "begun", f"{num_saved} of {num_members * -(-num_faces // shard_size)} shards saved")
    return StageStatus(name, "to do")


def _finished_stage(name: str, directory: Path) -> StageStatus:
    try:
        record = StageRecord.read(directory)
    except RunError:
        return StageStatus(name, "begun", "its record is damaged")
    for outputs, state in ((record.missing_outputs, "removed"), (record.edited_outputs, "changed")):
        if names := outputs(directory):
            return StageStatus(name, "begun", f"{', '.join(names)}: {state} since it finished")
    return StageStatus(name, "finished", f"{record.seconds:,.1f} s")


def _name(run: RunDir, path: Path) -> str:
    return str(path.relative_to(run.root))
