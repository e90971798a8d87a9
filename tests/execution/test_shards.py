"""Checks of `execution` before any work, and checks by a worker; no cluster is started."""

import importlib.util
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.execution import InProcess, RayExecution
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.errors import ConfigError, RunError
from ssl_pipeline.execution import ray_workers
from ssl_pipeline.execution.ray_workers import Worker
from ssl_pipeline.execution.shards import check_execution, map_shards
from ssl_pipeline.learning.shard_prediction import ShardPrediction, predict_shards
from ssl_pipeline.stages.check import check
from tests.cycle_config import write_tiny_config
from tests.execution.ray_support import Errand, traces
from tests.learning.prediction_support import predictor, save_random_model
from tests.learning.test_shard_prediction import pool


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("in_process", InProcess()),
        ("ray", RayExecution()),
        ("{type: ray, address: 'head:6379', num_gpus_per_shard: 0.5}", RayExecution(address="head:6379", num_gpus_per_shard=0.5)),
        ("{type: ray, address: auto}", RayExecution(address="auto")),
    ],
)  # fmt: skip
def test_execution_is_a_section_or_its_type_alone(section: str, expected: object, tmp_path: Path) -> None:
    path = write_tiny_config(tmp_path)
    assert load_config(path).execution == InProcess()
    config = load_config(path, overrides=[f"execution={section}"])
    assert config.execution == expected
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("rey", "'execution.type': expected one of ['in_process', 'ray'], got 'rey'; did you mean 'ray'?"),
        ("{type: ray, adress: auto}", "unknown key 'execution.adress'; did you mean 'address'?"),
        ("{type: in_process, address: auto}", "unknown key 'execution.address'"),
        ("{type: ray, address: head}", "'execution.address': expected"),
        ("{type: ray, address: 'ray://head:10001'}", "'execution.address': expected"),
        ("{type: ray, num_cpus_per_shard: 0}", "'execution.num_cpus_per_shard': expected"),
        ("{type: ray, num_gpus_per_shard: 2}", "'execution.num_gpus_per_shard': expected"),
        ("{type: ray, max_retries: -1}", "'execution.max_retries': expected"),
    ],
)
def test_an_invalid_section_is_refused(section: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write_tiny_config(tmp_path), overrides=[f"execution={section}"])
    assert message in str(error.value)


def test_without_the_extra_ray_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
    )
    config = load_config(write_tiny_config(tmp_path), overrides=["execution=ray"])
    with pytest.raises(ConfigError, match=r"needs the extra: pip install 'ssl-pipeline\[ray\]'"):
        check(config)


@pytest.mark.usefixtures("with_ray")
def test_gpus_and_the_device_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"num_gpus_per_shard: 0\.5 GPUs for a network that computes on the CPU"):
        check_execution(RayExecution(num_gpus_per_shard=0.5), device="cpu")
    with pytest.raises(ConfigError, match=r"num_gpus_per_shard: 0 for a network that computes on a GPU"):
        check_execution(RayExecution(), device="cuda")
    check_execution(RayExecution(num_gpus_per_shard=1), device="cuda")


@pytest.mark.usefixtures("with_ray")
def test_a_cluster_that_does_not_answer_is_refused_before_any_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_execution(RayExecution(address=address), device="cpu")
    with pytest.raises(ConfigError, match=rf"^execution\.address: nothing answers at {address}"):
        check_execution(RayExecution(address=address), device="cpu")


def test_in_process_shards_are_read_in_order_and_one_at_a_time(tmp_path: Path) -> None:
    taken: list[str] = []
    shards = (taken.append(name) or name for name in ("a", "b"))
    done: list[tuple[str, int]] = []
    results = map_shards(
        Errand(tmp_path / "traces"),
        shards,
        InProcess(),
        directory=tmp_path,
        on_done=lambda r: done.append((r, len(taken))),
    )
    assert results == ["A", "B"]
    assert done == [("A", 1), ("B", 2)]
    assert {trace["pid"] for trace in traces(tmp_path / "traces")} == {os.getpid()}


def test_a_worker_refuses_a_directory_that_it_cannot_see_and_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Errand(tmp_path / "traces").recipe()
    with ray_workers._requirements(tmp_path) as requirements:
        assert Worker(requirements, recipe).run("a") == "A"
        elsewhere = replace(requirements, directory=tmp_path / "elsewhere")
        with pytest.raises(RunError, match="cannot see this directory"):
            Worker(elsewhere, recipe).run("a")
        other_torch = replace(requirements, versions={**requirements.versions, "torch": "1.0"})
        with pytest.raises(RunError, match=r"instead of 1\.0: other versions give other bytes"):
            Worker(other_torch, recipe).run("a")
    with pytest.raises(RunError, match="cannot see this directory"):  # the same path on another file system
        Worker(requirements, recipe).run("a")


def test_another_process_uses_the_precision_and_threads_of_this_one(tmp_path: Path) -> None:
    faces, pixels = pool(4)
    mapped = np.lib.format.open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=pixels.shape)
    mapped[:] = pixels
    ours = predictor(save_random_model(tmp_path / "best.safetensors"), precision="auto")
    predict_shards(ours, faces, mapped, directory=tmp_path, shard_size=4, identity="a")
    threads = torch.get_num_threads()
    recipe = ShardPrediction(ours, mapped, "a").recipe()
    torch.set_num_threads(threads + 1)
    try:
        theirs = recipe()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)
    assert theirs.predictor.config.precision == ours.compute.precision != "auto"
    with pytest.raises(ValueError, match="expected a memory map"):
        ShardPrediction(ours, pixels, "a").recipe()
