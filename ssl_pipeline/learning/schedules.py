"""Learning-rate schedules: what share of its peak the learning rate has at each step.

All but the plateau are functions of the step alone, so that going on from a step needs the step's number and nothing
else. Symbols: t step from 0, E steps an epoch, N steps in all, w steps of warm-up.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Literal, assert_never

import numpy as np
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ssl_pipeline.config.optimization import (
    ConstantSchedule,
    CosineRestartsSchedule,
    CosineSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    SchedulerConfig,
    StepSchedule,
)
from ssl_pipeline.config.training import TrainingConfig
from ssl_pipeline.labels import FloatArray

Mode = Literal["max", "min"]
Curve = Callable[[int], float]


class Schedule:
    """One face for every schedule: `after_step` once a batch, `after_epoch` once an epoch with the monitored metric.

    Each of the optimizer's groups keeps its own peak (see `parameter_groups`); all move in proportion.
    """

    def __init__(
        self, config: TrainingConfig, optimizer: Optimizer, *, steps_per_epoch: int, mode: Mode = "max"
    ) -> None:
        """Set the first step's learning rate.

        Args:
            config: the schedule, the number of epochs, the peak learning rate.
            optimizer: whose learning rates to set.
            steps_per_epoch: optimizer steps an epoch.
            mode: whether a better metric is a larger or a smaller one; only the plateau asks.
        """
        self._optimizer = optimizer
        self._peak = config.optimizer.learning_rate
        self._curve = learning_rate_curve(config.scheduler, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
        self._step = 0
        self._plateau: ReduceLROnPlateau | None = None
        if isinstance(config.scheduler, PlateauSchedule):
            # torch's own rule, on an optimizer of one number whose learning rate is the factor that is asked for
            factor_holder = SGD([torch.zeros(1)], lr=1.0)
            patience, factor = config.scheduler.patience_epochs, config.scheduler.factor
            self._plateau = ReduceLROnPlateau(factor_holder, mode=mode, factor=factor, patience=patience, eps=0.0)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._apply()

    @property
    def learning_rate(self) -> float:
        """The coming step's learning rate, of a part of the model with no factor of its own."""
        return self._peak * self._fraction

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of another step, under the plateau's factor of now."""
        return self._peak * self._curve(step) * self._plateau_factor

    def after_step(self) -> None:
        """Move on by one optimizer step."""
        self._step += 1
        self._apply()

    def after_epoch(self, metric: float) -> None:
        """Move on by one epoch; `metric` is the monitored one of validation."""
        if self._plateau is not None:
            self._plateau.step(metric)
            self._apply()

    def state_dict(self) -> dict[str, Any]:
        """The state, as plain numbers."""
        state: dict[str, Any] = {"step": self._step}
        if self._plateau is not None:
            rule = self._plateau
            state["plateau"] = {"best": rule.best, "bad_epochs": rule.num_bad_epochs, "factor": self._plateau_factor}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._step = int(state["step"])
        if self._plateau is not None:
            plateau = state["plateau"]
            self._plateau.best, self._plateau.num_bad_epochs = plateau["best"], plateau["bad_epochs"]
            self._plateau.optimizer.param_groups[0]["lr"] = plateau["factor"]
        self._apply()

    @property
    def _plateau_factor(self) -> float:
        return 1.0 if self._plateau is None else float(self._plateau.optimizer.param_groups[0]["lr"])

    @property
    def _fraction(self) -> float:
        return self._curve(self._step) * self._plateau_factor

    def _apply(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._fraction


def learning_rate_curve(config: SchedulerConfig, *, epochs: int, steps_per_epoch: int) -> Curve:
    """Give the learning rate as a share of its peak, by step.

    During warm-up, step t takes (t + 1) / w. Milestones are counted from the start of the training; cosines begin when
    the warm-up ends. The plateau's own falls depend on the metric and are not in the curve.

    Returns:
        A function of t in 0…N; at N and beyond it stays at its end.
    """
    num_steps = epochs * steps_per_epoch
    if isinstance(config, OneCycleSchedule):
        return _one_cycle(config, num_steps)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    after = _after_warmup(config, num_steps=num_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)
    return lambda step: (step + 1) / warmup if step < warmup else after(step)


def _after_warmup(
    config: ConstantSchedule
    | StepSchedule
    | MultiStepSchedule
    | CosineSchedule
    | CosineRestartsSchedule
    | PlateauSchedule,
    *,
    num_steps: int,
    steps_per_epoch: int,
    warmup: int,
) -> Curve:
    match config:
        case ConstantSchedule() | PlateauSchedule():
            return lambda step: 1.0
        case StepSchedule(step_epochs=step_epochs, factor=factor):
            return lambda step: factor ** (step // (step_epochs * steps_per_epoch))
        case MultiStepSchedule(milestones=milestones, factor=factor):
            return lambda step: factor ** bisect_right(milestones, step // steps_per_epoch)
        case CosineSchedule(final_fraction=final):
            length = max(num_steps - warmup, 1)
            return lambda step: _half_cosine(final, min((step - warmup) / length, 1.0))
        case CosineRestartsSchedule():
            return _cosine_restarts(config, first_length=config.first_cycle_epochs * steps_per_epoch, warmup=warmup)
        case _:
            assert_never(config)


def _half_cosine(final: float, progress: float) -> float:
    """From 1 to `final` as `progress` goes from 0 to 1."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _cosine_restarts(config: CosineRestartsSchedule, *, first_length: int, warmup: int) -> Curve:
    def fraction(step: int) -> float:
        within, length = step - warmup, first_length
        while within >= length:
            within, length = within - length, length * config.cycle_factor
        return _half_cosine(config.final_fraction, within / length)

    return fraction


def _one_cycle(config: OneCycleSchedule, num_steps: int) -> Curve:
    """Two half cosines whose ends are steps 0, pN − 1 and N − 1, as torch's OneCycleLR places them."""
    start = 1 / config.div_factor
    end = start / config.final_div_factor
    top, last = max(config.peak_fraction * num_steps - 1, 0.0), max(num_steps - 1, 1)

    def fraction(step: int) -> float:
        if step < top:
            return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * step / top))
        return _half_cosine(end, min((step - top) / (last - top), 1.0))

    return fraction


def learning_rates(config: TrainingConfig, *, steps_per_epoch: int) -> FloatArray:
    """Give the learning rate of every step of a training, before it is trained.

    A plateau is taken for the worst case, in which no epoch after the first is better.

    Returns:
        float [epochs · steps_per_epoch].
    """
    optimizer = SGD([torch.zeros(1)], lr=config.optimizer.learning_rate)
    schedule = Schedule(config, optimizer, steps_per_epoch=steps_per_epoch)
    rates = []
    for _ in range(config.epochs):
        for _ in range(steps_per_epoch):
            rates.append(schedule.learning_rate)
            schedule.after_step()
        schedule.after_epoch(0.0)
    return np.array(rates)
