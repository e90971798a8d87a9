"""The trial of networks before work: sizes, options, heads; each network works or is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.network_check import check_network
from ssl_pipeline.stages.check import check
from tests.config.test_cures import cures
from tests.conftest import make_role
from tests.cycle_config import write_tiny_config

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def try_network(architecture: str, *, size: int = 64, needs_features: bool = True, **training: Any) -> None:
    role = make_role(model={"architecture": architecture, **training.pop("model", {})}, **training)
    check_network(role, key="teacher", labels=SPACE, image_size=size, needs_features=needs_features)


@pytest.mark.parametrize(
    "architecture", ["wrn10_1", "vgg11", "test_vit", "mixer_s16_224", "timm/resnet10t", "hf-hub:timm/resnet10t.c3_in1k"]
)
@pytest.mark.parametrize("head", ["joint", "per_attribute"])
def test_a_network_that_works_is_not_refused(architecture: str, head: str) -> None:
    try_network(architecture, model={"head": head})


def test_nothing_is_allocated_and_no_random_number_is_drawn() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    try_network("vgg11")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_a_fixed_size_is_built_for_the_runs_size() -> None:
    model = build_model(make_role(model={"architecture": "mixer_s16_224"}).model, labels=SPACE, image_size=32)
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 6)


@pytest.mark.parametrize("architecture", ["vgg11", "dla34"])
def test_stochastic_depth_is_passed_only_if_asked_for(architecture: str) -> None:
    try_network(architecture, size=96)
    message = f"'teacher.model': architecture '{architecture}' does not take stochastic_depth; --set teacher.model.stochastic_depth=0"
    with pytest.raises(ConfigError, match=message):
        try_network(architecture, size=96, model={"stochastic_depth": 0.1})


FAULTS = [
    (["teacher.model.architecture=vgg11"], "does not take faces of 24 × 24 pixels"),
    (
        ["student.model={architecture: vgg11, stochastic_depth: 0.1}", "faces.image_size=64"],
        "does not take stochastic_depth",
    ),
    (["teacher.model={architecture: wrn10_1, pretrained: true}"], "no pretrained weights"),
    (["teacher.model={architecture: resnet10t, weights_file: absent.pth}"], "no such file absent.pth"),
    (
        ["student.training.optimizer={type: adamw, layer_decay: 0.5}", "student.model.architecture=poolformer_s12"],
        "layers",
    ),
    (["execution={type: ray, num_gpus_per_shard: 1}", "device=cpu"], "for a network that computes on the CPU"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=lambda value: " ".join(value)[:50])
def test_a_pasted_cure_of_the_check_works(fault: list[str], message: str, tmp_path: Path) -> None:
    path = write_tiny_config(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        check(load_config(path, overrides=fault))
    working = [cure for cure in cures(str(error.value)) if cure != "device=cuda"]
    assert working
    for cure in working:
        check(load_config(path, overrides=[*fault, cure]))


def test_all_networks_are_refused_at_once(tmp_path: Path) -> None:
    overrides = ["teacher.model.architecture=resnt18", "student.model={architecture: vgg11, stochastic_depth: 0.1}"]
    with pytest.raises(ConfigError) as error:
        check(load_config(write_tiny_config(tmp_path), overrides=overrides))
    assert "'teacher.model': architecture 'resnt18'" in str(error.value)
    assert "'student.model': architecture 'vgg11'" in str(error.value)


def test_a_network_that_needs_real_tensors_is_tried_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def build(*args: Any, **options: Any) -> Any:
        devices.append(torch.get_default_device().type)
        if devices[-1] == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        return build_model(*args, **options)

    monkeypatch.setattr("ssl_pipeline.learning.network_check.build_model", build)
    try_network("wrn10_1")
    assert devices == ["meta", "cpu"]
