"""Trackers: each epoch once, in one tracked run a training, whatever interrupts it; results never change."""

import importlib
import logging
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl_pipeline.config.tracking import Tracker
from ssl_pipeline.learning import fit as fitting
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.trackers import TrackedRun, Tracking, find_missing_trackers
from tests.conftest import make_faces, make_role
from tests.learning.interruption import Interrupted, fit_until

Logged = dict[str, list[tuple[int, float]]]
"""Metric → its steps and values, in the order in which they were logged."""
ROLE = make_role(epochs=3)  # four steps an epoch


def needs(tracker: Tracker) -> Any:
    missing = bool(find_missing_trackers([tracker]))
    return pytest.param(tracker, marks=pytest.mark.skipif(missing, reason=f"needs the package of {tracker}: [track]"))


each_tracker = pytest.mark.parametrize("tracker", [needs("tensorboard"), needs("mlflow")])


@pytest.fixture(autouse=True)
def no_settings_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


def tracking(directory: Path, *trackers: Tracker) -> Tracking:
    return Tracking(trackers=trackers, directory=directory / "tracking", group="mine")


def read(tracker: Tracker, directory: Path) -> dict[str, Logged]:
    """What each tracked run holds, by its name."""
    return READERS[tracker](directory / "tracking")


def read_tensorboard(directory: Path) -> dict[str, Logged]:
    accumulators = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    runs = {}
    for folder in sorted((directory / "tensorboard").iterdir()):
        events = accumulators.EventAccumulator(str(folder)).Reload()
        scalars = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
        runs[folder.name] = {name: [(e.step, e.value) for e in found] for name, found in scalars.items()}
    return runs


def mlflow_client(directory: Path) -> Any:
    return importlib.import_module("mlflow.tracking").MlflowClient((directory / "mlflow").as_uri())


def read_mlflow(directory: Path) -> dict[str, Logged]:
    client, runs = mlflow_client(directory), {}
    for run in client.search_runs([client.get_experiment_by_name("mine").experiment_id]):
        metrics = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        name = f"{run.info.run_name}-{run.data.tags['training'][:8]}"
        runs[name] = {name: [(m.step, m.value) for m in found] for name, found in metrics.items()}
    return runs


READERS: dict[Tracker, Callable[[Path], dict[str, Logged]]] = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}


def assert_holds_the_history(logged: Logged, directory: Path) -> None:
    history = pd.read_csv(directory / "history.csv").set_index("epoch")
    assert set(logged) == set(history)
    for name, values in logged.items():
        assert [step for step, _ in values] == list(history.index), name
        assert [value for _, value in values] == pytest.approx(list(history[name]), rel=1e-6), name


@each_tracker
def test_a_tracked_run_holds_the_history_and_the_settings(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    fit(ROLE, make_faces(), directory=tmp_path, seed=3, name="teacher", tracking=tracking(tmp_path, tracker))
    ((name, logged),) = read(tracker, tmp_path).items()
    assert name.startswith("teacher-")
    assert_holds_the_history(logged, tmp_path)
    settings = hparams(tmp_path) if tracker == "tensorboard" else mlflow_params(tmp_path)
    assert settings["seed"] == "3"
    assert settings["model.architecture"] == "wrn10_1"
    assert float(settings["training.optimizer.learning_rate"]) == ROLE.training.optimizer.learning_rate
    assert settings["training.loss.class_weights"] == "null"


def hparams(directory: Path) -> dict[str, str]:
    accumulators = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    data = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
    (folder,) = (directory / "tracking/tensorboard").iterdir()
    metadata = accumulators.EventAccumulator(str(folder)).Reload().SummaryMetadata("_hparams_/session_start_info")
    found = data.FromString(metadata.plugin_data.content).session_start_info.hparams
    kinds = {name: value.WhichOneof("kind") for name, value in found.items()}
    return {
        name: f"{getattr(value, kinds[name]):g}" if kinds[name] == "number_value" else str(getattr(value, kinds[name]))
        for name, value in found.items()
    }


def mlflow_params(directory: Path) -> dict[str, str]:
    client = mlflow_client(directory / "tracking")
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.info.status == "FINISHED"
    return dict(run.data.params)


@each_tracker
def test_a_resumed_training_continues_its_tracked_run(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = tracking(tmp_path, tracker)
    fit_until(10, ROLE, tmp_path, monkeypatch, tracking=tracked)
    fit(ROLE, make_faces(), directory=tmp_path, seed=3, tracking=tracked)
    (logged,) = read(tracker, tmp_path).values()
    assert_holds_the_history(logged, tmp_path)


@each_tracker
def test_an_epoch_that_was_logged_and_lost_counts_once(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked, save, saved = tracking(tmp_path, tracker), fitting.save_training_state, []

    def save_once(*arguments: Any) -> None:
        if saved:
            raise Interrupted
        saved.append(save(*arguments))

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(fitting, "save_training_state", save_once)
        fit(ROLE, make_faces(), directory=tmp_path, seed=3, tracking=tracked)
    assert [len(values) for values in next(iter(read(tracker, tmp_path).values())).values()] == [2] * 5
    assert fit(ROLE, make_faces(), directory=tmp_path, seed=3, tracking=tracked).resumed_from_epoch == 1
    (logged,) = read(tracker, tmp_path).values()
    assert_holds_the_history(logged, tmp_path)


@each_tracker
def test_a_training_tracked_from_its_middle_has_all_its_epochs(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_until(10, ROLE, tmp_path, monkeypatch)
    fit(ROLE, make_faces(), directory=tmp_path, seed=3, tracking=tracking(tmp_path, tracker))
    (logged,) = read(tracker, tmp_path).values()
    assert_holds_the_history(logged, tmp_path)


@each_tracker
def test_another_training_of_the_same_name_is_another_tracked_run(tmp_path: Path, tracker: Tracker) -> None:
    role = make_role(epochs=1)
    for seed in (1, 2):
        fit(role, make_faces(), directory=tmp_path, seed=seed, tracking=tracking(tmp_path, tracker))
    assert [len(logged["train_loss"]) for logged in read(tracker, tmp_path).values()] == [1, 1]


@pytest.mark.skipif(bool(find_missing_trackers(["wandb"])), reason="needs the package wandb")
def test_wandb_writes_offline_unless_its_own_variable_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"epoch": epoch, "macro_f1": epoch / 10} for epoch in range(3)]
    tracked = tracking(tmp_path, "wandb")
    for history, new in ((rows[:1], rows[1]), (rows[:2], rows[2])):  # the second resumes
        with TrackedRun(tracked, name="teacher", key="0" * 64, parameters={"seed": 3}, history=history) as run:
            run.log(new)
    folders = sorted((tmp_path / "tracking/wandb").glob("offline-run-*"))
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    assert wandb_history(folders[-1]) == [(0, 0.0), (1, 0.1), (2, 0.2)]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with TrackedRun(tracked, name="student", key="1" * 64, parameters={}) as run:
        run.log(rows[0])
    assert sorted((tmp_path / "tracking/wandb").glob("offline-run-*")) == folders


def wandb_history(folder: Path) -> list[tuple[int, float]]:
    """Read steps and values from a LevelDB log of protocol buffers: a header of 7 bytes, then checksum, length, type, record."""
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    (file,) = folder.glob("*.wandb")
    data, start, rows = file.read_bytes(), 7, []
    while start < len(data):
        (length,) = struct.unpack_from("<H", data, start + 4)
        items = record.FromString(data[start + 7 : start + 7 + length]).history.item
        values = {item.nested_key[0]: float(item.value_json) for item in items}
        rows += [(int(values["_step"]), values["macro_f1"])] if values else []
        start += 7 + length
    return rows


def test_tracking_changes_no_byte_of_the_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra [track]")
    for name in ("plain", "tracked"):
        tracked = tracking(tmp_path, "tensorboard") if name == "tracked" else None
        fit(ROLE, make_faces(), directory=tmp_path / name, tracking=tracked)
    for file in ("trained.safetensors", "history.csv"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "tracked" / file).read_bytes()


@each_tracker
def test_a_tracker_that_fails_does_not_end_the_training(
    tmp_path: Path, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tracking").write_text("a file where a folder belongs")
    result = fit(make_role(epochs=1), make_faces(), directory=tmp_path, tracking=tracking(tmp_path, tracker))
    assert math.isfinite(result.kept_metric)
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"model: no longer tracked by {tracker} (")


def test_a_tracker_without_its_package_is_named_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()  # as wandb leaves it, where it was started
    code = (
        "import sys; from ssl_pipeline.learning.trackers import find_missing_trackers\n"
        "sys.path = [path for path in sys.path if 'site-packages' not in path] + [sys.argv[1]]\n"
        "print(*find_missing_trackers(['mlflow', 'wandb']), sep='\\n')\n"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    cures = {"mlflow": "'ssl-pipeline[track]'", "wandb": "wandb"}
    assert found.stdout.splitlines() == [
        f"'track': the package of {name} is not installed; pip install {cure}, or --set track=null"
        for name, cure in cures.items()
    ]
