"""Models: heads, sizes, pretrained weights from a file, rejected architectures."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import build_model, check_architecture
from ssl_pipeline.learning.wide_resnet import WideResNet

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def pixels(size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("head", ["joint", "per_attribute"])
@pytest.mark.parametrize("architecture", ["wrn10_1", "resnet10t"])
def test_class_probabilities_sum_to_one(architecture: str, head: str) -> None:
    model = build_model(ModelConfig(architecture=architecture, head=head), labels=SPACE, image_size=32)
    log_probabilities = model(pixels())
    assert log_probabilities.shape == (3, 6)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(3))


def test_a_per_attribute_head_gives_the_product_of_the_attributes() -> None:
    model = build_model(ModelConfig(architecture="wrn10_1", head="per_attribute"), labels=SPACE, image_size=32)
    logits = torch.randn(4, 5)
    gender, age = logits[:, :2].softmax(1), logits[:, 2:].softmax(1)
    expected = torch.einsum("bg,ba->bga", gender, age).flatten(1)
    torch.testing.assert_close(model.log_probabilities(logits).exp(), expected)


@pytest.mark.parametrize(("size", "side"), [(16, 4), (32, 8), (48, 6), (64, 8), (128, 8)])
def test_the_wide_resnets_last_features_stay_small_for_every_image_size(size: int, side: int) -> None:
    model = WideResNet(6, depth=10, width=1, image_size=size, dropout=0, stochastic_depth=0)
    assert model.blocks(model.stem(torch.zeros(1, 3, size, size))).shape == (1, 64, side, side)


def test_the_wide_resnet_has_the_papers_number_of_parameters() -> None:
    model = WideResNet(10, depth=28, width=10, image_size=32, dropout=0.3, stochastic_depth=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(36.5e6, rel=0.002)


def test_stochastic_depth_and_dropout_are_off_in_eval_mode() -> None:
    config = ModelConfig(architecture="wrn16_1", dropout=0.5, stochastic_depth=0.5)
    model, faces = build_model(config, labels=SPACE, image_size=32), pixels()
    assert not torch.equal(model(faces), model(faces))
    model.eval()
    assert torch.equal(model(faces), model(faces))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnt18", "did you mean .*'resnet18'"),
        ("wrn11_2", "depth is 10, 16, 22, 28, …, got 11"),
        ("nonsense!", "expected a timm model name or wrn<depth>_<width>"),
    ],
)
def test_an_unknown_architecture_is_rejected(architecture: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_architecture(ModelConfig(architecture=architecture))


def test_pretrained_weights_come_from_a_file_except_for_the_classifier(tmp_path: Path) -> None:
    donor = timm.create_model("resnet10t", num_classes=1000)
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    config = ModelConfig(architecture="resnet10t", weights_file=tmp_path / "weights.safetensors")
    model = build_model(config, labels=SPACE, image_size=32)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, donor.layer1[0].conv1.weight)
    assert model.backbone.fc.out_features == 6


def test_weights_of_another_architecture_are_rejected(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet14t").state_dict(), tmp_path / "weights.safetensors")
    config = ModelConfig(architecture="resnet18", weights_file=tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="use weights of the same architecture"):
        build_model(config, labels=SPACE, image_size=32)
