"""Parameter groups by learning rate and weight decay, and freezing of the backbone."""

from collections.abc import Collection
from typing import Any

from timm.models import group_parameters
from torch import nn

from ssl_pipeline.config.optimization import OptimizerConfig
from ssl_pipeline.errors import ConfigError

ParameterGroup = dict[str, Any]


def parameter_groups(config: OptimizerConfig, model: nn.Module) -> list[ParameterGroup]:
    """Group a model's trainable parameters by learning rate and weight decay.

    With learning rate r, head factor h and layer decay d, a parameter of layer k of n (the classifier is layer n)
    has the rate r · d^(n − k), and the classifier r · h. One-dimensional parameters (norms, biases) and those that a
    timm model lists in `no_weight_decay` (position embeddings, class tokens) have no weight decay.

    The groups do not depend on what is frozen, so that an optimizer's state can be loaded at any epoch.

    Returns:
        Groups with `params`, `lr` and `weight_decay`, in the order of the model's parameters.

    Raises:
        ConfigError: if the config needs the classifier or the order of layers and the model does not provide it.
    """
    head = _head_names(model, "head_learning_rate_factor=1") if config.head_learning_rate_factor != 1 else frozenset()
    scales = {} if config.layer_decay is None else layer_scales(model, layer_decay=config.layer_decay)
    undecayed = _names_without_decay(model)
    groups: dict[tuple[float, float], ParameterGroup] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = scales.get(name, 1.0) * (config.head_learning_rate_factor if name in head else 1.0)
        no_decay = parameter.dim() <= 1 or name.endswith(".bias") or name in undecayed
        rate, decay = config.learning_rate * scale, 0.0 if no_decay else config.weight_decay
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def layer_scales(model: nn.Module, *, layer_decay: float) -> dict[str, float]:
    """Compute each parameter's learning-rate factor d^(n − k) in layer k of n (BEiT, arXiv:2106.08254).

    The layers are those of timm's `group_matcher`: stem or embedding, each block, and the classifier.

    Returns:
        {parameter name: factor in (0, 1]}.

    Raises:
        ConfigError: if the model has no `group_matcher`.
    """
    layers = _layers(model, "layer_decay=null")
    last = max(layers.values())
    return {name: layer_decay ** (last - layer) for name, layer in layers.items()}


def _layers(model: nn.Module, cure: str) -> dict[str, int]:
    """Return each parameter's layer, from 0, in the order of timm's `group_matcher`: {name: layer}."""
    backbone = _backbone(model)
    if not hasattr(backbone, "group_matcher"):
        raise ConfigError(
            f"{cure.partition('=')[0]}: {type(backbone).__name__} has no order of layers (timm's group_matcher); "
            f"--set {cure}, or choose another architecture"
        )
    layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    return {_full_name(model, name): int(layer) for name, layer in layers.items()}


class FreezableBackbone:
    """Freezes first layers throughout, the backbone during the first epochs, and batch-norm statistics.

    Frozen parameters have no gradients, hence no optimizer step and no weight decay. Frozen modules with running
    statistics (batch norm) use and keep the current ones. Dropout and stochastic depth stay active.
    """

    def __init__(
        self, model: nn.Module, *, epochs: int = 0, num_layers: int = 0, freeze_statistics: bool = False
    ) -> None:
        """Freeze the first layers, and find what else to freeze.

        Build the optimizer and DistributedDataParallel afterwards, so that neither has the first layers' parameters.

        Args:
            model: a classifier.
            epochs: number of first epochs without training of the backbone.
            num_layers: number of first layers, in the order of `layer_scales`.
            freeze_statistics: whether batch norm keeps its running statistics throughout.

        Raises:
            ConfigError: if the model has no classifier (see `_head_modules`), no order of layers, or fewer layers.
        """
        self._epochs = epochs
        self._parameters: list[nn.Parameter] = []
        self._with_statistics: list[nn.Module] = []
        self._always_frozen = self._freeze_layers(model, num_layers) if num_layers else []
        if epochs:
            head = _head_names(model, "freeze_backbone_epochs=0")
            self._parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if parameter.requires_grad and name not in head
            ]
        if epochs or freeze_statistics:
            in_head = {id(module) for classifier in _head_modules(model) for module in classifier.modules()}
            self._with_statistics = [
                module for module in _backbone(model).modules() if id(module) not in in_head and _has_statistics(module)
            ]
        if freeze_statistics:
            self._always_frozen += self._with_statistics

    @staticmethod
    def _freeze_layers(model: nn.Module, num_layers: int) -> list[nn.Module]:
        """Freeze the parameters of the first layers; return these layers' modules with statistics."""
        layers = _layers(model, "frozen_layers=0")
        last = max(layers.values())
        if num_layers > last:
            raise ConfigError(
                f"frozen_layers: {num_layers} is more than the {last} layers before the classifier; "
                f"--set frozen_layers={last // 2}"
            )
        frozen = {name for name, layer in layers.items() if layer < num_layers}
        modules = []
        for prefix, module in model.named_modules():
            own = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
            if own and own <= frozen and _has_statistics(module):
                modules.append(module)
        for name, parameter in model.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        return modules

    def start_epoch(self, epoch: int) -> None:
        """Freeze or unfreeze the backbone for this epoch (from 0); call it after `model.train()`."""
        frozen = epoch < self._epochs
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        for module in self._with_statistics if frozen else self._always_frozen:
            module.training = False  # not eval(), which would also switch off dropout inside


def _has_statistics(module: nn.Module) -> bool:
    return any(True for _ in module.buffers(recurse=False))


def _backbone(model: nn.Module) -> Any:
    return getattr(model, "backbone", model)


def _full_name(model: nn.Module, name: str) -> str:
    return f"backbone.{name}" if hasattr(model, "backbone") else name


def _head_modules(model: nn.Module) -> list[nn.Module]:
    """Return timm's `get_classifier()`, or `classifier`; distilled transformers have two."""
    backbone = _backbone(model)
    head = backbone.get_classifier() if hasattr(backbone, "get_classifier") else getattr(backbone, "classifier", None)
    return [module for module in (head if isinstance(head, tuple | list) else (head,)) if module is not None]


def _head_names(model: nn.Module, cure: str) -> frozenset[str]:
    head_ids = {id(parameter) for module in _head_modules(model) for parameter in module.parameters()}
    names = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in head_ids)
    if not names:
        raise ConfigError(
            f"{cure.partition('=')[0]}: {type(_backbone(model)).__name__} has no classifier; --set {cure}, or choose "
            "another architecture"
        )
    return names


def _names_without_decay(model: nn.Module) -> frozenset[str]:
    names: Collection[str] = getattr(_backbone(model), "no_weight_decay", frozenset)()
    return frozenset(_full_name(model, name) for name in names)
