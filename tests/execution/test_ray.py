"""Shards on a Ray cluster of two machines' processes, token on: the same bytes, and a lost worker costs one shard."""

import importlib.util
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssl_pipeline.config.execution import RayExecution
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, RunError
from ssl_pipeline.execution.shards import map_shards
from ssl_pipeline.learning import shard_prediction as labeling
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.train import train_teacher
from ssl_pipeline.synthetic.masks import drawing_units
from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.execution.ray_prediction import TracedPrediction
from tests.execution.ray_support import TOKEN, Errand, cluster_of_two, kill_worker_of, traces
from tests.synthetic.masks.support import config_of, put_sources

# Ray reads the mode of its tokens when it is imported: not before the fixture has set it
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra [ray]"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", TOKEN)
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with cluster_of_two() as found:
            yield found


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    """A run up to its teacher, to copy."""
    path = write_tiny_config(tmp_path_factory.mktemp("taught"), prediction={"shard_size": 20})
    config = load_config(path, overrides=["teacher.training.epochs=1"])
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    train_teacher(config, run)
    return config, run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_the_manifest_is_that_of_one_process_and_a_killed_worker_costs_one_shard(
    address: str, taught: tuple[RunConfig, RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = taught
    monkeypatch.setattr(labeling, "ShardPrediction", TracedPrediction)
    monkeypatch.setattr(TracedPrediction, "folder", tmp_path / "traces")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # Ray gives its workers one
    results = []
    try:
        for execution in ({"type": "in_process"}, {"type": "ray", "address": address, "num_cpus_per_shard": 1}):
            copy = RunDir(tmp_path / execution["type"])
            shutil.copytree(run.root, copy.root)
            ours = RunConfig.model_validate({**config.model_dump(), "execution": execution})
            killer = kill_worker_of(tmp_path / "traces", "part-00002") if execution["type"] == "ray" else None
            predict(ours, copy, 1, copy.teacher / "best.safetensors")
            assert StageRecord.read(copy.pseudo_labels(1) / "predictions").result["num_shards"] == 5
            if killer is not None:
                killer.join(1)
            select(ours, copy, 1)
            found = contents(copy.pseudo_labels(1))
            results.append({name: found[name] for name in found if name.endswith(".parquet")})
    finally:
        torch.set_num_threads(threads)
    assert len(results[0]) == 7  # five parts, the validation faces, the manifest
    assert results[0] == results[1]
    attempts = traces(tmp_path / "traces")
    assert Counter(trace["shard"] for trace in attempts) == Counter(
        {"part-00000": 1, "part-00001": 1, "part-00002": 2, "part-00003": 1, "part-00004": 1}
    )
    assert {trace["threads"] for trace in attempts} == {2}
    assert len({trace["parent"] for trace in attempts}) == 2  # both machines took part


def test_finished_shards_are_not_predicted_again_and_none_needs_no_cluster(
    taught: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    config, run = taught
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.root, copy.root)
    predict(config, copy, 1, copy.teacher / "best.safetensors")
    (copy.pseudo_labels(1) / "predictions" / "done.json").unlink()
    nobody = RunConfig.model_validate({**config.model_dump(), "execution": {"type": "ray", "address": "127.0.0.1:1"}})
    predict(nobody, copy, 1, copy.teacher / "best.safetensors")
    assert StageRecord.read(copy.pseudo_labels(1) / "predictions").result["num_skipped"] == 5


def test_a_fault_in_a_shard_comes_back_in_its_own_words(address: str, tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match=r"^shard 3: what, where, got, cure$"):
        map_shards(Errand(tmp_path / "traces"), ["a", "refuse", "b"], RayExecution(address=address), directory=tmp_path)


def test_a_shard_that_ends_every_worker_ends_the_stage(address: str, tmp_path: Path) -> None:
    execution = RayExecution(address=address, max_retries=1)
    with pytest.raises(RunError, match=r"worker of shard 1 was lost 2 times \(execution\.max_retries 1\)"):
        map_shards(Errand(tmp_path / "traces"), ["a", "die", "b"], execution, directory=tmp_path)
    assert Counter(trace["shard"] for trace in traces(tmp_path / "traces"))["die"] == 2


def test_who_cancels_ends_the_workers_and_keeps_the_way_to_be_cancelled(address: str, tmp_path: Path) -> None:
    def cancel() -> None:
        while not (tmp_path / "traces" / "sleep-0").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handler, before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGUSR1, interrupt)
    threading.Thread(target=cancel, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            map_shards(
                Errand(tmp_path / "traces"),
                ["a", "sleep", "b"],
                RayExecution(address=address),
                directory=tmp_path,
            )
    finally:
        signal.signal(signal.SIGUSR1, before)
    (sleeper,) = (trace["pid"] for trace in traces(tmp_path / "traces") if trace["shard"] == "sleep")
    assert gone(sleeper)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not list(tmp_path.glob(".seen-by-workers-*"))


def test_a_cluster_without_room_is_refused(address: str, tmp_path: Path) -> None:
    for execution, work in (
        (RayExecution(address=address, num_gpus_per_shard=1), Errand(tmp_path, on_gpu=True)),
        (RayExecution(address=address), Errand(tmp_path, num_threads=2)),
    ):
        with pytest.raises(ConfigError, match=r"takes \d CPUs and \d GPUs of one machine; the cluster has: 127"):
            map_shards(work, ["a"], execution, directory=tmp_path)


def test_masks_drawn_by_a_cluster_of_this_machine_are_those_of_one_process(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing_units, "UNITS_IN_A_SHARD", 1)
    put_sources(tmp_path)
    here = build_masked_faces(config_of(tmp_path, out="here"))
    there = build_masked_faces(config_of(tmp_path, out="there"), execution=RayExecution())
    assert {**here, "folder": ""} == {**there, "folder": ""}
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert os.environ["RAY_AUTH_TOKEN"] == TOKEN


def test_a_lost_machine_costs_its_shards_though_no_other_takes_its_place(address: str, tmp_path: Path) -> None:
    """The last test here: the cluster has one machine afterwards."""
    folder = tmp_path / "traces"

    def lose_a_machine() -> None:
        while len(list(folder.glob("hold-*"))) < 2:
            time.sleep(0.02)
        of_head = [b"--head" in Path(f"/proc/{trace['parent']}/cmdline").read_bytes() for trace in traces(folder)]
        assert sorted(of_head) == [False, True]
        for trace, head in zip(traces(folder), of_head, strict=True):
            if not head:
                os.kill(trace["parent"], signal.SIGKILL)
                os.kill(trace["pid"], signal.SIGKILL)
        (folder / ".release").touch()

    threading.Thread(target=lose_a_machine, daemon=True).start()
    shards = ["hold-a", "hold-b", "c", "d"]
    assert map_shards(Errand(folder), shards, RayExecution(address=address), directory=tmp_path) == [
        "HOLD-A", "HOLD-B", "C", "D",
    ]  # fmt: skip
    assert len(traces(folder)) == 5
