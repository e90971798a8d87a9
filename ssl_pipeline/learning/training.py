"""The one training loop, for teacher and student alike.

Everything random is drawn from (seed, epoch, place), so nothing random needs saving: a training that is interrupted
and started again takes the same steps, and on a CPU ends with the same weights, bit for bit.
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.optim import Optimizer

from ssl_pipeline.config_training import RoleConfig, TrainingConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.faces.dataset import (
    AugmentedFaces,
    LabeledSet,
    TrainingFaces,
    draw_weights,
    epoch_batches,
    load_batches,
)
from ssl_pipeline.faces.transforms import seed_draws
from ssl_pipeline.learning.checkpoint import load_training_state, save_checkpoint, save_training_state
from ssl_pipeline.learning.device import Device, build_accelerator
from ssl_pipeline.learning.losses import BatchLoss
from ssl_pipeline.learning.metrics import evaluate_predictions
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.parameter_groups import FreezableBackbone
from ssl_pipeline.learning.prediction import predict_probabilities
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.learning.schedules import Schedule
from ssl_pipeline.runs import atomic_path, digest_of

logger = logging.getLogger(__name__)

WEIGHTS_STREAM, STEP_STREAM = 1, 2  # apart from the loader's (seed, epoch, place)


@dataclass(frozen=True)
class FitResult:
    """What a training came to."""

    checkpoint: Path
    best_epoch: int
    best_macro_f1: float
    num_epochs: int
    """Epochs run; fewer than asked where training stopped early."""
    resumed_from_epoch: int


@dataclass
class _Progress:
    """Where a training stands; saved after every epoch."""

    epoch: int = 0
    best_macro_f1: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)

    def should_stop(self, config: TrainingConfig) -> bool:
        patience = config.early_stopping_epochs
        return self.epoch >= config.epochs or (patience is not None and self.epoch - 1 - self.best_epoch >= patience)


def fit(
    config: RoleConfig,
    faces: TrainingFaces,
    *,
    directory: Path,
    seed: int = 0,
    device: Device = "auto",
    inputs: str = "",
    name: str = "model",
) -> FitResult:
    """Train a model, or go on with a training of the same config, seed and faces found in `directory`.

    Leaves ``best.safetensors`` (best macro F1 on validation), ``last.pt`` (state, every epoch) and ``history.csv``.

    Args:
        config: model and training.
        faces: what to learn from, and what to be judged by.
        directory: where to write.
        seed: of weights, order, augmentation and dropout.
        device: where to compute.
        inputs: digest of the faces' origin; a state found is gone on with only if it is the same.
        name: what to call the model in progress bars and logs.

    Raises:
        TrainingError: if there is nothing to learn from or to be judged by, or the loss is no longer finite.
    """
    if len(faces.train.pixel_rows) == 0 or len(faces.validation.pixel_rows) == 0:
        raise TrainingError(
            f"{name}: expected faces to train and to validate on, got {len(faces.train.pixel_rows)} and "
            f"{len(faces.validation.pixel_rows)}"
        )
    loop = _Loop(config, faces, seed=seed, device=device, name=name)
    key = digest_of([config.model_dump(mode="json", exclude={"training": {"num_workers"}}), seed, inputs])
    resumed = loop.restore(load_training_state(directory / "last.pt", key=key))
    if resumed:
        logger.info("%s: training goes on after epoch %d of %d", name, resumed, config.training.epochs)
    with TrainingProgress(name, config.training.epochs, start=resumed) as bar:
        while not loop.progress.should_stop(config.training):
            row = loop.run_epoch(bar)
            if row["macro_f1"] > loop.progress.best_macro_f1:
                loop.progress.best_macro_f1, loop.progress.best_epoch = row["macro_f1"], loop.progress.epoch
                save_checkpoint(
                    directory / "best.safetensors",
                    loop.judged_model,
                    model_config=config.model,
                    image_size=faces.image_size,
                )
            loop.progress.epoch += 1
            with atomic_path(directory / "history.csv") as beside:
                pd.DataFrame(loop.progress.history).to_csv(beside, index=False)
            save_training_state(directory / "last.pt", {"key": key, **loop.state()})
            bar.epoch_done(row, best=loop.progress.best_macro_f1)
    progress = loop.progress
    return FitResult(
        directory / "best.safetensors", progress.best_epoch, progress.best_macro_f1, progress.epoch, resumed
    )


class _Loop:
    """Model, optimizer, schedule and average of one training, and an epoch of it."""

    def __init__(self, config: RoleConfig, faces: TrainingFaces, *, seed: int, device: Device, name: str) -> None:
        training = config.training
        self.config, self.faces, self.seed, self.name = training, faces, seed, name
        self.accelerator: Accelerator = build_accelerator(device, training.precision)
        seed_draws(seed, WEIGHTS_STREAM)
        model = build_model(config.model, labels=faces.labels, image_size=faces.image_size)
        self.model: FaceClassifier = model.to_channels_last(self.accelerator.device)
        self.ema = ModelEmaV3(self.model, decay=training.ema_decay, use_warmup=True) if training.ema_decay else None
        self.draw_weights = draw_weights(
            faces.train, class_balanced=training.class_balanced, human_share=training.human_share
        )
        self.augmented = AugmentedFaces(faces.train, training.augmentation, seed=seed, strong=training.strong)
        class_mass = torch.from_numpy(faces.train.weights @ faces.train.targets)
        self.loss = BatchLoss(training.loss, faces.labels, class_mass=class_mass)
        self.targets = torch.from_numpy(faces.train.targets)
        self.known = torch.from_numpy(faces.train.known)
        self.weights = torch.from_numpy(faces.train.weights)
        self.steps_per_epoch = -(-len(faces.train.pixel_rows) // training.batch_size)
        self.optimizer: Optimizer = build_optimizer(training.optimizer, self.model)
        self.freezable = FreezableBackbone(self.model, epochs=training.optimizer.freeze_backbone_epochs)
        self.schedule = Schedule(training, self.optimizer, steps_per_epoch=self.steps_per_epoch)
        self.progress = _Progress()

    @property
    def judged_model(self) -> FaceClassifier:
        """The model that is validated and kept: the average of the weights, where there is one."""
        return self.ema.module if self.ema is not None else self.model

    def run_epoch(self, bar: TrainingProgress) -> dict[str, float]:
        """Train for one epoch and validate; give the history's row."""
        epoch = self.progress.epoch
        batches = epoch_batches(self.draw_weights, batch_size=self.config.batch_size, seed=self.seed, epoch=epoch)
        loader = load_batches(self.augmented, batches, epoch=epoch, num_workers=self.config.num_workers)
        learning_rate = self.schedule.learning_rate
        self.model.train()
        self.freezable.start_epoch(epoch)
        losses = []
        for step, (pixels, indices) in enumerate(loader):
            seed_draws(self.seed, STEP_STREAM, epoch, step)  # dropout and stochastic depth
            losses.append(self._step(pixels, indices, epoch * self.steps_per_epoch + step))
            bar.step_done(step + 1, self.steps_per_epoch, losses[-1])
        scores = self._validate(self.faces.validation)
        self.schedule.after_epoch(scores["macro_f1"])
        row = {
            "epoch": epoch,
            "learning_rate": learning_rate,
            "train_loss": float(np.mean(losses)),
            "validation_loss": scores["loss"],
            "macro_f1": scores["macro_f1"],
            "accuracy": scores["accuracy"],
        }
        self.progress.history.append(row)
        return row

    def _step(self, pixels: Tensor, indices: Tensor, step: int) -> float:
        """Take one optimizer step on a batch, in `accumulation_steps` parts; give its loss.

        Each part is divided by the weight of the whole batch, so the parts add up to the batch's own gradient.
        """
        weights = self.weights[indices]
        total_weight = weights.sum().clamp_min(1e-8)
        total = 0.0
        for part in torch.arange(len(indices)).tensor_split(self.config.accumulation_steps):
            if len(part) == 0:
                continue
            rows, device = indices[part], self.accelerator.device
            with self.accelerator.autocast():
                log_probabilities = self.model(pixels[part].to(device))
            told = (self.targets[rows], self.known[rows], weights[part])
            loss = self.loss(log_probabilities, *(tensor.to(device) for tensor in told)) / total_weight.to(device)
            self.accelerator.backward(loss)
            total += float(loss.detach())
        if not math.isfinite(total):
            rate = self.schedule.learning_rate
            ids = ", ".join(self.faces.train.image_ids[index] for index in indices[:3].tolist())
            raise TrainingError(
                f"{self.name}: the loss is {total} at step {step}, learning rate {rate:.3g}, faces {ids}, …; "
                "lower training.optimizer.learning_rate or set training.precision: fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.after_step()
        if self.ema is not None:
            self.ema.update(self.model, step=step + 1)
        return total

    def _validate(self, faces: LabeledSet) -> dict[str, float]:
        probabilities = predict_probabilities(
            self.judged_model,
            faces.pixels,
            faces.pixel_rows,
            accelerator=self.accelerator,
            batch_size=256,
            horizontal_flip=False,
        )
        scores = evaluate_predictions(probabilities, faces.codes, labels=self.faces.labels)
        truth = self.faces.labels.class_ids(faces.codes)
        loss = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean()
        return {"macro_f1": scores["macro_f1"], "accuracy": scores["accuracy"], "loss": float(loss)}

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": {
                "epoch": self.progress.epoch,
                "best_macro_f1": self.progress.best_macro_f1,
                "best_epoch": self.progress.best_epoch,
                "history": self.progress.history,
            },
        }

    def restore(self, state: dict[str, Any] | None) -> int:
        """Go on from a state, if there is one; give the number of epochs behind it."""
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress = _Progress(**state["progress"])
        return self.progress.epoch
