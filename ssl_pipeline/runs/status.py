"""What state a run is in, told from its own files: its status, its lock, the records of its stages. Changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.lock import Holder, is_alive, is_locked, last_holder
from ssl_pipeline.runs.records import StageRecord

LEFT_AS_RUNNING = "left as running"
"""The state of a run whose files say that it runs while no process holds it."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run."""

    name: str
    """Its directory inside the run."""
    state: Literal["finished", "begun", "to do"]
    note: str = ""
    """Seconds of work, or how far it has come."""


@dataclass(frozen=True)
class RunStatus:
    """A run, and the first thing to know about it."""

    root: Path
    state: str
    """``running``, ``left as running``, or what run.json says: ``finished``, ``failed``, ``cancelled``, …"""
    detail: str
    """The state in a sentence, with the process and the error."""
    holder: Holder | None
    """Who holds the run, or held it last."""
    stages: tuple[StageStatus, ...]
    """In the order in which they run. A round that a gate has made needless is left out."""
    next_step: str
    """How to go on."""


def run_status(root: Path) -> RunStatus:
    """Tell what state a run is in.

    Args:
        root: the run's directory.

    Raises:
        RunError: if there is no run.
    """
    if not (root / "run.json").is_file():
        raise RunError(f"{root}: no run (no run.json in it); name a folder such as data/runs/demo")
    run, about = RunDir(root), read_json(root / "run.json")
    config = load_config(root / "config.yaml")
    holder, state = last_holder(run.lock_file), str(about["status"])
    if is_locked(run.lock_file):
        state, detail = "running", f"{holder or 'a process'} works in it" + (f" since {holder.since}" if holder else "")
    elif state == "running":
        state, detail = LEFT_AS_RUNNING, _how_it_was_left(holder)
    else:
        detail = str(about.get("error", ""))
    stages = tuple(_stages(run, config))
    return RunStatus(root, state, detail, holder, stages, _next_step(root, state, config))


def _how_it_was_left(holder: Holder | None) -> str:
    if holder is None:
        return "it says that it runs, and no process holds it"
    if not holder.is_here:
        return (
            f"it says that it runs, and no process of this host holds it; {holder} took it last, {holder.since}: look "
            "there whether that process lives"
        )
    if is_alive(holder.pid):  # another one by now, with the same number: it would hold the lock
        return f"{holder} took it {holder.since} and holds it no longer"
    return f"{holder} took it {holder.since} and is dead; it had no time to say why (killed, or its machine went down)"


def _next_step(root: Path, state: str, config: RunConfig) -> str:
    command = RunDir(root).command
    match state:
        case "running":
            return "Wait for it, or cancel it; then the same command goes on."
        case "finished":
            return (
                f"Nothing to do; {root / 'summary.json'} has what it came to." if RunDir(root).summary.exists() else ""
            )
        case "waiting for review":
            return f"Decide: ssl-pipeline cycle resume {root} --accept, --threshold T or --reject."
        case "failed":
            return f"Mend what the message says and start it again as before, or: {command}"
        case _:
            return f"Start it again as before (a flow run: `prefect flow-run retry ID`), or: {command}"


def _stages(run: RunDir, config: RunConfig) -> Iterator[StageStatus]:
    yield _stage(run, run.faces)
    epochs = config.teacher.training.epochs
    yield _stage(run, run.teacher, epochs=epochs)
    if config.out_of_fold is not None:
        for fold in range(config.out_of_fold.num_folds):
            yield _stage(run, run.fold_teacher(fold), epochs=epochs)
        yield _stage(run, run.out_of_fold)
    for round_index in range(1, config.rounds + 1):
        labels = run.pseudo_labels(round_index)
        shards = config.prediction.shard_size, config.num_members(round_index)
        yield _stage(run, labels / "predictions", shards=shards)
        yield _stage(run, labels)
        student = run.student(round_index)
        yield _stage(run, student, epochs=config.student.training.epochs)
        gate = student / "gate.json"
        decided = (student / "done.json").exists() and gate.exists()
        verdict = "" if not decided else "promoted" if read_json(gate)["promoted"] else "not promoted"
        yield StageStatus(_name(run, gate), "finished" if decided else "to do", verdict)
        if verdict == "not promoted":
            break
    summary = run.summary.name
    yield StageStatus(summary, "finished" if run.summary.exists() else "to do")


def _stage(
    run: RunDir, directory: Path, *, epochs: int | None = None, shards: tuple[int, int] | None = None
) -> StageStatus:
    """Tell how far a stage is; `epochs` of a training, `shards` of a labeling: their size, and how many label each."""
    name, record = _name(run, directory), directory / "done.json"
    if record.exists():
        return StageStatus(name, "finished", f"{StageRecord.read(directory).seconds:,.1f} s")
    if epochs is not None and (directory / "last.pt").exists():
        history = directory / "history.csv"
        done = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.exists() else 0
        return StageStatus(name, "begun", f"{done} of {epochs} epochs saved")
    if shards is not None and (saved := len(list(directory.rglob("part-*.parquet")))):
        shard_size, num_members = shards
        num_faces = StageRecord.read(run.faces).result["unlabeled"]
        return StageStatus(name, "begun", f"{saved} of {num_members * -(-num_faces // shard_size)} shards saved")
    return StageStatus(name, "to do")


def _name(run: RunDir, path: Path) -> str:
    return str(path.relative_to(run.root))
