"""The parts of a model that learn differently: classifier and backbone, earlier and later layers, decayed and not."""

from collections.abc import Collection
from typing import Any

from timm.models import group_parameters
from torch import nn

from ssl_pipeline.config.optimization import OptimizerConfig
from ssl_pipeline.errors import ConfigError

ParameterGroup = dict[str, Any]


def parameter_groups(config: OptimizerConfig, model: nn.Module) -> list[ParameterGroup]:
    """Sort a model's trainable parameters by learning rate and weight decay.

    With learning rate r, head factor h and layer decay d, a parameter of layer k of n (the classifier is layer n)
    learns at r · d^(n − k), and the classifier at r · h. Norms, biases (all that has one dimension) and what a timm
    model names itself (position embeddings, class tokens) are not decayed, since decay there only shifts the scale of
    features.

    The groups do not depend on what is frozen at the moment, so that an optimizer's state fits at any epoch.

    Returns:
        Groups with `params`, `lr` and `weight_decay`, in the order in which the model first names them.

    Raises:
        ConfigError: if the config asks for a classifier or an order of layers and the model does not tell it.
    """
    head = _head_names(model) if config.head_learning_rate_factor != 1 else frozenset()
    scales = {} if config.layer_decay is None else layer_scales(model, layer_decay=config.layer_decay)
    undecayed = _names_without_decay(model)
    groups: dict[tuple[float, float], ParameterGroup] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = scales.get(name, 1.0) * (config.head_learning_rate_factor if name in head else 1.0)
        flat = parameter.dim() <= 1 or name.endswith(".bias") or name in undecayed
        rate, decay = config.learning_rate * scale, 0.0 if flat else config.weight_decay
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def layer_scales(model: nn.Module, *, layer_decay: float) -> dict[str, float]:
    """Give each parameter's share of the learning rate: d^(n − k) in layer k of n (BEiT, arXiv:2106.08254).

    The layers are those of timm's `group_matcher`: stem or embedding, each block, and last the classifier.

    Returns:
        {name of the parameter: share in (0, 1]}.

    Raises:
        ConfigError: if the model does not tell the order of its layers.
    """
    backbone = _backbone(model)
    if not hasattr(backbone, "group_matcher"):
        raise ConfigError(
            f"layer_decay: {type(backbone).__name__} does not tell the order of its layers (timm's group_matcher); "
            "drop layer_decay, use head_learning_rate_factor, or choose another architecture"
        )
    layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {_outer(model, name): layer_decay ** (last - layer) for name, layer in layers.items()}


class FreezableBackbone:
    """A backbone that is held still for the first epochs, while the classifier learns.

    Held still means bit for bit: no gradients, so no step and no decay; and what keeps running statistics (batch norm)
    works with those it has. Dropout and stochastic depth go on.
    """

    def __init__(self, model: nn.Module, *, epochs: int) -> None:
        """Take the model's backbone; `epochs` is for how long, 0 never holds it.

        Raises:
            ConfigError: if the model does not tell its classifier.
        """
        self._epochs = epochs
        self._parameters: list[nn.Parameter] = []
        self._with_statistics: list[nn.Module] = []
        if not epochs:
            return
        head = _head_names(model)
        self._parameters = [
            parameter for name, parameter in model.named_parameters() if parameter.requires_grad and name not in head
        ]
        in_head = {id(module) for top in _head_modules(model) for module in top.modules()}
        self._with_statistics = [
            module
            for module in _backbone(model).modules()
            if id(module) not in in_head and any(True for _ in module.buffers(recurse=False))
        ]

    def start_epoch(self, epoch: int) -> None:
        """Hold the backbone still or let it go; call it after `model.train()`. Epochs count from 0."""
        frozen = epoch < self._epochs
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        if frozen:
            for module in self._with_statistics:
                module.training = False  # of this module alone: dropout inside goes on


def _backbone(model: nn.Module) -> Any:
    return getattr(model, "backbone", model)


def _outer(model: nn.Module, name: str) -> str:
    return f"backbone.{name}" if hasattr(model, "backbone") else name


def _head_modules(model: nn.Module) -> list[nn.Module]:
    """The classifier: timm's `get_classifier`, or `classifier`; distilled transformers have two."""
    backbone = _backbone(model)
    head = backbone.get_classifier() if hasattr(backbone, "get_classifier") else getattr(backbone, "classifier", None)
    return [module for module in (head if isinstance(head, tuple | list) else (head,)) if module is not None]


def _head_names(model: nn.Module) -> frozenset[str]:
    own = {id(parameter) for module in _head_modules(model) for parameter in module.parameters()}
    names = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in own)
    if not names:
        raise ConfigError(
            f"head_learning_rate_factor, freeze_backbone_epochs: {type(_backbone(model)).__name__} does not tell which "
            "part is its classifier; leave them out, or choose another architecture"
        )
    return names


def _names_without_decay(model: nn.Module) -> frozenset[str]:
    names: Collection[str] = getattr(_backbone(model), "no_weight_decay", frozenset)()
    return frozenset(_outer(model, name) for name in names)
