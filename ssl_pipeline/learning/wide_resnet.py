"""Wide ResNet for faces of 32 to 128 pixels, small enough for a CPU (Zagoruyko and Komodakis, arXiv:1605.07146)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each preceded by batch norm and ReLU; B(3,3) in the paper."""

    def __init__(self, num_in: int, num_out: int, *, stride: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.drop_path = drop_path
        is_identity = num_in == num_out and stride == 1
        self.shortcut = None if is_identity else nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, num_in, H, W] → [B, num_out, H/stride, W/stride]."""
        activated = functional.relu(self.norm1(features), inplace=True)
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        residual = self.conv1(activated)
        residual = self.conv2(functional.relu(self.norm2(residual), inplace=True))
        if self.training and self.drop_path > 0:  # stochastic depth per face, arXiv:1603.09382
            keep = 1 - self.drop_path
            residual = residual * torch.empty(len(residual), 1, 1, 1, device=residual.device).bernoulli_(keep) / keep
        return torch.as_tensor(shortcut + residual)


class WideResNet(nn.Module):
    """WRN-depth-width over three stages of 16, 32 and 64 × width channels.

    The stem halves the image until its side is at most 32 pixels, so that the cost of the first stage, which
    dominates on a CPU, does not grow with the image. Dropout is before the classifier, as in timm's networks and Noisy
    Student (arXiv:1911.04252), not between a block's convolutions as in the paper, where it took a sixth of a
    training step.
    """

    def __init__(
        self, num_outputs: int, *, depth: int, width: int, image_size: int, dropout: float, stochastic_depth: float
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"a wide ResNet's depth is 6n + 4 with n ≥ 1 (10, 16, 22, 28, …), got {depth}")
        blocks_per_stage = (depth - 4) // 6
        widths = [16 * width, 32 * width, 64 * width]
        stem: list[nn.Module] = [nn.Conv2d(3, 16, 3, stride=1 if image_size <= 32 else 2, padding=1, bias=False)]
        side = image_size if image_size <= 32 else image_size // 2
        while side > 32:
            stem.append(nn.AvgPool2d(2))
            side //= 2
        self.stem = nn.Sequential(*stem)
        num_blocks = 3 * blocks_per_stage
        blocks: list[nn.Module] = []
        num_in = 16
        for stage, num_out in enumerate(widths):
            for index in range(blocks_per_stage):
                drop_path = stochastic_depth * len(blocks) / max(num_blocks - 1, 1)  # the paper's linear decay rule
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PreActivationBlock(num_in, num_out, stride=stride, drop_path=drop_path))
                num_in = num_out
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(num_in)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_in, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers in timm's format: stem, one layer per block, classifier.

        The final norm belongs to the last block. With `coarse`, all blocks are one layer.
        """
        blocks = r"^blocks" if coarse else [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^stem", "blocks": blocks}

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, num_outputs]."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, D, H', W'], as in timm."""
        return functional.relu(self.norm(self.blocks(self.stem(images))), inplace=True)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, D, H', W'] → [B, num_outputs], or [B, D] with `pre_logits`."""
        pooled = self.dropout(features.mean(dim=(2, 3)))
        return torch.as_tensor(pooled if pre_logits else self.classifier(pooled))
