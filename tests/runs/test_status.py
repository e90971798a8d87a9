"""The state of a run, read from its files: running, left by a dead process, cancelled, failed, finished."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
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
    write_json(run.root / "run.json", {"status": "running"})  # as in `stages.open_run`, without importing torch
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_tiny_config(tmp_path)


def start(code: str, argument: Path) -> "subprocess.Popen[str]":
    """Start a process and wait until it prints that it holds the lock."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, str(argument)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def record(directory: Path, *, seconds: float, **result: int) -> None:
    """Write the record of a finished stage."""
    content = {"inputs": {}, "outputs": {}, "as_written": {}, "seconds": seconds, "result": result}
    write_json(directory / "done.json", content)


def test_a_run_is_running_while_its_process_lives_and_left_as_running_when_it_was_killed(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs/tiny"
    process = start(HOLD, config)
    running = run_status(root)
    assert (running.state, running.holder and running.holder.pid) == ("running", process.pid)
    process.kill()
    process.wait()
    left = run_status(root)
    assert left.state == "left as running"
    assert f"process {process.pid} took it" in left.detail and "is dead" in left.detail
    assert f"ssl-pipeline run {root / 'config.yaml'}" in left.next_step
    shown = CliRunner().invoke(app, ["cycle", "status", str(root)])
    assert shown.exit_code == 0
    assert f"{root}: left as running: process {process.pid}" in shown.stdout
    assert json.loads((root / "run.json").read_text())["status"] == "running"  # reading the state changes nothing


class _Stopped(BaseException):
    """Like the exception of a signal handler."""


@pytest.mark.parametrize(
    ("error", "state", "detail"),
    [
        (RunError("no room"), "failed", "no room"),
        (KeyboardInterrupt(), "cancelled", "stopped from outside (KeyboardInterrupt)"),
        (_Stopped(), "cancelled", "stopped from outside (_Stopped)"),
    ],
)
def test_a_run_records_how_it_ended(config: Path, error: BaseException, state: str, detail: str) -> None:
    with pytest.raises(type(error)), open_run(load_config(config)) as run:
        raise error
    status = run_status(run.root)
    assert (status.state, status.detail) == (state, detail)


def test_stages_are_listed_in_order_with_their_progress(config: Path) -> None:
    with open_run(load_config(config, overrides=["rounds=2"])) as run:
        record(run.faces, seconds=1.5, unlabeled=100)
        record(run.teacher, seconds=70)
        predictions = run.pseudo_labels(1) / "predictions"
        predictions.mkdir(parents=True)
        (predictions / "part-00000.parquet").touch()
    stages = [(stage.name, stage.state, stage.note) for stage in run_status(run.root).stages]
    assert stages[:4] == [
        ("faces", "finished", "1.5 s"),
        ("round-00/teacher", "finished", "70.0 s"),
        ("round-01/pseudo_labels/predictions", "begun", "1 of 3 shards saved"),
        ("round-01/pseudo_labels", "to do", ""),
    ]
    later = [
        "round-02/student/gate.json",
        "round-03/pseudo_labels/predictions",
        "round-03/pseudo_labels",
        "summary.json",
    ]
    assert [name for name, _, _ in stages[4:]][-4:] == later


def test_the_students_labels_of_the_pool_are_listed_once(config: Path) -> None:
    """As the round after the student's, unless that round has begun with them."""
    labels = ["round-02/pseudo_labels/predictions", "round-02/pseudo_labels"]
    with open_run(load_config(config)) as run:
        record(run.pseudo_labels(2), seconds=3)
    *_, predictions, selected, summary = run_status(run.root).stages
    assert [predictions.name, selected.name, summary.name] == [*labels, "summary.json"]
    assert predictions.title == "label the pool by the student"
    assert (selected.state, selected.title) == ("finished", "select the student's labels")
    with open_run(load_config(config, overrides=["rounds=2"])) as run:
        pass
    names = [stage.name for stage in run_status(run.root).stages]
    assert [names.count(name) for name in labels] == [1, 1]
    one_view = [
        "selection={type: ensemble_agreement}",
        "prediction.horizontal_flip=false",
        "out_of_fold={num_folds: 2}",
    ]
    with open_run(load_config(config, overrides=one_view)) as run:
        pass
    assert not set(labels) & {stage.name for stage in run_status(run.root).stages}


def test_shards_of_several_teachers_are_counted_together(config: Path) -> None:
    with open_run(load_config(config, overrides=["out_of_fold={num_folds: 3}"])) as run:
        record(run.faces, seconds=1.5, unlabeled=100)
        for part in ("fold-0/part-00000", "fold-0/part-00001", "fold-0/part-00002", "fold-1/part-00000"):
            path = run.pseudo_labels(1) / "predictions" / f"{part}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    notes = {stage.name: stage.note for stage in run_status(run.root).stages}
    assert notes["round-01/pseudo_labels/predictions"] == "4 of 9 shards saved"


def test_rounds_after_a_refused_student_are_omitted(config: Path) -> None:
    with open_run(load_config(config, overrides=["rounds=2"])) as run:
        record(run.student(1), seconds=1)
        write_json(run.student(1) / "gate.json", {"promoted": False})
    names = [stage.name for stage in run_status(run.root).stages]
    assert names[-4:] == [
        "round-01/student/gate.json",
        "round-02/pseudo_labels/predictions",
        "round-02/pseudo_labels",
        "summary.json",
    ]


def test_the_control_is_that_of_the_last_promoted_student(config: Path) -> None:
    with open_run(load_config(config, overrides=["rounds=3", "control=true"])) as run:
        for round_index, promoted in ((1, True), (2, False)):
            record(run.student(round_index), seconds=1)
            write_json(run.student(round_index) / "gate.json", {"promoted": promoted})
    names = [stage.name for stage in run_status(run.root).stages]
    assert names[-3:] == ["round-02/student/gate.json", "round-01/control", "summary.json"]


def test_a_running_training_shows_its_saved_epochs(config: Path) -> None:
    with open_run(load_config(config)) as run:
        run.teacher.mkdir(parents=True)
        (run.teacher / "last.pt").touch()
        (run.teacher / "history.csv").write_text("epoch,train_loss\n0,1.0\n1,0.9\n")
    assert run_status(run.root).stages[1].note == "2 epochs saved, of 3 epochs"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run \(no run\.json in it\)"):
        run_status(tmp_path)


def test_a_killed_process_frees_its_run_although_a_process_that_it_forked_lives(tmp_path: Path) -> None:
    process = start(
        "import os, sys, time; from pathlib import Path; from ssl_pipeline.runs.directory import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock():\n"
        "    if os.fork() == 0: print('held', flush=True); os.close(1); time.sleep(10); os._exit(0)\n"
        "    sys.stdin.read()",
        tmp_path,
    )
    run = RunDir(tmp_path)
    assert is_locked(run.lock_file)
    process.kill()
    process.wait()
    assert not is_locked(run.lock_file)
    with run.lock():
        holder = last_holder(run.lock_file)
        assert holder is not None and holder.pid == os.getpid()


def test_the_next_process_waits_while_another_one_still_has_the_lock_of_a_dead_holder(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start("import os, sys; from pathlib import Path; from ssl_pipeline.runs.directory import RunDir\n"
          "with RunDir(Path(sys.argv[1])).lock(): print('held', flush=True); os._exit(0)", tmp_path).wait()  # fmt: skip
    start("import sys, time; from filelock import FileLock\n"
          "with FileLock(sys.argv[1]): print('held', flush=True); time.sleep(1.5)", run.lock_file)  # fmt: skip
    assert is_locked(run.lock_file)
    with run.lock():
        holder = last_holder(run.lock_file)
        assert holder is not None and holder.pid == os.getpid()
    assert not is_locked(run.lock_file)


def test_another_users_lock_counts_as_held_while_the_noted_process_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = RunDir(tmp_path).lock_file
    with RunDir(tmp_path).lock():
        pass

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert is_locked(lock)
    note = tmp_path / ".lock.json"
    write_json(note, {**json.loads(note.read_text()), "pid": 2**30})
    assert not is_locked(lock)


def test_a_zombie_process_is_not_alive() -> None:
    child = multiprocessing.get_context("spawn").Process(target=signal.pause)
    child.start()
    assert child.pid is not None and is_alive(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)
    child.join()
    assert not is_alive(child.pid)


def test_a_status_asked_at_the_same_moment_does_not_refuse_a_run(tmp_path: Path) -> None:
    """The last holder is alive, this process, and `is_locked` of another one holds the lock for a moment."""
    run = RunDir(tmp_path)
    with run.lock():
        pass
    start("import sys, time; from filelock import FileLock\n"
          "with FileLock(sys.argv[1]): print('held', flush=True); time.sleep(0.4)", run.lock_file)  # fmt: skip
    with run.lock():
        assert is_locked(run.lock_file)


def test_a_stage_whose_outputs_changed_is_not_shown_as_finished(config: Path) -> None:
    with open_run(load_config(config)) as run:
        for directory in (run.faces, run.teacher):
            record(directory, seconds=1, unlabeled=3)
    (run.faces / "done.json").write_text("{}")
    content = read_json(run.teacher / "done.json")
    write_json(run.teacher / "done.json", content | {"outputs": {"a.txt": "0" * 64, "b.txt": "0" * 64}})
    stages = {stage.name: (stage.state, stage.note) for stage in run_status(run.root).stages}
    assert stages["faces"] == ("begun", "its record is damaged")
    assert stages["round-00/teacher"] == ("begun", "a.txt, b.txt: removed since it finished")
    (run.teacher / "a.txt").touch()
    (run.teacher / "b.txt").touch()
    assert run_status(run.root).stages[1].note == "a.txt, b.txt: changed since it finished"


def test_a_single_flow_neither_finishes_a_run_nor_changes_its_config_in_silence(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load_config(config)
    with pytest.raises(RunError), open_run(first) as run:
        raise RunError("no room")
    changed = load_config(config, overrides=["selection.confidence_threshold=0.7"])
    with open_run(changed, "pseudo-label"):
        assert run_status(run.root).state == "running"
    key = "selection.confidence_threshold"
    assert f"{key} was 0.55, is 0.7 from now on" in caplog.text
    assert read_json(run.root / "run.json")["changed_settings"] == {key: [0.55, 0.7]}
    status = run_status(run.root)
    assert (status.state, status.detail) == ("partly finished", "the flow pseudo-label has ended, the cycle has not")
    assert "ssl-pipeline run" in status.next_step
    with open_run(changed):
        pass
    assert run_status(run.root).state == "finished"
    with open_run(changed, "train-teacher"):
        pass
    assert run_status(run.root).state == "finished"  # nothing worked
    with open_run(changed, "train-teacher"):
        record(run.teacher, seconds=1)
    assert run_status(run.root).state == "partly finished"


def test_what_ended_a_run_is_raised_even_if_its_status_cannot_be_written(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("read-only")

    with pytest.raises(KeyboardInterrupt), open_run(load_config(config)):
        monkeypatch.setattr("ssl_pipeline.stages.open.write_json", fail)
        raise KeyboardInterrupt
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt), open_run(load_config(config)) as run:
        run.review(1).mkdir(parents=True)
        (run.review(1) / "request.json").write_text("damaged")
        raise KeyboardInterrupt


def test_a_holder_on_another_host_counts_as_alive(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start("import sys; from filelock import FileLock\n"
          "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()", run.lock_file)  # fmt: skip
    note = {"pid": 2**30, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    write_json(tmp_path / ".lock.json", note)
    with pytest.raises(RunError, match=r"process 1073741824 on host elsewhere is working in this run"), run.lock():
        pass
