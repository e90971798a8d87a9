"""Training in several processes: same result and messages as in one, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, TrainingError
from ssl_pipeline.learning.fit import FitResult
from ssl_pipeline.learning.trackers import Tracking
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_text
from ssl_pipeline.runs.progress import listen
from ssl_pipeline.runs.uploads import provide_uploads
from ssl_pipeline.stages.launch import TrainingJob, run_job
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.learning.test_trackers import assert_holds_the_history, needs, read_tensorboard

NO_BATCH_NORM = "test_vit"
LOSS = {"type": "focal", "label_smoothing": 0.1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    directory = tmp_path_factory.mktemp("faces")
    config = load_config(write_tiny_config(directory), overrides=["faces.image_size=32"])
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    return config, run


def make_job(
    prepared: tuple[RunConfig, RunDir], directory: Path, *, architecture: str = NO_BATCH_NORM, **training: object
) -> TrainingJob:
    config, run = prepared
    settings = {
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"type": "sgd", "learning_rate": 0.05},
        "precision": "fp32",
        "augmentation": "strong",
        "loss": LOSS,
        "class_balanced": True,
        "ema_decay": 0.9,
        "max_gradient_norm": 1.0,
        **training,
    }
    role = {"model": {"architecture": architecture}, "training": settings}
    return TrainingJob.model_validate(
        {
            "name": "teacher",
            "role": role,
            "labels": config.labels,
            "faces": run.faces,
            "directory": directory,
            "seed": 3,
            "device": "cpu",
            "inputs": "",
        }
    )


def assert_close(one: Path, other: Path) -> None:
    state, other_state = (torch.load(path / "last.pt", weights_only=True) for path in (one, other))
    for name, tensor in state["model"].items():
        torch.testing.assert_close(other_state["model"][name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    histories = [pd.read_csv(path / "history.csv") for path in (one, other)]
    pd.testing.assert_frame_equal(*histories, rtol=1e-5, atol=1e-5)


class Training(NamedTuple):
    job: TrainingJob
    result: FitResult
    reports: list[tuple[str, float]]
    uploads: list[bool]


def job_of_two(prepared: tuple[RunConfig, RunDir], directory: Path, **settings: object) -> TrainingJob:
    frozen_first = {"type": "sgd", "learning_rate": 0.05, "freeze_backbone_epochs": 1}
    return make_job(prepared, directory, save_every_steps=2, optimizer=frozen_first, **{"num_processes": 2, **settings})


@pytest.fixture(scope="module")
def uninterrupted(prepared: tuple[RunConfig, RunDir], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training in two processes; read only."""
    directory = tmp_path_factory.mktemp("two")
    tracking = Tracking(trackers=("tensorboard",), directory=directory / "tracking", group="mine")
    job = job_of_two(prepared, directory).model_copy(update={"tracking": tracking})
    reports: list[tuple[str, float]] = []
    uploads: list[bool] = []
    with listen(lambda name, share: reports.append((name, share))), provide_uploads(uploads.append):
        result = run_job(job)
    return Training(job, result, reports, uploads)


def test_two_processes_equal_one(prepared: tuple[RunConfig, RunDir], uninterrupted: Training, tmp_path: Path) -> None:
    run_job(job_of_two(prepared, tmp_path, num_processes=1))
    assert_close(tmp_path, uninterrupted.job.directory)


def test_two_processes_report_once(uninterrupted: Training) -> None:
    job, result, reports, uploads = uninterrupted
    epochs = job.role.training.epochs
    assert reports == [(job.name, (epoch + 1) / epochs) for epoch in range(epochs)]
    assert uploads == [False] * epochs
    assert isinstance(result, FitResult)
    assert result.checkpoint.is_file()


@pytest.mark.parametrize("tracker", [needs("tensorboard")])
def test_two_processes_are_tracked_once(uninterrupted: Training, tracker: str) -> None:
    directory = uninterrupted.job.directory
    assert len(list((directory / "tracking" / tracker).rglob("events*"))) == 1
    (logged,) = read_tensorboard(directory / "tracking").values()
    assert_holds_the_history(logged, directory)


def test_two_processes_agree_with_the_pool_as_one_does(prepared: tuple[RunConfig, RunDir], tmp_path: Path) -> None:
    """The targets and the running means are of all processes' faces; 1.5 pool faces per labeled one divide unevenly."""
    settings = {"fixmatch": {"targets": "soft", "align": {}, "threshold": "self_adaptive", "faces_per_labeled": 1.5}}
    run_job(make_job(prepared, tmp_path / "one", epochs=1, **settings))
    run_job(make_job(prepared, tmp_path / "two", epochs=1, num_processes=2, **settings))
    assert_close(tmp_path / "one", tmp_path / "two")
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True)["fixmatch"] for name in ("one", "two"))
    for means, others in zip(one, two, strict=True):
        for name, tensor in means.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-5, atol=1e-5)


def test_two_processes_start_with_the_same_head_and_keep_what_is_frozen(
    prepared: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    settings = {
        "architecture": "wrn10_1",
        "epochs": 1,
        "optimizer": {"type": "sgd", "learning_rate": 0.05, "frozen_layers": 2},
        "head_start": "linear_probe",
        "batch_norm": "frozen",
    }
    run_job(make_job(prepared, tmp_path / "one", **settings))
    run_job(make_job(prepared, tmp_path / "two", num_processes=2, **settings))
    assert_close(tmp_path / "one", tmp_path / "two")


def test_two_processes_with_batch_norm_equal_one_with_two_accumulation_steps(
    prepared: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    settings = {
        "architecture": "wrn10_1",
        "epochs": 1,
        "ema_decay": None,
        "optimizer": {"type": "sgd", "learning_rate": 0.05, "freeze_backbone_epochs": 0},
    }
    run_job(make_job(prepared, tmp_path / "one", accumulation_steps=2, **settings))
    run_job(make_job(prepared, tmp_path / "two", num_processes=2, **settings))
    weights, other = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("one", "two"))
    for name, tensor in weights.items():
        if "running_" not in name and "num_batches" not in name:  # statistics are per process
            torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.slow
def test_after_a_kill_no_process_is_left_and_the_resumed_training_ends_with_the_same_weights(
    prepared: tuple[RunConfig, RunDir], uninterrupted: Training, tmp_path: Path
) -> None:
    job = job_of_two(prepared, tmp_path)
    state = job.directory / "last.pt"

    parent = start(job)
    wait_for(state.is_file)
    os.kill(max(processes_of(job)), signal.SIGKILL)
    assert parent.wait(60) == 3  # a TrainingError
    wait_for(lambda: not processes_of(job))

    saved = state.stat().st_mtime_ns
    parent = start(job)
    wait_for(lambda: state.stat().st_mtime_ns > saved)
    parent.kill()
    parent.wait()
    wait_for(lambda: not processes_of(job))

    run_job(job)
    for name in ("trained.safetensors", "history.csv"):
        assert (job.directory / name).read_bytes() == (uninterrupted.job.directory / name).read_bytes()


def test_an_error_in_several_processes_has_the_same_message_as_in_one(
    prepared: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    optimizer = {"type": "sgd", "learning_rate": 1e30}
    settings = {"optimizer": optimizer, "max_gradient_norm": None, "ema_decay": None}
    with pytest.raises(TrainingError) as alone:
        run_job(make_job(prepared, tmp_path / "one", **settings))
    with pytest.raises(TrainingError) as together:
        run_job(make_job(prepared, tmp_path / "two", num_processes=2, **settings))
    assert "the loss is nan at step" in str(alone.value)
    assert str(together.value).partition(", faces")[0] == str(alone.value).partition(", faces")[0]


def test_a_batch_size_that_the_processes_cannot_divide_is_refused(tmp_path: Path) -> None:
    path = write_tiny_config(tmp_path)
    with pytest.raises(ConfigError, match=r"multiple of accumulation_steps 2 × num_processes 3"):
        load_config(path, overrides=["teacher.training.num_processes=3", "teacher.training.accumulation_steps=2"])


START = """
import sys
from pathlib import Path
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.stages.launch import TrainingJob, run_job
try:
    run_job(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text()))
except TrainingError:
    sys.exit(3)
"""


def start(job: TrainingJob) -> "subprocess.Popen[bytes]":
    """Run the job from a new interpreter: a fork of the tests' process would inherit their threads and log handlers."""
    write_text(job.directory / "job.json", job.model_dump_json())
    return subprocess.Popen([sys.executable, "-c", START, str(job.directory / "job.json")])


def processes_of(job: TrainingJob) -> list[int]:
    """List the running processes of a job, including torchrun, by their command lines."""
    request = str(job.directory / "training_job.json").encode()
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and request in (entry / "cmdline").read_bytes():
                processes.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return processes


def wait_for(condition: "object", seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
