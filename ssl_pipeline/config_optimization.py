"""The config's sections for optimizers and learning-rate schedules."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config_base import Fraction, Section


class Sgd(Section):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"]
    learning_rate: float = Field(default=0.05, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)


class AdamW(Section):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    type: Literal["adamw"]
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)


class StepSchedule(Section):
    """Multiply the learning rate by `factor` every `step_epochs` epochs."""

    type: Literal["step"]
    step_epochs: int = Field(ge=1)
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class CosineSchedule(Section):
    """Rise linearly over `warmup_epochs`, then fall along half a cosine to `final_fraction` of the peak."""

    type: Literal["cosine"]
    warmup_epochs: float = Field(default=0, ge=0)
    final_fraction: Fraction = 0.0


class PlateauSchedule(Section):
    """Multiply the learning rate by `factor` after `patience_epochs` epochs without a better validation macro F1."""

    type: Literal["plateau"]
    patience_epochs: int = Field(default=5, ge=0)
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


OptimizerConfig = Annotated[Sgd | AdamW, Field(discriminator="type")]
SchedulerConfig = Annotated[StepSchedule | CosineSchedule | PlateauSchedule, Field(discriminator="type")]
