"""Config sections for models and training, shared by teacher and student."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Fraction, Section
from ssl_pipeline.config.fixmatch import FixMatchConfig
from ssl_pipeline.config.losses import CrossEntropy, LossConfig
from ssl_pipeline.config.metrics import MetricName
from ssl_pipeline.config.optimization import AdamW, CosineSchedule, OptimizerConfig, SchedulerConfig

FEW_VALIDATION_FACES = 300
STORED_PER_INPUT = 1.15
"""Recommended side of the stored faces, as a multiple of `input_size`."""
MIN_INPUT_SHARE = 0.7
"""Smallest `input_size`, as a share of the stored faces' side: half of their area."""


class ModelConfig(Section):
    """A network: ``wrn{depth}_{width}`` (a small wide ResNet for CPUs) or any of timm's names."""

    architecture: str
    head: Literal["joint", "per_attribute"] = "joint"
    """One softmax over all classes, or one per attribute."""
    input_size: int | None = Field(default=None, ge=16)
    """Side, in pixels, of what the network sees of a stored face (`faces.image_size`): a random crop in training, the
    centered one otherwise. None: the whole face."""
    pretrained: bool = False
    """Download ImageNet weights from timm's hub."""
    weights_file: Path | None = None
    """Read weights from a file instead."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pretrained and self.weights_file is not None:
            raise ValueError(
                "pretrained downloads weights from timm's hub, weights_file reads a file: give one of them, e.g. "
                "--set pretrained=false"
            )
        return self

    @property
    def is_pretrained(self) -> bool:
        """Whether the weights come from a hub or a file."""
        return self.pretrained or self.weights_file is not None


class MixingBase(Section):
    """Common key: the probability that a batch is mixed."""

    probability: Annotated[float, Field(gt=0, le=1)] = 1.0


class MixUp(MixingBase):
    """MixUp: blend pairs of faces (arXiv:1710.09412)."""

    type: Literal["mixup"]
    alpha: float = Field(default=0.2, gt=0)


class CutMix(MixingBase):
    """CutMix: paste a rectangle of another face (arXiv:1905.04899)."""

    type: Literal["cutmix"]
    alpha: float = Field(default=1.0, gt=0)


class VerticalHalves(MixingBase):
    """Replace the right half by that of another face."""

    type: Literal["vertical_halves"]


Mixing = Annotated[MixUp | CutMix | VerticalHalves, Field(discriminator="type")]


class RandAugment(Section):
    """Strength of `augmentation: strong`. The defaults suit long trainings; short ones learn more from less of it."""

    num_ops: int = Field(default=2, ge=0, le=10)
    magnitude: int = Field(default=9, ge=0, le=30)
    erasing_probability: Fraction = 0.5


class TrainingConfig(Section):
    """How a model is trained; the same section and loop for teacher and student."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the training faces; give this or `steps`."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; the last epoch may be a part of one. Independent of the number of faces."""
    keep: Literal["auto", "best", "last"] = "auto"
    """Which epoch's weights are kept: the best by `monitor`, or the last. `auto`: the last if fewer than 300 validation
    faces would choose (their score varies more than the epochs differ) and nothing stops early."""
    batch_size: int = Field(default=64, ge=2)
    """Faces per optimizer step, over all accumulation steps and processes."""
    accumulation_steps: int = Field(default=1, ge=1)
    optimizer: OptimizerConfig = AdamW(type="adamw")
    scheduler: SchedulerConfig = CosineSchedule(type="cosine")
    loss: LossConfig = CrossEntropy(type="cross_entropy")
    augmentation: Literal["none", "weak", "strong"] = "weak"
    randaugment: RandAugment = RandAugment()
    mixing: Mixing | None = None
    fixmatch: FixMatchConfig | None = None
    head_start: Literal["random", "linear_probe"] = "random"
    """Weights of the classifier before the first step: random, or fitted to the pretrained features of the labeled faces
    (SWIFT, arXiv:2512.10244)."""
    batch_norm: Literal["batch", "frozen"] = "batch"
    """Statistics of batch norm: of each batch, or `frozen`, the pretrained ones throughout, for small labeled sets."""
    class_balanced: bool = False
    """Sample classes equally often instead of faces."""
    labeled_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of human-labeled faces among an epoch's samples; None samples all faces equally often."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the exponential moving average of the weights; None uses the weights themselves."""
    max_gradient_norm: float | None = Field(default=None, gt=0)
    """Clip gradients to this Euclidean norm (arXiv:1211.5063)."""
    monitor: MetricName = "macro_f1"
    """Validation metric for the best checkpoint, early stopping and the plateau schedule."""
    early_stopping_epochs: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better metric."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    num_processes: int = Field(default=1, ge=1)
    """Training processes, each with an equal part of every batch; on CUDA, one per GPU."""
    save_every_steps: int | None = Field(default=None, ge=1)
    """Save the training state every n steps, in addition to each epoch; the result does not depend on it."""
    deterministic: bool = False
    """Refuse nondeterministic operations; on a CPU, trainings are deterministic without it."""
    compile: bool = False
    """Compile the network (torch.compile); the first step takes minutes, the others less time."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        num_micro_batches = self.accumulation_steps * self.num_processes
        if self.batch_size % num_micro_batches:
            factor = f" × num_processes {self.num_processes}" if self.num_processes > 1 else ""
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of accumulation_steps {self.accumulation_steps}{factor}: "
                f"a batch is split into that many equal parts; --set batch_size={-(-self.batch_size // num_micro_batches) * num_micro_batches}"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, and not both; --set 'epochs=30' or --set 'steps=1000'")
        if self.keep == "last" and self.early_stopping_epochs is not None:
            raise ValueError(
                "keep: early stopping is for the best epoch; --set keep=best or --set early_stopping_epochs=null"
            )
        if self.epochs is not None:
            self.scheduler.check_epochs(self.epochs)
            self.optimizer.check_epochs(self.epochs)
        elif self.steps is not None:
            self.scheduler.check_steps(self.steps)
        return self

    @property
    def budget(self) -> str:
        """The length of the training in words."""
        return f"{self.steps:,} steps" if self.steps is not None else f"{self.epochs:,} epochs"

    def num_steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimizer steps of the training."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Return the number of epochs, a last partial one included."""
        return -(-self.num_steps(steps_per_epoch) // steps_per_epoch)

    def keeps_last(self, num_validation_faces: int) -> bool:
        """Return whether the last epoch's weights are kept, not the best's; see `keep`."""
        few = num_validation_faces < FEW_VALIDATION_FACES and self.early_stopping_epochs is None
        return self.keep == "last" or (self.keep == "auto" and few)


class RoleConfig(Section):
    """Model and training of a teacher or a student."""

    model: ModelConfig
    training: TrainingConfig

    def start_faults(self, image_size: int, *, starts_trained: bool = False) -> Iterator[str]:
        """Yield the contradictions between `input_size` and the stored faces' side, and between weights and fine-tuning.

        Args:
            image_size: side of the stored faces.
            starts_trained: whether the first weights are another model's of the run.
        """
        size = self.model.input_size or image_size
        stored = f"--set /faces.image_size={round(STORED_PER_INPUT * size)}"
        if size > image_size:
            yield (
                f"model.input_size: a crop of {size} pixels does not fit into stored faces of {image_size}; {stored}, "
                f"or --set model.input_size={image_size}"
            )
        if size < MIN_INPUT_SHARE * image_size:
            yield (
                f"model.input_size: a crop of {size} pixels loses most of stored faces of {image_size}; {stored}, or "
                f"--set model.input_size={round(image_size / STORED_PER_INPUT)}"
            )
        if self.model.is_pretrained or starts_trained:
            return
        for key, value, default in (
            ("optimizer.frozen_layers", self.training.optimizer.frozen_layers, 0),
            ("batch_norm", self.training.batch_norm, "batch"),
            ("head_start", self.training.head_start, "random"),
        ):
            if value != default:
                yield (
                    f"training.{key}: {value} relies on pretrained weights, and the network starts with random ones; "
                    f"--set model.pretrained=true, or --set training.{key}={default}"
                )

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return all values that the trained weights depend on, as plain values; of a weights file the content counts."""
        return self.model_dump(mode="json", exclude={"model": {"weights_file"}, "training": {"save_every_steps"}})


class PoolDraws(Section):
    """Draw the pool's faces by their resemblance to the labeled ones: odds on the teacher's features, flattened."""

    min_effective_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Smallest effective number of drawn faces, (Σ w)² / Σ w², as a share of the pool: it sets the exponent."""
    class_balance: Fraction = 0.0
    """Draw faces of rarely guessed classes more often: 0 as they come, 1 all classes about equally (CReST, arXiv:2102.09559,
    draws by the guessed class)."""


class StudentConfig(RoleConfig):
    """Model, training, first weights and pool of a student."""

    init: Literal["auto", "teacher", "pretrained", "fresh"] = "auto"
    """The first weights: the teacher's, those of `pretrained` or `weights_file`, or random ones. `auto`: with `fixmatch` and
    the teacher's network the teacher's, else pretrained ones where the model names them, else random ones."""
    draws: PoolDraws | None = None
    """None draws all faces of the pool equally often."""
