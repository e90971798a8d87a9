"""Face classifiers: a timm or wide-ResNet backbone with normalization and a joint or per-attribute head.

Shapes: B batch, L logits, K classes, A attributes, D features, C×H×W image.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.backbones import build_backbone, check_name
from ssl_pipeline.learning.pretrained import load_into, read_weights
from ssl_pipeline.learning.wide_resnet import WideResNet

WIDE_RESNET = re.compile(r"wrn(\d+)_(\d+)")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_architecture(config: ModelConfig) -> None:
    """Check that the architecture exists and the file of pretrained weights is there, without building a model.

    Raises:
        ConfigError: with the closest architecture names.
    """
    if match := WIDE_RESNET.fullmatch(config.architecture):
        if int(match[1]) < 10 or (int(match[1]) - 4) % 6:
            raise ConfigError(
                f"architecture '{config.architecture}': a wide ResNet's depth is 10, 16, 22, 28, …, got {match[1]}"
            )
        if config.pretrained:
            raise ConfigError(
                f"architecture '{config.architecture}': there are no pretrained weights for it; use weights_file, or --set pretrained=false"
            )
    else:
        check_name(config.architecture)
    if config.weights_file is not None and not config.weights_file.is_file():
        raise ConfigError(
            f"weights_file: no such file {config.weights_file}; --set weights_file=null starts without it"
        )


class FaceClassifier(nn.Module):
    """A backbone with one softmax over all classes (`joint`) or one per attribute (`per_attribute`).

    It takes uint8 pixels, crops and normalizes them itself, so that a checkpoint is self-contained.
    """

    mean: Tensor
    std: Tensor
    class_codes: Tensor

    def __init__(
        self, backbone: nn.Module, *, labels: LabelSpace, head: str, input_size: int, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_size = input_size
        self.labels = labels
        self.head = head
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("class_codes", torch.from_numpy(labels.class_codes), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the log probabilities of the classes.

        Args:
            pixels: uint8 [B, 3, H, W]; of larger ones than `input_size`, the centered square is used.

        Returns:
            float32 [B, K]; exp of each row sums to 1.
        """
        return self.log_probabilities(self.backbone(self._normalized(pixels)))

    def features(self, pixels: Tensor) -> Tensor:
        """Compute the pooled features of uint8 [B, 3, H, W], the input of the last layer: float [B, D].

        Raises:
            CheckpointError: if the backbone lacks timm's `forward_features` and `forward_head`.
        """
        backbone: Any = self.backbone
        pooled = backbone.forward_head(self.feature_maps(pixels), pre_logits=True)
        return torch.as_tensor(pooled).flatten(1)

    def feature_maps(self, pixels: Tensor) -> Tensor:
        """Compute the features before pooling, of a convolutional backbone float [B, D, h, w].

        Raises:
            CheckpointError: if the backbone lacks timm's `forward_features` and `forward_head`.
        """
        backbone: Any = self.backbone
        if not (hasattr(backbone, "forward_features") and hasattr(backbone, "forward_head")):
            raise CheckpointError(
                f"{type(backbone).__name__} has no forward_features and forward_head, which the shift report needs; "
                "--set shift=null disables it"
            )
        return torch.as_tensor(backbone.forward_features(self._normalized(pixels)))

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Convert the head's logits [B, L] into log probabilities of the classes, float32 [B, K]."""
        return class_log_probabilities(logits, self.head, self.labels, self.class_codes)

    def to_channels_last(self, device: torch.device) -> "FaceClassifier":
        """Move to a device with channels-last weights (fast for bf16 convolutions on a CPU); return self."""
        nn.Module.to(self, device=device)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def _normalized(self, pixels: Tensor) -> Tensor:
        margin = (pixels.shape[-1] - self.input_size) // 2
        if pixels.shape[-1] > self.input_size:
            inside = slice(margin, margin + self.input_size)
            pixels = pixels[..., inside, inside]
        images = (pixels.float() / 255 - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    @property
    def _channels_last(self) -> bool:
        weight = next((parameter for parameter in self.parameters() if parameter.dim() == 4), None)
        return weight is not None and weight.is_contiguous(memory_format=torch.channels_last)


def class_log_probabilities(logits: Tensor, head: str, labels: LabelSpace, class_codes: Tensor) -> Tensor:
    """Convert logits into log probabilities of the classes.

    With `per_attribute`, attributes are independent given the face, so their log probabilities add up.

    Args:
        logits: [B, L]: of the classes (`joint`), or of the values of each attribute in turn (`per_attribute`).
        head: `joint` or `per_attribute`.
        labels: the classes.
        class_codes: the value codes of every class, int [K, A].

    Returns:
        float32 [B, K].
    """
    logits = logits.float()
    if head == "joint":
        return functional.log_softmax(logits, dim=1)
    per_attribute = [
        functional.log_softmax(part, dim=1) for part in torch.split(logits, list(labels.num_values), dim=1)
    ]
    terms = [part[:, class_codes[:, position]] for position, part in enumerate(per_attribute)]
    return torch.stack(terms).sum(dim=0)


def build_model(
    config: ModelConfig, *, labels: LabelSpace, image_size: int, load_pretrained: bool = True
) -> FaceClassifier:
    """Build a model with random weights from torch's global generator, or pretrained ones if configured.

    Args:
        config: architecture, head, dropout and pretrained weights.
        labels: the classes.
        image_size: side of the stored faces in pixels; the network is built for `config.input_size` of them.
        load_pretrained: False skips pretrained weights, e.g. before loading a checkpoint.

    Raises:
        ConfigError: if the architecture is unknown or rejects its options.
        CheckpointError: if the pretrained weights cannot be fetched or do not fit.
    """
    check_architecture(config)
    num_logits = labels.num_classes if config.head == "joint" else sum(labels.num_values)
    input_size = config.input_size or image_size
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    backbone: Any
    if match := WIDE_RESNET.fullmatch(config.architecture):
        backbone = WideResNet(
            num_logits,
            depth=int(match[1]),
            width=int(match[2]),
            image_size=input_size,
            dropout=config.dropout,
            stochastic_depth=config.stochastic_depth,
        )
        if load_pretrained and config.weights_file is not None:
            load_into(config.weights_file, read_weights(config.weights_file), backbone)
    else:
        backbone = build_backbone(config, num_logits=num_logits, image_size=input_size, load_pretrained=load_pretrained)
        mean, std = backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]
    return FaceClassifier(
        backbone,
        labels=labels,
        head=config.head,
        input_size=input_size,
        mean=torch.tensor(mean),
        std=torch.tensor(std),
    )
