"""Pretrained weights of a hub: fetched once, found offline, and refused in a sentence."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from ssl_pipeline.cli import main as cli
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.learning.backbones import timm_name
from ssl_pipeline.learning.checkpoint import load_checkpoint, save_checkpoint
from ssl_pipeline.learning.hub import HubWeights
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.network_check import check_network
from tests.conftest import SPACE, make_role
from tests.cycle_config import write_tiny_config
from tests.learning.loopback_hub import serve

NAME, REPOSITORY = "test_resnet", "timm/test_resnet.r160_in1k"
MINE = "hf_hub:me/mine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hub's content: the weights of one of timm's networks, and a network of somebody's."""
    torch.manual_seed(7)
    (tmp_path / "hub" / REPOSITORY).mkdir(parents=True)
    save_file(timm.create_model(NAME).state_dict(), tmp_path / "hub" / REPOSITORY / "model.safetensors")
    mine = timm.create_model("test_vit", img_size=64, num_classes=5)
    save_for_hf(mine, tmp_path / "hub" / "me" / "mine", safe_serialization=True)
    return tmp_path / "hub"


def build(architecture: str) -> FaceClassifier:
    config = ModelConfig(architecture=architecture, pretrained=True)
    return build_model(config, labels=SPACE, image_size=32)


@pytest.mark.parametrize(
    ("architecture", "file", "tensor"),
    [(NAME, f"{REPOSITORY}/model.safetensors", "conv1.0.weight"), (MINE, "me/mine/model.safetensors", "cls_token")],
)
def test_weights_are_fetched_once_and_found_without_the_hub(
    architecture: str, file: str, tensor: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(folder, monkeypatch) as hub:
        built = [build(architecture)]
        assert hub.requests.count(f"GET {file}") == 1
    built.append(build(architecture))
    check_network(
        make_role(model={"architecture": architecture, "pretrained": True}), key="teacher", labels=SPACE, image_size=32
    )
    for model in built:
        assert torch.equal(model.backbone.state_dict()[tensor], load_file(folder / file)[tensor])


def test_a_checkpoint_of_a_hubs_network_opens_without_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(folder, monkeypatch):
        model = build(MINE).eval()
    config = ModelConfig(architecture=MINE)
    save_checkpoint(tmp_path / "best.safetensors", model, model_config=config, image_size=32, cropping=None)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(load_checkpoint(tmp_path / "best.safetensors").model(pixels), model(pixels))


@pytest.mark.parametrize(
    ("architecture", "cure"),
    [
        (NAME, "--set pretrained=false, or run ssl-pipeline weights fetch test_resnet --to FILE"),
        (MINE, "run ssl-pipeline weights fetch .* and bring its cache"),
    ],
)
def test_without_the_hub_weights_are_refused_at_once_with_the_cure(
    architecture: str, cure: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(folder, monkeypatch):
        pass
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits to try again"))
    weights = HubWeights(timm_name(architecture))
    for attempt in (weights.check, weights.fetch, lambda: build(architecture)):
        with pytest.raises(CheckpointError, match=cure):
            attempt()


def test_a_hubs_architecture_without_its_weights_needs_the_hub_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(model={"architecture": MINE})
    with serve(folder, monkeypatch):
        check_network(role, key="teacher", labels=SPACE, image_size=32)
    shutil.rmtree(folder.parent / "cache")
    with pytest.raises(ConfigError, match=r"'teacher.model': 'hf_hub:me/mine' is not in the local cache .* timm's own"):
        check_network(role, key="teacher", labels=SPACE, image_size=32)


def test_a_hub_that_lacks_the_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / REPOSITORY / "model.safetensors").unlink()
    with (
        serve(folder, monkeypatch),
        pytest.raises(CheckpointError, match=r"has none of model\.safetensors, pytorch_mo"),
    ):
        build(NAME)


def test_weights_that_are_on_no_hub_are_refused_without_asking() -> None:
    with pytest.raises(ConfigError, match=r"not on timm's hub; download https://"):
        HubWeights("gcvit_tiny.in1k")
    without = next(name for name in timm.list_models() if not timm.list_pretrained(name))
    with pytest.raises(ConfigError, match=f"'{without}': there are no pretrained weights"):
        HubWeights(without)


def test_check_says_before_work_that_weights_are_not_to_be_had(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path)
    arguments = ["--models", "--set", f"teacher.model.architecture={NAME}", "--set", "teacher.model.pretrained=true"]
    with serve(folder, monkeypatch) as hub:
        assert run(monkeypatch, "check", str(config), *arguments) == 0
        assert hub.requests == [f"HEAD {REPOSITORY}/model.safetensors"]
    assert run(monkeypatch, "check", str(config), *arguments) == 1
    message = capsys.readouterr().err
    assert "'teacher.model': pretrained weights of 'test_resnet'" in message
    assert "--set teacher.model.pretrained=false" in message


def test_weights_fetch_writes_a_file_for_an_offline_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(folder, monkeypatch):
        assert run(monkeypatch, "weights", "fetch", NAME, "--to", str(tmp_path / "stick" / "weights")) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "stick" / "weights.safetensors") in printed
    assert "license apache-2.0" in printed
    config = ModelConfig(architecture=NAME, weights_file=tmp_path / "stick" / "weights.safetensors")
    model = build_model(config, labels=SPACE, image_size=32)
    expected = load_file(folder / REPOSITORY / "model.safetensors")["conv1.0.weight"]
    assert torch.equal(model.backbone.conv1[0].weight, expected)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)
