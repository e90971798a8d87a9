"""The config's sections for models and their training, the same for teacher and student."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Fraction, Section
from ssl_pipeline.config.losses import CrossEntropy, LossConfig
from ssl_pipeline.config.metrics import MetricName
from ssl_pipeline.config.optimization import AdamW, CosineSchedule, OptimizerConfig, SchedulerConfig


class ModelConfig(Section):
    """A network: ``wrn{depth}_{width}`` (a wide ResNet small enough for a CPU) or any of timm's names."""

    architecture: str
    head: Literal["joint", "per_attribute"] = "joint"
    pretrained: bool = False
    weights_file: Path | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pretrained and self.weights_file is not None:
            raise ValueError("pretrained fetches weights from timm's hub, weights_file reads a file: give one of them")
        return self


class MixingBase(Section):
    """What every mixing has: how often a batch is mixed."""

    probability: Annotated[float, Field(gt=0, le=1)] = 1.0


class MixUp(MixingBase):
    """Blend faces (arXiv:1710.09412)."""

    type: Literal["mixup"]
    alpha: float = Field(default=0.2, gt=0)


class CutMix(MixingBase):
    """Paste a rectangle of another face (arXiv:1905.04899)."""

    type: Literal["cutmix"]
    alpha: float = Field(default=1.0, gt=0)


class VerticalHalves(MixingBase):
    """Take the right half from another face."""

    type: Literal["vertical_halves"]


Mixing = Annotated[MixUp | CutMix | VerticalHalves, Field(discriminator="type")]


class RandAugment(Section):
    """How strong `augmentation: strong` is. A short training learns more from less of it; the defaults want a long one."""

    num_ops: int = Field(default=2, ge=0, le=10)
    magnitude: int = Field(default=9, ge=0, le=30)
    erasing_probability: Fraction = 0.5


class FixMatchConfig(Section):
    """Beside the labels, agreement on the pool, in every step anew (FixMatch, arXiv:2001.07685).

    What a weakly augmented face is surely taken for, the same face strongly augmented is taught.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    """How much it counts beside the labels."""
    confidence_threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    faces_per_labeled: int = Field(default=2, ge=1, le=20)
    """Pool faces a step, as a multiple of the labeled ones."""
    pseudo_labels: bool = False
    """Whether the student also learns from the manifest's accepted pseudo-labels, which are not renewed as it learns."""


class TrainingConfig(Section):
    """How a model is trained; the same section, and the same loop, for teacher and student."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=2)
    accumulation_steps: int = Field(default=1, ge=1)
    optimizer: OptimizerConfig = AdamW(type="adamw")
    scheduler: SchedulerConfig = CosineSchedule(type="cosine")
    loss: LossConfig = CrossEntropy(type="cross_entropy")
    augmentation: Literal["none", "weak", "strong"] = "weak"
    randaugment: RandAugment = RandAugment()
    mixing: Mixing | None = None
    fixmatch: FixMatchConfig | None = None
    class_balanced: bool = False
    labeled_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of an epoch's draws that go to human labels; None draws every face equally often."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_gradient_norm: float | None = Field(default=None, gt=0)
    """Gradients of a larger Euclidean norm are scaled down to it (arXiv:1211.5063)."""
    monitor: MetricName = "macro_f1"
    """The validation metric that chooses the best checkpoint, stops early and drives the plateau schedule."""
    early_stopping_epochs: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    num_processes: int = Field(default=1, ge=1)
    """Processes that train together, each on its part of every batch; on CUDA, one a GPU."""
    num_workers: int = Field(default=0, ge=0)
    """Processes that prepare batches beside the training one; the result does not depend on it."""
    save_every_steps: int | None = Field(default=None, ge=1)
    """Save the training's state after so many steps, besides after each epoch; the result does not depend on it."""
    deterministic: bool = False
    """Refuse operations that may give other bits each time; on a CPU, trainings are exact without it."""
    compile: bool = False
    """Compile the network before training (torch.compile); the first step takes minutes, all others less time."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        num_parts = self.accumulation_steps * self.num_processes
        if self.batch_size % num_parts:
            times = f" × num_processes {self.num_processes}" if self.num_processes > 1 else ""
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of accumulation_steps {self.accumulation_steps}{times}: "
                "a batch is split into that many equal parts"
            )
        self.scheduler.check_epochs(self.epochs)
        self.optimizer.check_epochs(self.epochs)
        return self


class RoleConfig(Section):
    """A teacher or a student: its model and its training."""

    model: ModelConfig
    training: TrainingConfig

    def fingerprint_fields(self) -> dict[str, Any]:
        """All of it that the trained weights depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"training": {"num_workers", "save_every_steps"}})
