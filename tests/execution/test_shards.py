"""Where shards are worked on: what is refused before any work, and what a worker refuses; no cluster is started."""

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
    ("section", "words"),
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
def test_a_section_that_cannot_be_used_is_refused(section: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write_tiny_config(tmp_path), overrides=[f"execution={section}"])
    assert words in str(error.value)


def test_without_the_extra_ray_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "ray" else found(name, *of))
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


def test_in_this_process_shards_are_taken_in_order_and_one_at_a_time(tmp_path: Path) -> None:
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


def test_a_worker_elsewhere_refuses_what_it_does_not_see_and_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Errand(tmp_path / "traces").recipe()
    with ray_workers._surroundings(tmp_path) as surroundings:
        assert Worker().open(surroundings, recipe).error is None
        held_out = replace(surroundings, directory=tmp_path / "elsewhere")
        error = Worker().open(held_out, recipe).error
        assert isinstance(error, RunError) and "does not see this directory" in str(error)
        older = replace(surroundings, versions={**surroundings.versions, "torch": "1.0"})
        error = Worker().open(older, recipe).error
        assert isinstance(error, RunError) and "for 1.0: other versions give other bytes" in str(error)
    error = Worker().open(surroundings, recipe).error
    assert isinstance(error, RunError)  # the same path, and another file system


def test_another_process_would_compute_with_what_this_one_chose(tmp_path: Path) -> None:
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
