"""`python -m flows.…` as local commands: results, messages, exit codes, kill -9."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from prefect import Flow
from prefect import flow as prefect_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from flows import tasks
from flows.build_masked_faces import build_masked_faces, record_lines
from flows.full_cycle import full_cycle
from flows.operations.command import run_from_command_line, training_lines
from flows.pseudo_label import pseudo_label
from flows.train_student import train_student
from flows.train_teacher import train_teacher
from ssl_pipeline.errors import ConfigError
from tests.cycle_config import TINY, write_tiny_config
from tests.flows.conftest import ROOT, Operator, clean_environment

pytestmark = pytest.mark.flows


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without a server: each flow starts a temporary one."""
    return clean_environment(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="module")
def own_server(alone: dict[str, str]) -> Iterator[dict[str, str]]:
    """A temporary server for flows called in this process, which saves importing torch and Prefect; its environment."""
    with prefect_test_harness(server_startup_timeout=180):
        yield alone | {"PREFECT_API_URL": PREFECT_API_URL.value() or ""}


def command(flow: str, config: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", f"flows.{flow}", "--config", str(config), *options]


def run(environment: dict[str, str], flow: str, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(flow, config, *options), env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_killed_cycle_resumes_to_the_same_bytes_as_an_uninterrupted_one(
    tmp_path: Path, operator: Operator, alone: dict[str, str], raw: Path
) -> None:
    environment = operator.environment
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    epochs = "student.training.epochs=10"
    with temporary_settings(updates={PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        full_cycle(config_path=str(write_tiny_config(whole, root=raw)), overrides=[epochs])

    config = write_tiny_config(killed, root=raw)
    student = killed / "runs/tiny/round-01/student"
    process = subprocess.Popen(
        command("full_cycle", config, "--set", epochs), env=environment, cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (student / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (student / "last.pt").exists()
    assert not (student / "done.json").exists()

    again = run(alone, "full_cycle", config, "--set", epochs)
    assert again.returncode == 0, again.stderr
    assert "Teacher against student" in again.stdout
    assert "manifest.parquet" in again.stdout
    log = again.stdout + again.stderr
    assert "round-00/teacher: finished before, skipped" in log
    assert "student 1: training resumes after epoch" in log
    for name in ("round-01/pseudo_labels/manifest.parquet", "round-01/student/best.safetensors"):
        assert (killed / "runs/tiny" / name).read_bytes() == (whole / "runs/tiny" / name).read_bytes(), name


@pytest.mark.usefixtures("own_server")
def test_single_flows_write_their_results(tmp_path: Path, raw: Path) -> None:
    config = write_tiny_config(tmp_path, root=raw)
    for flow, leaves in (
        (train_teacher, "round-00/teacher/best.safetensors"),
        (pseudo_label, "round-01/pseudo_labels/manifest.parquet"),
        (train_student, "round-01/student/best.safetensors"),
    ):
        result = flow(config_path=str(config), run_name="single")
        assert (tmp_path / "runs/single" / leaves).is_file()
        assert str(tmp_path / "runs/single") in result.get("checkpoint", result.get("manifest"))
    state = flow(config_path=str(config), run_name="single", return_state=True)
    assert state.message == "; ".join(training_lines(result))
    assert state.result()["checkpoint"] == result["checkpoint"]


@pytest.mark.usefixtures("own_server")
def test_a_task_is_tried_again_after_an_error_of_the_disk_and_not_after_a_user_error() -> None:
    attempts: list[str] = []

    def read(path: str) -> str:
        attempts.append(path)
        if path == "mistaken":
            raise ConfigError("no such setting")
        if len(attempts) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return "the faces"

    task = tasks._task(read, "read", retries=True).with_options(retry_delay_seconds=0)
    assert prefect_flow(lambda: task("faces"), name="reads")() == "the faces"
    assert attempts == ["faces", "faces"]
    with pytest.raises(ConfigError):
        prefect_flow(lambda: task("mistaken"), name="fails")()
    assert attempts == ["faces", "faces", "mistaken"]


def test_a_bad_config_is_refused_before_prefect_starts(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path, root=raw)
    monkeypatch.setattr(
        sys, "argv", [*command("full_cycle", config)[2:], "--set", "teacher.training.epoch=3", "--set", "seed=x"]
    )
    monkeypatch.setattr(Flow, "__call__", lambda *_, **__: pytest.fail("the flow was started"))
    with pytest.raises(SystemExit) as ended:
        run_from_command_line(full_cycle)
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert "2 faults" in message
    assert "unknown key 'teacher.training.epoch'; did you mean 'epochs'?" in message
    assert not (tmp_path / "runs").exists()


def test_a_user_error_inside_a_run_on_a_running_server_is_one_message_and_exit_code_one(
    tmp_path: Path, own_server: dict[str, str], raw: Path
) -> None:
    """The server is at Prefect's usual port, and no setting names it."""
    found = own_server | {"PREFECT_SERVER_API_PORT": own_server["PREFECT_API_URL"].split(":")[-1].removesuffix("/api")}
    del found["PREFECT_API_URL"]
    (tmp_path / "empty").mkdir()
    config = write_tiny_config(tmp_path, root=raw)
    empty = f"faces.unlabeled.sources=[{{type: folder, path: {tmp_path / 'empty'}}}]"
    result = run(found, "full_cycle", config, "--set", empty)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert f"{tmp_path / 'empty'}: no image found for source 'folder'" in result.stderr
    log = result.stdout + result.stderr
    assert f"Using the Prefect server that runs at {own_server['PREFECT_API_URL']}" in log
    assert "Starting temporary server" not in log


@pytest.mark.usefixtures("own_server")
def test_masks_are_drawn_by_a_run_that_needs_them_and_by_their_own_flow(tmp_path: Path) -> None:
    drawn = {"type": "drawn", "name": "home", "path": "home", "num_people": 120, "size_pixels": 64}
    masked = {"type": "csv", "name": "masked", "path": "masked", "table": "faces.csv"}
    one_set = {
        "out": "masked",
        "sources": [drawn | {"limit": 9}],
        "landmarks": {"type": "canonical"},
        "per_face": {"wear": 2, "incorrect": 0, "normal": 1},
        "processes": 1,
    }
    faces = TINY["faces"] | {
        "labeled": TINY["faces"]["labeled"] | {"sources": [drawn]},
        "unlabeled": {"sources": [masked]},
    }
    config = write_tiny_config(tmp_path, faces=faces, masking=[one_set])
    train_teacher(config_path=str(config), overrides=["teacher.training.epochs=1"])
    pool = pd.read_parquet(tmp_path / "runs/tiny/faces/unlabeled.parquet")
    record = json.loads((tmp_path / "raw/masked/masked_set.json").read_text())
    assert len(pool) > 0
    assert set(pool["source"]) == {"masked"}
    assert record["pictures"] == 3 * record["used"] > 0

    assert f"{record['pictures']} were there before" in "".join(
        record_lines(build_masked_faces(config_path=str(config)))
    )
    with pytest.raises(ConfigError, match="no section 'masking'"):
        build_masked_faces(config_path=str(write_tiny_config(tmp_path)))
