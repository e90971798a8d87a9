"""Folding batch norms: the same outputs, and only where nothing else takes the convolution's output."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.batch_norm_folding import fold_batch_norms
from ssl_pipeline.learning.engine import FoldedTorchEngine, torch_engine
from ssl_pipeline.learning.wide_resnet import WideResNet
from tests.learning.prediction_support import random_faces, random_model


class Block(nn.Module):
    """A convolution, a batch norm, and what a test does with them."""

    def __init__(self, convolution: nn.Conv2d | None = None) -> None:
        super().__init__()
        self.convolution = convolution or nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(self.convolution(images)))


class Shortcut(Block):
    """The convolution's output is used beside the batch norm."""

    def forward(self, images: Tensor) -> Tensor:
        convolved = self.convolution(images)
        return torch.as_tensor(self.norm(convolved) + convolved)


class Twice(Block):
    """Both layers are called twice."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(super().forward(images))


class ReluBetween(Block):
    """The batch norm takes something else."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(self.convolution(images).relu()))


class Standardized(nn.Conv2d):
    """A convolution whose weight is not its stored one."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight / self.weight.norm(), padding=1)


def randomize(network: nn.Module) -> nn.Module:
    """Give each batch norm statistics and weights that matter; return the network in eval mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
    return network.eval()


def num_folded(network: nn.Module, images: Tensor) -> int:
    """Fold, after a check that the output stays the same."""
    with torch.no_grad():
        before = network(images)
        count = fold_batch_norms(network, images[:1])
        torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    return count


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Block(), 1),
        (Block(nn.Conv2d(3, 3, 3, bias=False, groups=3)), 1),
        (Shortcut(), 0),
        (Twice(), 0),
        (ReluBetween(), 0),
        (Block(Standardized(3, 3, 3)), 0),
        (nn.Sequential(Block(), Shortcut(), nn.ReLU(), Block()), 2),
    ],
)
def test_a_pair_is_folded_where_the_batch_norm_alone_takes_the_output(network: nn.Module, expected: int) -> None:
    assert num_folded(randomize(network), torch.randn(3, 3, 8, 8)) == expected


@pytest.mark.parametrize(
    ("network", "remaining"),
    [
        ("resnet18", 0),
        ("tf_efficientnet_lite0", 0),  # padding as in TensorFlow, activation inside the batch norm
        ("seresnet18", 0),
        ("densenet121", 62),  # most take concatenations
        ("convnext_atto", 0),  # has none
        ("wrn16_2", 6),  # its first batch norm of a block takes a sum
    ],
)
def test_networks_keep_their_outputs_and_layout(network: str, remaining: int) -> None:
    if network == "wrn16_2":
        built: nn.Module = WideResNet(6, depth=16, width=2, image_size=32, dropout=0.0, stochastic_depth=0.0)
    else:
        built = timm.create_model(network, num_classes=6)
    randomize(built).to(memory_format=torch.channels_last)
    total = sum(isinstance(module, nn.BatchNorm2d) for module in built.modules())
    assert num_folded(built, torch.randn(2, 3, 64, 64)) == total - remaining
    assert sum(isinstance(module, nn.BatchNorm2d) for module in built.modules()) == remaining
    weights = [module.weight for module in built.modules() if isinstance(module, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_the_engine_folds_a_copy_once_and_leaves_the_network_as_it_was() -> None:
    network = random_model(labels=LabelSpace.of({"mask": ["worn", "not_worn"]}))
    faces = torch.from_numpy(random_faces(5)).permute(0, 3, 1, 2)
    before, engine = copy.deepcopy(network.state_dict()), FoldedTorchEngine()
    with torch.inference_mode():
        expected = torch_engine(network, faces)
        torch.testing.assert_close(engine(network, faces), expected)
        folded = engine._folded[network]
        torch.testing.assert_close(engine(network, faces), expected)
    assert engine._folded[network] is folded
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) < sum(
        isinstance(module, nn.BatchNorm2d) for module in network.modules()
    )
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
