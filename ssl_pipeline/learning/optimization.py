"""Optimizers and learning-rate schedules, from their config sections."""

import math
from collections.abc import Callable
from typing import assert_never

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from ssl_pipeline.config_optimization import AdamW, CosineSchedule, OptimizerConfig, PlateauSchedule, Sgd, StepSchedule
from ssl_pipeline.config_training import TrainingConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer; norms and biases are not decayed, since decay there only shifts the scale of features."""
    decayed = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    free = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    match config:
        case Sgd():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=nesterov)
        case AdamW():
            return torch.optim.AdamW(groups, lr=config.learning_rate)
        case _:
            assert_never(config)


class Schedule:
    """One face for every schedule: `after_step` once a batch, `after_epoch` once an epoch with the validation metric."""

    def __init__(self, config: TrainingConfig, optimizer: Optimizer, *, steps_per_epoch: int) -> None:
        self._per_step: LambdaLR | None = None
        self._per_epoch: StepLR | None = None
        self._plateau: ReduceLROnPlateau | None = None
        match config.scheduler:
            case StepSchedule(step_epochs=step_epochs, factor=factor):
                self._per_epoch = StepLR(optimizer, step_size=step_epochs, gamma=factor)
            case CosineSchedule() as cosine:
                self._per_step = LambdaLR(optimizer, cosine_with_warmup(cosine, config.epochs, steps_per_epoch))
            case PlateauSchedule(patience_epochs=patience, factor=factor):
                self._plateau = ReduceLROnPlateau(optimizer, mode="max", factor=factor, patience=patience)
            case _:
                assert_never(config.scheduler)

    def after_step(self) -> None:
        """Move on by one optimizer step."""
        if self._per_step is not None:
            self._per_step.step()

    def after_epoch(self, metric: float) -> None:
        """Move on by one epoch; `metric` is the validation macro F1, higher is better."""
        if self._per_epoch is not None:
            self._per_epoch.step()
        if self._plateau is not None:
            self._plateau.step(metric)

    @property
    def _scheduler(self) -> LambdaLR | StepLR | ReduceLROnPlateau:
        scheduler = self._per_step or self._per_epoch or self._plateau
        assert scheduler is not None
        return scheduler

    def state_dict(self) -> dict[str, object]:
        """The state, as plain numbers."""
        state = self._scheduler.state_dict()
        return {key: value for key, value in state.items() if key != "lr_lambdas"}  # a function: rebuilt, not stored

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a state."""
        self._scheduler.__dict__.update(state)


def cosine_with_warmup(config: CosineSchedule, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Give the learning rate as a fraction of its peak, by step (SGDR's half cosine, arXiv:1608.03983, after a ramp).

    During warm-up, step t of w takes (t + 1) / w; then, with T the steps that remain, f + (1 − f)(1 + cos(πt/T))/2.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    cosine_steps = max(epochs * steps_per_epoch - warmup_steps, 1)

    def fraction(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / cosine_steps, 1.0)
        return config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return fraction
