"""The config's sections for optimizers and learning-rate schedules. Formulas and examples: docs/training.md."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from ssl_pipeline.config.base import Fraction, Section

Decrease = Annotated[float, Field(gt=0, lt=1)]
# From left to right: true and 1 stay what they are, and 1e-6, which YAML reads as text, becomes a number.
OptimizerOption = Annotated[
    StrictBool | StrictInt | float | tuple[float, ...] | str | None, Field(union_mode="left_to_right")
]


class OptimizerBase(Section):
    """What every optimizer has: how its learning rate differs between the parts of a model, and which part waits."""

    head_learning_rate_factor: float = Field(default=1.0, gt=0)
    """The classifier learns at this many times the learning rate: above 1 where it is fresh and the rest pretrained."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Layer k of n, the classifier being layer n, learns at layer_decay^(n − k) times the rate (BEiT, arXiv:2106.08254)."""
    freeze_backbone_epochs: int = Field(default=0, ge=0)
    """For so many epochs the classifier alone learns; all epochs are allowed (a linear probe)."""

    def check_epochs(self, epochs: int) -> None:
        """Refuse what contradicts the number of epochs.

        Raises:
            ValueError: saying what to change.
        """
        if self.freeze_backbone_epochs > epochs:
            raise ValueError(
                f"freeze_backbone_epochs {self.freeze_backbone_epochs} exceeds epochs {epochs}; "
                f"{epochs} trains the classifier alone, fewer train the whole model afterwards"
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
    """Any of timm's optimizers by name; `options` are its constructor's own, as ``{betas: [0.9, 0.98]}``.

    Names and options are checked before any work by `learning.optimizers.check_optimizer`, since timm loads torch.
    """

    type: Literal["timm"]
    name: str
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    options: dict[str, OptimizerOption] = Field(default_factory=dict)


class ScheduleBase(Section):
    """What every schedule but one-cycle has: a linear warm-up."""

    warmup_epochs: float = Field(default=0, ge=0)
    """The learning rate rises linearly to its peak over so many epochs, step by step; may be a fraction."""

    def check_epochs(self, epochs: int) -> None:
        """Refuse what contradicts the number of epochs.

        Raises:
            ValueError: saying what to change.
        """
        if self.warmup_epochs >= epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} must be less than epochs {epochs}; shorten it or train longer"
            )

    def _check_first_fall(self, key: str, first_fall: int) -> None:
        if self.warmup_epochs > first_fall:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} exceeds {key} {first_fall}: the learning rate would fall before "
                f"it has reached its peak; shorten the warm-up or raise {key}"
            )


class ConstantSchedule(ScheduleBase):
    """Keep the learning rate at its peak, after the warm-up if there is one."""

    type: Literal["constant"]


class StepSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` every `step_epochs` epochs, counted from the start. Moves per epoch."""

    type: Literal["step"]
    step_epochs: int = Field(ge=1)
    factor: Decrease = 0.1

    def check_epochs(self, epochs: int) -> None:
        """Refuse a fall that never comes, or comes before the peak."""
        super().check_epochs(epochs)
        if self.step_epochs >= epochs:
            raise ValueError(
                f"step_epochs {self.step_epochs} is not less than epochs {epochs}: the learning rate would never fall; "
                "lower it, train longer, or choose scheduler.type: constant"
            )
        self._check_first_fall("step_epochs", self.step_epochs)


class MultiStepSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` at each milestone, in epochs from the start. Moves per epoch."""

    type: Literal["multi_step"]
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Epochs, counted from 0, that begin with a lower rate: [30, 60] lets epochs 0…29 pass at the peak."""
    factor: Decrease = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must ascend, each one once")
        return self

    def check_epochs(self, epochs: int) -> None:
        """Refuse milestones that never come, or come before the peak."""
        super().check_epochs(epochs)
        if self.milestones[-1] >= epochs:
            late = [milestone for milestone in self.milestones if milestone >= epochs]
            raise ValueError(
                f"milestones {late} lie beyond the last epoch (epochs {epochs} are 0…{epochs - 1}); "
                "lower or drop them, or train longer"
            )
        self._check_first_fall("the first of milestones", self.milestones[0])


class CosineSchedule(ScheduleBase):
    """Fall along half a cosine to `final_fraction` of the peak (SGDR without restarts). Moves per step."""

    type: Literal["cosine"]
    final_fraction: Fraction = 0.0


class CosineRestartsSchedule(ScheduleBase):
    """Half cosines one after the other, each beginning at the peak (SGDR, arXiv:1608.03983). Moves per step."""

    type: Literal["cosine_restarts"]
    first_cycle_epochs: int = Field(ge=1)
    """Length of the first cycle, which begins when the warm-up ends."""
    cycle_factor: int = Field(default=1, ge=1)
    """Each cycle is so many times as long as the one before."""
    final_fraction: Fraction = 0.0

    def check_epochs(self, epochs: int) -> None:
        """Refuse cycles without a restart."""
        super().check_epochs(epochs)
        if self.warmup_epochs + self.first_cycle_epochs >= epochs:
            raise ValueError(
                f"first_cycle_epochs {self.first_cycle_epochs} after warmup_epochs {self.warmup_epochs:g} leaves no "
                f"epoch of {epochs} for a restart; shorten it, train longer, or choose scheduler.type: cosine"
            )


class PlateauSchedule(ScheduleBase):
    """Multiply the learning rate by `factor` after more than `patience_epochs` epochs without a better metric.

    The metric is the monitored one of validation. Moves per epoch, on top of the warm-up.
    """

    type: Literal["plateau"]
    patience_epochs: int = Field(default=5, ge=0)
    factor: Decrease = 0.1


class OneCycleSchedule(Section):
    """Rise to the peak and fall far below the start, both along half a cosine (arXiv:1708.07120). Moves per step.

    The optimizer's `learning_rate` is the peak. The momentum stays as it is.
    """

    type: Literal["one_cycle"]
    peak_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the training's steps after which the peak is reached."""
    div_factor: float = Field(default=25.0, ge=1)
    """The first step takes peak / div_factor …"""
    final_div_factor: float = Field(default=1e4, ge=1)
    """… and the last one peak / (div_factor · final_div_factor)."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_warmup(cls, data: Any) -> Any:
        if isinstance(data, dict) and "warmup_epochs" in data:
            raise ValueError(
                "one_cycle has a warm-up of its own, the first peak_fraction of the training: drop warmup_epochs, "
                "or choose another scheduler.type"
            )
        return data

    def check_epochs(self, epochs: int) -> None:
        """Any number of epochs will do."""


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
