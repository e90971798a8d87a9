"""Weights from a file: what is read, resampled, told, and what may not stay random."""

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import FaceClassifier, build_model

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
ViT, ResNet = "test_vit", "test_resnet"


def weights_of(architecture: str, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(7)
    return dict(timm.create_model(architecture, **options).state_dict())


def build(architecture: str, path: Path, *, size: int = 32, seed: int = 0) -> FaceClassifier:
    torch.manual_seed(seed)
    return build_model(ModelConfig(architecture=architecture, weights_file=path), labels=SPACE, image_size=size)


@pytest.mark.parametrize(
    ("architecture", "lost", "message"),
    [
        (
            ViT,
            "blocks.3.attn.qkv.weight",
            r"1 of \d+ tensors are missing or have another shape: blocks\.3\.attn\.qkv\.weight;",
        ),
        (ResNet, "conv1.0.weight", r"conv1\.0\.weight"),
        (ResNet, "bn1.running_mean", r"bn1\.running_mean"),
        ("wrn10_1", "stem.0.weight", r"stem\.0\.weight"),
    ],
)
def test_a_tensor_that_would_stay_random_is_refused_by_name(
    architecture: str, lost: str, message: str, tmp_path: Path
) -> None:
    if architecture == "wrn10_1":
        weights = dict(build_model(ModelConfig(architecture="wrn10_1"), labels=SPACE, image_size=32).state_dict())
        lost = next(name for name in weights if name.startswith("backbone.stem"))
        message = lost.removeprefix("backbone.")
    else:
        weights = weights_of(architecture)
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=message):
        build(architecture, tmp_path / "w.safetensors")


def test_many_lost_tensors_are_counted(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in weights_of(ViT).items() if "mlp" not in name}
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(
        CheckpointError, match=r"\d+ of \d+ tensors .*: blocks\.0\.mlp\S+, blocks\S+, blocks\S+ and \d+ more;"
    ):
        build(ViT, tmp_path / "w.safetensors")


@pytest.mark.parametrize("wrap", ["module", "compiled", "state_dict", "model", "model_ema", "backbone", "both"])
def test_wrappers_are_removed(wrap: str, tmp_path: Path) -> None:
    weights: dict[str, Any] = weights_of(ResNet)
    expected = weights["conv1.0.weight"]
    prefix = {"module": "module.", "compiled": "_orig_mod.", "backbone": "backbone.", "both": "module._orig_mod."}.get(
        wrap, ""
    )
    weights = {prefix + name: tensor for name, tensor in weights.items()}
    if wrap == "model_ema":
        weights = {"model": {name: tensor * 0 for name, tensor in weights.items()}, "model_ema": weights, "epoch": 3}
    elif not prefix:
        weights = {wrap: weights, "epoch": 3}
    torch.save(weights, tmp_path / "w.pth")
    assert torch.equal(build(ResNet, tmp_path / "w.pth").backbone.conv1[0].weight, expected)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_position_embeddings_are_resampled_to_the_runs_size(size: int, tmp_path: Path) -> None:
    save_file(weights_of(ViT, img_size=64), tmp_path / "w.safetensors")
    first, second = (build(ViT, tmp_path / "w.safetensors", size=size, seed=seed) for seed in (0, 1))
    assert torch.equal(first.backbone.pos_embed, second.backbone.pos_embed)
    assert not torch.equal(first.backbone.head.weight, second.backbone.head.weight)
    if size == 64:
        assert torch.equal(first.backbone.pos_embed, weights_of(ViT, img_size=64)["pos_embed"])


def test_a_gray_stem_is_repeated_over_the_colors(tmp_path: Path) -> None:
    weights = weights_of(ResNet, in_chans=1)
    save_file(weights, tmp_path / "w.safetensors")
    stem = build(ResNet, tmp_path / "w.safetensors").backbone.conv1[0].weight
    torch.testing.assert_close(stem.sum(1, keepdim=True), weights["conv1.0.weight"])


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mobilenetv3_small_050"])
def test_depthwise_convolutions_are_not_taken_for_a_gray_stem(architecture: str, tmp_path: Path) -> None:
    weights = weights_of(architecture)
    save_file(weights, tmp_path / "w.safetensors")  # in alphabetical order: blocks before conv_stem
    assert torch.equal(
        build(architecture, tmp_path / "w.safetensors").backbone.conv_stem.weight, weights["conv_stem.weight"]
    )


def test_weights_of_four_channels_are_refused(tmp_path: Path) -> None:
    save_file(weights_of(ResNet, in_chans=4), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"conv1\.0"):
        build(ResNet, tmp_path / "w.safetensors")


def test_a_distilled_transformer_keeps_everything_but_its_two_heads(tmp_path: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    weights = weights_of(name)
    save_file(weights, tmp_path / "w.safetensors")
    model = build(name, tmp_path / "w.safetensors", size=224)
    assert torch.equal(model.backbone.dist_token, weights["dist_token"])
    assert model.backbone.head_dist.out_features == 6


def test_a_file_that_was_saved_on_a_gpu_is_read_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(ResNet)
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(weights, tmp_path / "w.pth")
    assert torch.equal(build(ResNet, tmp_path / "w.pth").backbone.conv1[0].weight, weights["conv1.0.weight"])


def test_what_stays_random_and_what_is_not_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(weights_of(ResNet) | {"projector.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with caplog.at_level(logging.INFO, logger="ssl_pipeline.learning.pretrained"):
        build(ResNet, tmp_path / "w.safetensors")
    assert "random: fc.weight, fc.bias; not used from the file: projector.weight" in caplog.text


class _Unsafe:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights_of(ResNet), "args": _Unsafe()}, tmp_path / "w.pth")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(_Unsafe()))
    for name in ("w.pth", "w.pkl"):
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            build(ResNet, tmp_path / name)
    assert not (tmp_path / "ran").exists()
