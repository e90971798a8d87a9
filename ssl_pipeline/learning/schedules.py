"""Learning-rate schedules on torch's `LambdaLR`, `LinearLR` and `ReduceLROnPlateau`, with a linear warm-up."""

import math
import warnings
from bisect import bisect_right
from functools import partial
from typing import Any, Literal, assert_never

import numpy as np
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau

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


class Schedule:
    """Sets the learning rate of every parameter group, each in proportion to its own peak.

    Call `after_step` once per optimizer step and `after_epoch` once per epoch. To resume, load the optimizer's state
    first: it holds the learning rates.
    """

    def __init__(
        self, config: TrainingConfig, optimizer: Optimizer, *, steps_per_epoch: int, mode: Mode = "max"
    ) -> None:
        """Set the learning rate of the first step.

        Args:
            config: schedule, number of epochs, peak learning rate.
            optimizer: its groups hold their peaks in ``lr``.
            steps_per_epoch: optimizer steps per epoch.
            mode: whether a larger or a smaller metric is better; used by the plateau only.
        """
        self._peak = config.optimizer.learning_rate
        self._optimizer = optimizer
        self._per_step: LRScheduler
        self._per_epoch: ReduceLROnPlateau | None = None
        if isinstance(config.scheduler, PlateauSchedule):  # LinearLR multiplies, so a drop outlasts the warm-up
            warmup = max(config.scheduler.num_warmup_steps(steps_per_epoch), 1)
            self._per_step = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
            patience, factor = config.scheduler.patience_epochs, config.scheduler.factor
            self._per_epoch = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience, eps=0.0)
        else:
            factor_at = partial(
                learning_rate_factor,
                config=config.scheduler,
                num_steps=config.num_steps(steps_per_epoch),
                steps_per_epoch=steps_per_epoch,
            )
            self._per_step = LambdaLR(optimizer, factor_at)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, for parameters without a factor of their own."""
        group = self._optimizer.param_groups[0]
        return float(group["lr"] * (self._peak / group["initial_lr"]))

    def after_step(self) -> None:
        """Advance by one optimizer step."""
        with warnings.catch_warnings():  # fp16 may skip the first optimizer step, which torch takes for a wrong order
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self._per_step.step()

    def after_epoch(self, metric: float) -> None:
        """Advance by one epoch, given its monitored validation metric."""
        if self._per_epoch is not None:
            self._per_epoch.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        per_epoch = None if self._per_epoch is None else self._per_epoch.state_dict()
        return {"per_step": self._per_step.state_dict(), "per_epoch": per_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self._per_step.load_state_dict(state["per_step"])
        if self._per_epoch is not None:
            self._per_epoch.load_state_dict(state["per_epoch"])


def learning_rate_factor(step: int, *, config: SchedulerConfig, num_steps: int, steps_per_epoch: int) -> float:
    """Compute the learning rate of a step (from 0) as a fraction of its peak; of a plateau, its warm-up only.

    Step t of a warm-up of w steps takes (t + 1) / w. Milestones count from the start of training; cosines start after
    the warm-up. `one_cycle` places its ends at steps 0, pN − 1 and N − 1 of N, like torch's `OneCycleLR`.
    """
    warmup = config.num_warmup_steps(steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    match config:
        case ConstantSchedule() | PlateauSchedule():
            return 1.0
        case StepSchedule():
            return config.factor ** (step // (config.step_epochs * steps_per_epoch))
        case MultiStepSchedule():
            return config.factor ** bisect_right(config.milestones, step // steps_per_epoch)
        case CosineSchedule():
            return _half_cosine(1.0, config.final_fraction, (step - warmup) / max(num_steps - warmup, 1))
        case CosineRestartsSchedule():
            position, length = step - warmup, config.first_cycle_epochs * steps_per_epoch
            while position >= length:
                position, length = position - length, length * config.cycle_factor
            return _half_cosine(1.0, config.final_fraction, position / length)
        case OneCycleSchedule():
            start = 1 / config.div_factor
            peak, last = max(config.peak_fraction * num_steps - 1, 0.0), max(num_steps - 1, 1)
            if step < peak:
                return _half_cosine(start, 1.0, step / peak)
            return _half_cosine(1.0, start / config.final_div_factor, (step - peak) / (last - peak))
        case _:
            assert_never(config)


def _half_cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from start to end along half a cosine; constant beyond a progress of 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def learning_rates(config: TrainingConfig, *, steps_per_epoch: int) -> FloatArray:
    """Compute the learning rate of every training step, float [steps], without training.

    For a plateau, no epoch after the first improves the metric.
    """
    optimizer = SGD([torch.zeros(1)], lr=config.optimizer.learning_rate)
    schedule = Schedule(config, optimizer, steps_per_epoch=steps_per_epoch)
    rates = []
    for step in range(1, config.num_steps(steps_per_epoch) + 1):
        rates.append(schedule.learning_rate)
        schedule.after_step()
        if step % steps_per_epoch == 0:
            schedule.after_epoch(0.0)
    return np.array(rates)
