"""Where a run stands, told from its files: running, left by a dead process, cancelled, failed, finished."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.runs.lock import is_alive, is_locked, last_holder
from ssl_pipeline.runs.status import run_status
from ssl_pipeline.stages.open import open_run
from tests.cycle_config import write_tiny_config

HOLD = """
import sys
from pathlib import Path
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json, write_text
config = load_config(Path(sys.argv[1]))
run = RunDir(config.runs_root / config.run_name)
with run.lock():
    write_text(run.root / "config.yaml", dump_config(config))
    write_json(run.root / "run.json", {"status": "running"})  # as `stages.open_run` begins, without waiting for torch
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_tiny_config(tmp_path)


def hold(config: Path) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(config)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_run_is_running_while_its_process_lives_and_left_as_running_when_it_was_killed(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs/tiny"
    process = hold(config)
    running = run_status(root)
    assert (running.state, running.holder and running.holder.pid) == ("running", process.pid)
    process.kill()
    process.wait()
    left = run_status(root)
    assert left.state == "left as running"
    assert f"process {process.pid} took it" in left.words and "is dead" in left.words
    assert f"ssl-pipeline run {root / 'config.yaml'}" in left.cure
    shown = CliRunner().invoke(app, ["cycle", "status", str(root)])
    assert shown.exit_code == 0
    assert f"{root}: left as running: process {process.pid}" in shown.stdout
    assert json.loads((root / "run.json").read_text())["status"] == "running"  # it only looks


class _Stopped(BaseException):
    """As what a signal raises."""


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (RunError("no room"), "failed", "no room"),
        (KeyboardInterrupt(), "cancelled", "stopped from outside (KeyboardInterrupt)"),
        (_Stopped(), "cancelled", "stopped from outside (_Stopped)"),
    ],
)
def test_a_run_says_how_it_ended(config: Path, error: BaseException, state: str, words: str) -> None:
    with pytest.raises(type(error)), open_run(load_config(config)) as run:
        raise error
    found = run_status(run.root)
    assert (found.state, found.words) == (state, words)


def test_stages_are_told_in_their_order_with_how_far_each_has_come(config: Path) -> None:
    with open_run(load_config(config, overrides=["rounds=2"])) as run:
        write_json(run.faces / "done.json", {"seconds": 1.5, "result": {"unlabeled": 100}})
        write_json(run.teacher / "done.json", {"seconds": 70})
        predictions = run.pseudo_labels(1) / "predictions"
        predictions.mkdir(parents=True)
        (predictions / "part-00000.parquet").touch()
    told = [(stage.name, stage.state, stage.note) for stage in run_status(run.root).stages]
    assert told[:4] == [
        ("faces", "finished", "1.5 s"),
        ("round-00/teacher", "finished", "70.0 s"),
        ("round-01/pseudo_labels/predictions", "begun", "1 of 3 shards saved"),
        ("round-01/pseudo_labels", "to do", ""),
    ]
    assert [name for name, _, _ in told[4:]][-2:] == ["round-02/student/gate.json", "summary.json"]


def test_shards_of_several_teachers_are_counted_together(config: Path) -> None:
    with open_run(load_config(config, overrides=["out_of_fold={num_folds: 3}"])) as run:
        write_json(run.faces / "done.json", {"seconds": 1.5, "result": {"unlabeled": 100}})
        for part in ("fold-0/part-00000", "fold-0/part-00001", "fold-0/part-00002", "fold-1/part-00000"):
            path = run.pseudo_labels(1) / "predictions" / f"{part}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    told = {stage.name: stage.note for stage in run_status(run.root).stages}
    assert told["round-01/pseudo_labels/predictions"] == "4 of 9 shards saved"


def test_a_gate_that_refused_leaves_the_rounds_after_it_out(config: Path) -> None:
    with open_run(load_config(config, overrides=["rounds=2"])) as run:
        write_json(run.student(1) / "done.json", {"seconds": 1})
        write_json(run.student(1) / "gate.json", {"promoted": False})
    names = [stage.name for stage in run_status(run.root).stages]
    assert names[-2:] == ["round-01/student/gate.json", "summary.json"]


def test_a_training_under_way_tells_the_epochs_that_are_saved(config: Path) -> None:
    with open_run(load_config(config)) as run:
        run.teacher.mkdir(parents=True)
        (run.teacher / "last.pt").touch()
        (run.teacher / "history.csv").write_text("epoch,train_loss\n0,1.0\n1,0.9\n")
    assert run_status(run.root).stages[1].note == "2 of 3 epochs saved"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run \(no run\.json in it\)"):
        run_status(tmp_path)


def test_whoever_comes_after_a_killed_process_waits_for_the_processes_that_it_forked(tmp_path: Path) -> None:
    """A forked process has its parent's lock; it ends, as a loader of batches does, when it sees that it is alone."""
    code = (
        "import os, sys, time; from pathlib import Path; from ssl_pipeline.runs.records import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock():\n"
        "    if os.fork() == 0: time.sleep(1.5); os._exit(0)\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    run = RunDir(tmp_path)
    assert is_locked(run.lock_file)
    with run.lock():
        holder = last_holder(run.lock_file)
        assert holder is not None and holder.pid == os.getpid()
    assert not is_locked(run.lock_file)


def test_a_process_that_nobody_has_asked_for_yet_is_dead() -> None:
    child = multiprocessing.get_context("spawn").Process(target=signal.pause)
    child.start()
    assert child.pid is not None and is_alive(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)
    child.join()
    assert not is_alive(child.pid)
