"""Shards on a Ray cluster of two nodes with a token: the same bytes, and a lost worker costs one shard."""

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
from ssl_pipeline.execution.ray_cluster import connected
from ssl_pipeline.execution.shards import map_shards
from ssl_pipeline.learning import shard_prediction as labeling
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.synthetic.masks import drawing
from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.execution.ray_prediction import TracedPrediction
from tests.execution.ray_support import TOKEN, Errand, cluster_of_two, kill_worker_of, traces
from tests.synthetic.masks.support import config_of, put_sources

# Ray reads these variables when it is imported: the fixture must set them before
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
        environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # both machines listen on 127.0.0.1 only
        with cluster_of_two() as cluster_address:
            yield cluster_address


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    """A run with a trained teacher, to be copied."""
    path = write_tiny_config(tmp_path_factory.mktemp("trained"), prediction={"shard_size": 20})
    config = load_config(path, overrides=["teacher.training.epochs=1"])
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    train_teacher(config, run)
    return config, run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ends(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_the_manifest_equals_that_of_one_process_and_a_killed_worker_costs_one_shard(
    address: str, trained_run: tuple[RunConfig, RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = trained_run
    monkeypatch.setattr(labeling, "ShardPrediction", TracedPrediction)
    monkeypatch.setattr(TracedPrediction, "folder", tmp_path / "traces")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # Ray's default for workers is one
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
            files = contents(copy.pseudo_labels(1))
            results.append({name: files[name] for name in files if name.endswith(".parquet")})
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


def test_finished_shards_are_not_repeated_and_need_no_cluster(
    trained_run: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    config, run = trained_run
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.root, copy.root)
    predict(config, copy, 1, copy.teacher / "best.safetensors")
    (copy.pseudo_labels(1) / "predictions" / "done.json").unlink()
    unreachable = RunConfig.model_validate(
        {**config.model_dump(), "execution": {"type": "ray", "address": "127.0.0.1:1"}}
    )
    predict(unreachable, copy, 1, copy.teacher / "best.safetensors")
    assert StageRecord.read(copy.pseudo_labels(1) / "predictions").result["num_skipped"] == 5


def test_an_error_in_a_shard_keeps_its_message(address: str, tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match=r"^shard 3: what, where, got, cure$"):
        map_shards(Errand(tmp_path / "traces"), ["a", "refuse", "b"], RayExecution(address=address), directory=tmp_path)


def test_a_shard_that_kills_every_worker_ends_the_stage(address: str, tmp_path: Path) -> None:
    execution = RayExecution(address=address, max_retries=1)
    with pytest.raises(RunError, match=r"worker of shard 1 was lost 2 times \(execution\.max_retries 1\)"):
        map_shards(Errand(tmp_path / "traces"), ["a", "die", "b"], execution, directory=tmp_path)
    assert Counter(trace["shard"] for trace in traces(tmp_path / "traces"))["die"] == 2


def test_a_cancelled_stage_ends_its_workers_and_keeps_the_sigterm_handler(address: str, tmp_path: Path) -> None:
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
    assert ends(sleeper)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not list(tmp_path.glob(".seen-by-workers-*"))


def test_a_cluster_without_room_is_refused(address: str, tmp_path: Path) -> None:
    for execution, work in (
        (RayExecution(address=address, num_gpus_per_shard=1), Errand(tmp_path, on_gpu=True)),
        (RayExecution(address=address), Errand(tmp_path, num_threads=2)),
    ):
        with pytest.raises(ConfigError, match=r"takes \d CPUs and \d GPUs of one machine; the cluster has: 127"):
            map_shards(work, ["a"], execution, directory=tmp_path)


def test_masks_drawn_by_a_local_cluster_equal_those_of_one_process(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "GROUPS_PER_SHARD", 1)
    put_sources(tmp_path)
    here = build_masked_faces(config_of(tmp_path, out="here"))
    there = build_masked_faces(config_of(tmp_path, out="there"), execution=RayExecution())
    assert {**here, "folder": ""} == {**there, "folder": ""}
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert os.environ["RAY_AUTH_TOKEN"] == TOKEN


def test_a_cluster_of_this_machine_listens_on_loopback_only(address: str) -> None:
    with connected(RayExecution()) as ray:
        assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_a_lost_machine_without_replacement_costs_only_its_shards(address: str, tmp_path: Path) -> None:
    """Must be the last test: the cluster has one machine afterwards."""
    folder = tmp_path / "traces"

    def lose_a_machine() -> None:
        while len(list(folder.glob("hold-*"))) < 2:
            time.sleep(0.02)
        on_head = [b"--head" in Path(f"/proc/{trace['parent']}/cmdline").read_bytes() for trace in traces(folder)]
        assert sorted(on_head) == [False, True]
        for trace, is_head in zip(traces(folder), on_head, strict=True):
            if not is_head:
                os.kill(trace["parent"], signal.SIGKILL)
                os.kill(trace["pid"], signal.SIGKILL)
        (folder / ".release").touch()

    threading.Thread(target=lose_a_machine, daemon=True).start()
    shards = ["hold-a", "hold-b", "c", "d"]
    assert map_shards(Errand(folder), shards, RayExecution(address=address), directory=tmp_path) == [
        "HOLD-A", "HOLD-B", "C", "D",
    ]  # fmt: skip
    assert len(traces(folder)) == 5
