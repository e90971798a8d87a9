"""Optimizers: torch's SGD and AdamW, and timm's by name."""

import difflib
import importlib.util
import inspect
from typing import Any, assert_never

import timm.optim
import torch
from torch import nn
from torch.optim import Optimizer

from ssl_pipeline.config.optimization import AdamW, OptimizerConfig, Sgd, TimmOptimizer
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.parameter_groups import FreezableBackbone, ParameterGroup, parameter_groups


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer over a model's parameter groups (see `parameter_groups`).

    Raises:
        ConfigError: if timm does not have the optimizer, or it rejects its options.
    """
    groups = parameter_groups(config, model)
    match config:
        case Sgd():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=nesterov)
        case AdamW():
            return torch.optim.AdamW(groups, lr=config.learning_rate)
        case TimmOptimizer():
            return _build_timm(config, groups)
        case _:
            assert_never(config)


def check_optimizer(config: RoleConfig, model: nn.Module | None = None) -> None:
    """Check that the optimizer can be built for the role's model; without one, it is built on the meta device.

    Raises:
        ConfigError: naming the fault in the name, the options, or the model's layers.
    """
    optimizer = config.training.optimizer
    if isinstance(optimizer, TimmOptimizer):
        _build_timm(optimizer, [{"params": [nn.Parameter(torch.zeros(2, 2))]}])
    needs_layers = optimizer.layer_decay is not None or optimizer.frozen_layers > 0
    if needs_layers or optimizer.head_learning_rate_factor != 1 or optimizer.freeze_backbone_epochs:
        if model is None:
            labels = LabelSpace.of({"attribute": ["a", "b"]})
            with torch.device("meta"):  # allocates no memory
                model = build_model(config.model, labels=labels, image_size=64, load_pretrained=False)
        parameter_groups(optimizer, model)
        FreezableBackbone(model, epochs=optimizer.freeze_backbone_epochs, num_layers=optimizer.frozen_layers)


def _build_timm(config: TimmOptimizer, groups: list[ParameterGroup]) -> Optimizer:
    _check_name(config.name)
    _check_options(config)
    options: dict[str, Any] = {"weight_decay": config.weight_decay, **config.options}
    try:
        optimizer = timm.optim.create_optimizer_v2(groups, opt=config.name, lr=config.learning_rate, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"optimizer '{config.name}' rejects options {config.options}: {error}") from None
    return optimizer


def _check_name(name: str) -> None:
    known = [str(known_name) for known_name in timm.optim.list_optimizers()]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else f": {', '.join(known)}"
        raise ConfigError(f"optimizer '{name}': not a timm optimizer{hint}")
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise ConfigError(
            f"optimizer '{name}': it needs second derivatives, which the training loop does not compute; choose another"
        )
    package = info.opt_class.partition(".")[0] if isinstance(info.opt_class, str) else None
    if package is not None and (importlib.util.find_spec(package) is None or not torch.cuda.is_available()):
        raise ConfigError(
            f"optimizer '{name}': it needs the package {package} and a GPU; install them or choose another"
        )


def _check_options(config: TimmOptimizer) -> None:
    info = timm.optim.get_optimizer_info(config.name)
    ignored = set() if info.has_eps else {"eps"}
    ignored |= set() if info.has_betas else {"betas"}  # timm would drop these silently
    constructor = timm.optim.get_optimizer_class(config.name, bind_defaults=False)
    parameters = [
        key for key in inspect.signature(constructor).parameters if key not in {"params", "lr", "weight_decay"}
    ]
    known = [key for key in parameters if key not in ignored]
    for option in config.options:
        if option in ("lr", "weight_decay"):
            key = "learning_rate" if option == "lr" else option
            raise ConfigError(f"optimizer '{config.name}': '{option}' is not an option; set optimizer.{key} instead")
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(known)}"
            raise ConfigError(f"optimizer '{config.name}': unknown option '{option}'; {hint}")
