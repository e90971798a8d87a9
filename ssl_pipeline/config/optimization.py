"""Config sections for optimizers and learning-rate schedules; formulas and examples: docs/training.md."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from ssl_pipeline.config.base import Fraction, Section

Decrease = Annotated[float, Field(gt=0, lt=1)]
# Left to right: true and 1 keep their types, and 1e-6, which YAML reads as text, becomes a number.
OptimizerOption = Annotated[
    StrictBool | StrictInt | float | tuple[float, ...] | str | None, Field(union_mode="left_to_right")
]


class OptimizerBase(Section):
    """Common keys: learning rates per part of the model, and freezing of the backbone."""

    head_learning_rate_factor: float = Field(default=1.0, gt=0)
    """Multiplier of the classifier's learning rate; above 1 for a new classifier on a pretrained backbone."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Layer k of n has layer_decay^(n − k) times the learning rate; layer n is the classifier (BEiT, arXiv:2106.08254)."""
    freeze_backbone_epochs: int = Field(default=0, ge=0)
    """Number of first epochs in which only the classifier is trained; all epochs make a linear probe."""
    frozen_layers: int = Field(default=0, ge=0)
    """Number of first layers, as `layer_decay` counts them, that keep their pretrained weights throughout."""

    def check_epochs(self, epochs: int) -> None:
        """Check against the number of epochs.

        Raises:
            ValueError: naming the contradiction and its cure.
        """
        if self.freeze_backbone_epochs > epochs:
            raise ValueError(
                f"freeze_backbone_epochs {self.freeze_backbone_epochs} exceeds epochs {epochs}; "
                f"--set optimizer.freeze_backbone_epochs={epochs} trains only the classifier, a smaller number trains the "
                "whole model afterwards"
            )


class Sgd(OptimizerBase):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"]
    learning_rate: float = Field(default=0.05, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)


class AdamW(OptimizerBase):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    type: Literal["adamw"]
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)


class TimmOptimizer(OptimizerBase):
    """One of timm's optimizers by name; `options` are passed to its constructor, e.g. ``{betas: [0.9, 0.98]}``.

    `learning.optimizers.check_optimizer` checks both before any work; not here, since timm imports torch.
    """

    type: Literal["timm"]
    name: str
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    options: dict[str, OptimizerOption] = Field(default_factory=dict)


class ScheduleBase(Section):
    """Common keys of all schedules except one-cycle: a linear warm-up."""

    warmup_epochs: float = Field(default=0, ge=0)
    """Number of epochs, may be fractional, over which the learning rate rises linearly to its peak, step by step."""

    def check_epochs(self, epochs: int) -> None:
        """Check against the number of epochs.

        Raises:
            ValueError: naming the contradiction and its cure.
        """
        if self.warmup_epochs >= epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {epochs}; "
                f"--set scheduler.warmup_epochs={epochs / 10:g}, or train longer"
            )

    def _replaced_by(self, schedule: str) -> str:
        """Return the setting of another schedule with the same warm-up."""
        return f"--set 'scheduler={{type: {schedule}, warmup_epochs: {self.warmup_epochs:g}}}'"

    def _check_first_decrease(self, key: str, first_decrease: int) -> None:
        if self.warmup_epochs > first_decrease:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} exceeds {key} {first_decrease}: the learning rate would decrease "
                f"before its peak; --set scheduler.warmup_epochs={first_decrease}, or raise {key}"
            )


class ConstantSchedule(ScheduleBase):
    """Constant learning rate, after the warm-up if there is one."""

    type: Literal["constant"]


class StepSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` every `step_epochs` epochs, counted from the start. Updated per epoch."""

    type: Literal["step"]
    step_epochs: int = Field(ge=1)
    factor: Decrease = 0.1

    def check_epochs(self, epochs: int) -> None:
        """Refuse a decrease that never happens, or happens before the peak."""
        super().check_epochs(epochs)
        if self.step_epochs >= epochs:
            raise ValueError(
                f"step_epochs {self.step_epochs} is not less than epochs {epochs}: the learning rate would never decrease; "
                f"lower it, train longer, or {self._replaced_by('constant')}"
            )
        self._check_first_decrease("step_epochs", self.step_epochs)


class MultiStepSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` at each milestone. Updated per epoch."""

    type: Literal["multi_step"]
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Epochs, counted from 0, that start with a lower rate: with [30, 60], epochs 0…29 have the peak rate."""
    factor: Decrease = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(
                f"milestones {list(self.milestones)} must ascend without duplicates; "
                f"--set 'milestones={sorted(set(self.milestones))}'"
            )
        return self

    def check_epochs(self, epochs: int) -> None:
        """Refuse milestones beyond the last epoch, or before the peak."""
        super().check_epochs(epochs)
        if self.milestones[-1] >= epochs:
            late = [milestone for milestone in self.milestones if milestone >= epochs]
            raise ValueError(
                f"milestones {late} lie beyond the last epoch (epochs {epochs} are 0…{epochs - 1}); "
                f"lower or remove them, or --set epochs={late[-1] + 1}"
            )
        self._check_first_decrease("the first of milestones", self.milestones[0])


class CosineSchedule(ScheduleBase):
    """Half a cosine from the peak to `final_fraction` of it (SGDR without restarts). Updated per step."""

    type: Literal["cosine"]
    final_fraction: Fraction = 0.0


class CosineRestartsSchedule(ScheduleBase):
    """Half cosines one after the other, each starting at the peak (SGDR, arXiv:1608.03983). Updated per step."""

    type: Literal["cosine_restarts"]
    first_cycle_epochs: int = Field(ge=1)
    """Length of the first cycle, which starts after the warm-up."""
    cycle_factor: int = Field(default=1, ge=1)
    """Length of a cycle, as a multiple of the one before."""
    final_fraction: Fraction = 0.0

    def check_epochs(self, epochs: int) -> None:
        """Refuse cycles without a restart."""
        super().check_epochs(epochs)
        if self.warmup_epochs + self.first_cycle_epochs >= epochs:
            raise ValueError(
                f"first_cycle_epochs {self.first_cycle_epochs} after warmup_epochs {self.warmup_epochs:g} leaves no "
                f"epoch of {epochs} for a restart; lower it, train longer, or {self._replaced_by('cosine')}"
            )


class PlateauSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` after more than `patience_epochs` epochs without a better metric.

    The metric is `training.monitor` on the validation faces. Updated per epoch, on top of the warm-up.
    """

    type: Literal["plateau"]
    patience_epochs: int = Field(default=5, ge=0)
    factor: Decrease = 0.1


class OneCycleSchedule(Section):
    """Half a cosine up to the peak, then half a cosine down to far below the start (arXiv:1708.07120). Updated per step.

    The optimizer's `learning_rate` is the peak. The momentum is constant.
    """

    type: Literal["one_cycle"]
    peak_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the training steps before the peak."""
    div_factor: float = Field(default=25.0, ge=1)
    """Learning rate of the first step: peak / div_factor."""
    final_div_factor: float = Field(default=1e4, ge=1)
    """Learning rate of the last step: peak / (div_factor · final_div_factor)."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_warmup(cls, data: Any) -> Any:
        if isinstance(data, dict) and "warmup_epochs" in data:
            raise ValueError(
                "one_cycle has its own warm-up, the first peak_fraction of the training: remove warmup_epochs, "
                f"or --set '={{type: cosine, warmup_epochs: {data['warmup_epochs']}}}'"
            )
        return data

    def check_epochs(self, epochs: int) -> None:
        """Accept any number of epochs."""


OptimizerConfig = Annotated[Sgd | AdamW | TimmOptimizer, Field(discriminator="type")]
SchedulerConfig = Annotated[
    ConstantSchedule
    | StepSchedule
    | MultiStepSchedule
    | CosineSchedule
    | CosineRestartsSchedule
    | PlateauSchedule
    | OneCycleSchedule,
    Field(discriminator="type"),
]
