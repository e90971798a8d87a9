"""From a config to a network that takes raw pixels and gives class probabilities, whatever its head.

Shapes: B batch, L logits, K classes, A attributes, C×H×W image.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.wide_resnet import WideResNet

WIDE_RESNET = re.compile(r"wrn(\d+)_(\d+)")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_architecture(config: ModelConfig) -> None:
    """Refuse an architecture that cannot be built, before anything is.

    Raises:
        ConfigError: with the nearest known name.
    """
    if match := WIDE_RESNET.fullmatch(config.architecture):
        if int(match[1]) < 10 or (int(match[1]) - 4) % 6:
            raise ConfigError(
                f"architecture '{config.architecture}': a wide ResNet's depth is 10, 16, 22, 28, …, got {match[1]}"
            )
        if config.pretrained:
            raise ConfigError(
                f"architecture '{config.architecture}': timm's hub has no such weights; use weights_file, or pretrained: false"
            )
    elif not timm.is_model(config.architecture.split(".")[0]):
        close = difflib.get_close_matches(config.architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        raise ConfigError(
            f"architecture '{config.architecture}': neither one of timm's names nor wrn<depth>_<width>, as wrn16_2{hint}"
        )
    if config.weights_file is not None and not config.weights_file.is_file():
        raise ConfigError(f"weights_file: no such file {config.weights_file}")


class FaceClassifier(nn.Module):
    """A backbone with one softmax over all classes (`joint`) or one an attribute (`per_attribute`).

    It takes raw pixels and normalises them itself, so that a checkpoint needs nothing beside it.
    """

    mean: Tensor
    std: Tensor
    class_codes: Tensor

    def __init__(self, backbone: nn.Module, *, labels: LabelSpace, head: str, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.labels = labels
        self.head = head
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("class_codes", torch.from_numpy(labels.class_codes), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the log probabilities of the classes.

        Args:
            pixels: uint8 [B, 3, H, W].

        Returns:
            float32 [B, K]; their exponentials sum to 1 over a row.
        """
        return self.log_probabilities(self.backbone(self._normalized(pixels)))

    def features(self, pixels: Tensor) -> Tensor:
        """Give what the last layer sees of uint8 [B, 3, H, W], pooled over the image: float [B, D].

        Raises:
            CheckpointError: if the backbone does not tell its features as timm's models do.
        """
        backbone: Any = self.backbone
        if not (hasattr(backbone, "forward_features") and hasattr(backbone, "forward_head")):
            raise CheckpointError(
                f"{type(backbone).__name__} does not tell its features, which the diagnosis of shift compares; "
                "leave it out with shift: null"
            )
        pooled = backbone.forward_head(backbone.forward_features(self._normalized(pixels)), pre_logits=True)
        return torch.as_tensor(pooled).flatten(1)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Turn the head's logits [B, L] into log probabilities of the classes, float32 [B, K].

        With `per_attribute` the attributes are independent given the face: their log probabilities add up.
        """
        logits = logits.float()
        if self.head == "joint":
            return functional.log_softmax(logits, dim=1)
        per_attribute = [
            functional.log_softmax(part, dim=1) for part in torch.split(logits, list(self.labels.num_values), dim=1)
        ]
        terms = [part[:, self.class_codes[:, position]] for position, part in enumerate(per_attribute)]
        return torch.stack(terms).sum(dim=0)

    def to_channels_last(self, device: torch.device) -> "FaceClassifier":
        """Move to a device, weights laid out channels-last, as bf16 convolutions on a CPU want them; gives itself."""
        nn.Module.to(self, device=device)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def _normalized(self, pixels: Tensor) -> Tensor:
        images = (pixels.float() / 255 - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    @property
    def _channels_last(self) -> bool:
        weight = next((parameter for parameter in self.parameters() if parameter.dim() == 4), None)
        return weight is not None and weight.is_contiguous(memory_format=torch.channels_last)


def build_model(
    config: ModelConfig, *, labels: LabelSpace, image_size: int, load_pretrained: bool = True
) -> FaceClassifier:
    """Build a model with fresh weights from torch's global generator, or pretrained ones where the config says so.

    Args:
        config: the architecture and its head.
        labels: the classes.
        image_size: side of the faces in pixels.
        load_pretrained: False builds the shape alone, for weights that are about to be loaded.

    Raises:
        ConfigError: if the architecture is unknown.
        CheckpointError: if the file of pretrained weights does not fit.
    """
    check_architecture(config)
    num_logits = labels.num_classes if config.head == "joint" else sum(labels.num_values)
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    backbone: Any
    if match := WIDE_RESNET.fullmatch(config.architecture):
        backbone = WideResNet(
            num_logits,
            depth=int(match[1]),
            width=int(match[2]),
            image_size=image_size,
            dropout=config.dropout,
            stochastic_depth=config.stochastic_depth,
        )
    else:
        backbone = _timm_backbone(config, num_logits, image_size, pretrained=config.pretrained and load_pretrained)
        mean, std = backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]
    if load_pretrained and config.weights_file is not None:
        _load_backbone(backbone, config.weights_file)
    return FaceClassifier(backbone, labels=labels, head=config.head, mean=torch.tensor(mean), std=torch.tensor(std))


def _timm_backbone(config: ModelConfig, num_logits: int, image_size: int, *, pretrained: bool) -> Any:
    options: dict[str, Any] = {
        "num_classes": num_logits,
        "drop_rate": config.dropout,
        "drop_path_rate": config.stochastic_depth,
    }
    try:
        model: Any = timm.create_model(config.architecture, pretrained=pretrained, **options)
        if getattr(model, "patch_embed", None) is not None and hasattr(model, "set_input_size"):
            model.set_input_size(img_size=image_size)  # transformers are built for one size
    except TypeError as error:
        raise ConfigError(
            f"architecture '{config.architecture}' does not take dropout and stochastic_depth: {error}"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise ConfigError(f"architecture '{config.architecture}' cannot be built: {error}") from None
        raise CheckpointError(
            f"pretrained weights of '{config.architecture}' cannot be fetched ({type(error).__name__}: {error}); "
            "without the internet, name a local file: model.weights_file"
        ) from None
    return model


def _load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load what fits in name and shape; the classifier, made for other classes, may stay fresh, the rest may not."""
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights ({type(error).__name__}); expected .safetensors or a plain state dict"
        ) from None
    weights = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
    own = backbone.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    fresh = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    if len(fresh) > 2:  # a classifier's weight and bias
        raise CheckpointError(
            f"{path}: {len(fresh)} of {len(own)} tensors are not in it or have another shape, as '{fresh[0]}'; "
            "is it of this architecture?"
        )
    backbone.load_state_dict(fitting, strict=False)
