"""One epoch of training and validation, and the training state between two steps.

Random numbers depend on (seed, epoch, position) only, so no generator state is saved: a resumed training takes the same
steps, and on a CPU ends with the same weights, bit for bit.

Several processes (see `stages.launch`) sample the same batches, each works on its shard of every batch, and all take the
same optimizer steps.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_pipeline.config.metrics import metric_direction
from ssl_pipeline.config.run import Device
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.evaluation.metrics import Scores, metric_value, score_predictions
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.augmentation import Augmentation
from ssl_pipeline.learning.batches import FaceReader
from ssl_pipeline.learning.dataset import (
    LabeledSet,
    TrainingFaces,
    class_masses,
    epoch_batches,
    sampling_weights,
)
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.fixmatch import FixMatch, PoolTargets, UnlabeledBatch
from ssl_pipeline.learning.losses import BatchLoss, standardized_numbers
from ssl_pipeline.learning.mixing import mix
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.predict import predict_probabilities
from ssl_pipeline.learning.progress import Progress, TrainingProgress
from ssl_pipeline.learning.random_draws import seed_generators
from ssl_pipeline.learning.schedules import Schedule
from ssl_pipeline.learning.start import starting_model
from ssl_pipeline.learning.step_errors import StepPosition, not_finite, translate_errors
from ssl_pipeline.runs.profile import part_of_stage

WEIGHTS_STREAM, STEP_STREAM = 1, 2  # distinct from the loader's (seed, epoch, position)
_STEPS_PER_READING = {"cuda": 16}  # of losses; reading them waits for the device


class _PoolPart(NamedTuple):
    """The pool's part of a micro-batch."""

    strong: Tensor
    """uint8 [u, 3, S, S]."""
    targets: PoolTargets
    total: Tensor
    """Number of pool faces of the whole step, over all processes."""


class TrainingLoop:
    """Model, optimizer, schedule and weight average of one training; runs it epoch by epoch."""

    def __init__(
        self,
        config: RoleConfig,
        faces: TrainingFaces,
        *,
        seed: int,
        device: Device,
        name: str,
        start: Path | None = None,
    ) -> None:
        training = config.training
        self.config, self.faces, self.seed, self.name = training, faces, seed, name
        may_freeze = training.optimizer.freeze_backbone_epochs > 0
        self.compute = Compute.build(device, training.precision, find_unused_parameters=may_freeze)
        self.scaler = self.compute.gradient_scaler()
        seed_generators(seed, WEIGHTS_STREAM)
        self.model, self.freezable = starting_model(config, faces, compute=self.compute, checkpoint=start)
        self.parallel: nn.Module = self.compute.accelerator.prepare_model(self.model)
        self.forward: nn.Module = torch.compile(self.parallel) if training.compile else self.parallel  # type: ignore[assignment]
        self.ema = ModelEmaV3(self.model, decay=training.ema_decay, use_warmup=True) if training.ema_decay else None
        self.sampling_weights = sampling_weights(
            faces.train,
            faces.labels,
            class_balanced=training.class_balanced,
            labeled_fraction=training.labeled_fraction,
        )
        self.reader = FaceReader(faces.train, self.compute.device)
        self.augment = Augmentation(training.augmentation, training.randaugment, config.model.input_size)
        self.numbers, value_numbers = standardized_numbers(training.loss, faces.train.numbers, name=name)
        masses = [torch.from_numpy(mass).to(self.compute.device) for mass in class_masses(faces.train, faces.labels)]
        self.loss = BatchLoss(training.loss, faces.labels, *masses, value_numbers=value_numbers)
        self.fixmatch: FixMatch | None = None
        if training.fixmatch is not None:
            if faces.unlabeled is None or len(faces.unlabeled.pixel_rows) == 0:
                raise TrainingError(
                    f"{name}: fixmatch needs unlabeled faces, got none; add a pool or drop training.fixmatch"
                )
            self.fixmatch = FixMatch(
                config,
                faces.unlabeled,
                faces.labels,
                class_mass=masses[0],
                device=self.compute.device,
                sum_over_processes=self.compute.sum,
            )
        self.targets = torch.from_numpy(faces.train.targets)
        self.known = torch.from_numpy(faces.train.known)
        self.weights = torch.from_numpy(faces.train.weights)
        self.face_weights = torch.from_numpy(faces.train.taught_weights.max(axis=1))
        self.steps_per_epoch = -(-len(faces.train.pixel_rows) // training.batch_size)
        self.num_epochs = training.num_epochs(self.steps_per_epoch)
        self.keeps_last = training.keeps_last(len(faces.validation.pixel_rows))
        self.optimizer: Optimizer = build_optimizer(training.optimizer, self.model)
        self.direction = metric_direction(training.monitor)
        self.schedule = Schedule(training, self.optimizer, steps_per_epoch=self.steps_per_epoch, mode=self.direction)
        self.progress = Progress()
        self._steps_per_reading = _STEPS_PER_READING.get(self.compute.device.type, 1)
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        """Step, faces and loss on the device, of the steps whose losses were not read yet."""

    @property
    def eval_model(self) -> FaceClassifier:
        """The model to validate and save: the weight average if there is one, else the trained model."""
        return self.ema.module if self.ema is not None else self.model

    def is_last(self, epoch: int) -> bool:
        """Return whether an epoch (from 0), when done, is the last: of the budget, or by the patience of early stopping."""
        patience = self.config.early_stopping_epochs
        return epoch + 1 >= self.num_epochs or (patience is not None and epoch - self.progress.best_epoch >= patience)

    def run_epoch(self, bar: TrainingProgress, *, save: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train for the rest of an epoch, validate, and return the epoch's row of the history.

        `save` is called after every `save_every_steps` steps of the training, when `state` can be resumed from.
        """
        progress, epoch = self.progress, self.progress.epoch
        batches = epoch_batches(self.sampling_weights, batch_size=self.config.batch_size, seed=self.seed, epoch=epoch)
        batches = batches[: self.config.num_steps(self.steps_per_epoch) - epoch * self.steps_per_epoch]
        batches = [self._taught(batch) for batch in batches]
        labeled = self.reader.batches(batches, start=progress.step, shard_indices=self.compute.shard_indices)
        pool: Iterable[UnlabeledBatch | None] = itertools.repeat(None)
        if self.fixmatch is not None:
            pool = self.fixmatch.batches(
                [len(batch) for batch in batches],
                seed=self.seed,
                epoch=epoch,
                start=progress.step,
                shard_indices=self.compute.shard_indices,
            )
        self._start_training_mode()
        if progress.step == 0:
            progress.learning_rate = self.schedule.learning_rate
        for step, (batch, unlabeled) in enumerate(zip(labeled, pool, strict=False), start=progress.step):
            with part_of_stage("augment"):
                pixels = self.augment(batch.pixels, seed=self.seed, epoch=epoch, positions=batch.positions)
            rank = self.compute.accelerator.process_index
            position = (epoch, step, rank) if rank else (epoch, step)
            seed_generators(self.seed, STEP_STREAM, *position)  # for mixing, dropout and stochastic depth
            steps_before = epoch * self.steps_per_epoch + step
            with part_of_stage("compute"):
                loss = self._step(pixels, batch.faces, steps_before, unlabeled)
                self._unread.append((steps_before, batch.faces, loss))
            progress.step = step + 1
            every, is_last = self.config.save_every_steps, progress.step == len(batches)
            is_saved = every is not None and (steps_before + 1) % every == 0 and not is_last
            if is_saved or is_last or len(self._unread) >= self._steps_per_reading:
                self._read_losses()
                bar.step_done(progress.step, len(batches), progress.losses[-1])
            if is_saved:
                save()
        row = self._close_epoch(self._validate(self.faces.validation))
        progress.step, progress.losses = 0, []
        return row

    def _read_losses(self) -> None:
        """Read the losses of the steps since the last reading, which waits for the device.

        Raises:
            TrainingError: at the first that is not finite.
        """
        values = torch.stack([loss for _, _, loss in self._unread]).tolist()
        for (step, indices, _), value in zip(self._unread, values, strict=True):
            if not math.isfinite(value):
                raise not_finite(self.faces.train.image_ids, indices, value, self._position(step))
        self.progress.losses += values
        self._unread = []

    def _taught(self, batch: IntArray) -> IntArray:
        """Leave out the faces of a batch that teach nothing, as the guesses of a control do, if others are left."""
        teaches = self.face_weights.numpy()[batch] > 0
        # mixed faces also lend their pixels; each process needs a face
        if self.config.mixing is not None or teaches.sum() < self.compute.accelerator.num_processes:
            return batch
        return batch[teaches]

    def _start_training_mode(self) -> None:
        self.model.train()
        self.freezable.start_epoch(self.progress.epoch)

    def _close_epoch(self, scores: Scores) -> dict[str, float]:
        """Record an epoch's scores in the history and the best metric, and advance the schedule."""
        monitor, progress = self.config.monitor, self.progress
        value = metric_value(scores, monitor)
        if value is None:
            raise TrainingError(
                f"{self.name}: {monitor} is not defined on the {len(self.faces.validation.pixel_rows):,} validation "
                "faces (do all have the same value?); add validation faces or choose another training.monitor"
            )
        row = {
            "epoch": progress.epoch,
            "learning_rate": progress.learning_rate,
            "train_loss": float(np.mean(progress.losses)),
            "validation_loss": scores["log_loss"],
            "macro_f1": scores["macro_f1"],
            "accuracy": scores["accuracy"],
            monitor: value,
        }
        progress.history.append(row)
        best = progress.best_metric
        if math.isnan(best) or (value > best if self.direction == "max" else value < best):
            progress.best_metric, progress.best_epoch = value, progress.epoch
        self.schedule.after_epoch(value)
        return row

    def _step(self, pixels: Tensor, indices: Tensor, step: int, unlabeled: UnlabeledBatch | None = None) -> Tensor:
        """Take one optimizer step on a batch, in `accumulation_steps` micro-batches; return its loss, on the device.

        Each micro-batch's loss is divided by the weight of the whole batch over all processes, so that the gradients
        add up to the batch's. A face weighs as much as its heaviest label.
        """
        device, accelerator = self.compute.device, self.compute.accelerator
        labels = [(indices, 1.0)]  # faces whose labels the pixels have, and the weight of these labels
        if self.config.mixing is not None:
            mixed = mix(pixels, self.config.mixing)
            pixels, label_weight = mixed.pixels, mixed.label_weight
            labels = [(indices, label_weight), (indices[mixed.partners], 1 - label_weight)]
        # also right for mixed batches: the partners are a permutation of the batch
        total_weight = self.compute.sum(self.face_weights[indices].sum()).clamp_min(1e-8)
        num_parts, total = self.config.accumulation_steps, torch.zeros((), device=device)
        micro_batches = [part for part in torch.arange(len(indices)).tensor_split(num_parts) if len(part)]
        with translate_errors(self._position(step)):
            pool = itertools.repeat(None) if unlabeled is None else self._pool_parts(unlabeled, len(micro_batches))
            for part, views in zip(micro_batches, pool, strict=False):
                with nullcontext() if part is micro_batches[-1] else accelerator.no_sync(self.parallel):
                    images = [pixels[part]] if views is None else [pixels[part], views.strong]
                    with self.compute.autocast():
                        log_probabilities = self.forward(torch.cat(images))
                    labeled = log_probabilities[: len(part)]
                    losses = [
                        self._labeled_loss(labeled, faces[part], weight) for faces, weight in labels if weight > 0
                    ]
                    loss = torch.stack(losses).sum() / total_weight
                    if views is not None:
                        assert self.fixmatch is not None
                        loss = loss + self.fixmatch.loss(log_probabilities[len(part) :], views.targets) / views.total
                    # DDP averages the gradients of the processes; their sum is needed
                    torch.autograd.backward(self.scaler.scale(loss * accelerator.num_processes))
                total += loss.detach()
        self._update_weights()
        self.schedule.after_step()
        if self.ema is not None:
            self.ema.update(self.model, step=step + 1)
        return self.compute.sum(total)

    def _update_weights(self) -> None:
        """Clip the gradients and step the optimizer; fp16 skips the step if scaled gradients overflow."""
        if self.config.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _labeled_loss(self, log_probabilities: Tensor, faces: Tensor, label_weight: float) -> Tensor:
        device = log_probabilities.device
        return self.loss(
            log_probabilities,
            self.targets[faces].to(device),
            self.known[faces].to(device),
            label_weight * self.weights[faces].to(device),
            {name: numbers[faces].to(device) for name, numbers in self.numbers.items()},
        )

    def _pool_parts(self, batch: UnlabeledBatch, num_parts: int) -> Iterator["_PoolPart"]:
        """Predict the weak views of a step by the averaged model, without a graph; yield micro-batches for the strong views.

        The average is of the steps before this one. Without `ema_decay`, it is the trained model.
        """
        assert self.fixmatch is not None
        model, device, predicted = self.eval_model, self.compute.device, None
        parts = torch.arange(len(batch.faces)).tensor_split(num_parts)
        if batch.weak is not None:
            model.eval()
            with torch.no_grad(), self.compute.autocast():
                predicted = torch.cat([model(batch.weak[part]) for part in parts])
            if model is self.model:
                self._start_training_mode()
        targets = self.fixmatch.targets(predicted, batch.faces, device=device)
        total = self.compute.sum(torch.tensor(float(len(batch.faces))))
        for part in parts:
            yield _PoolPart(batch.strong[part], targets.of(part.to(device)), total)

    def _position(self, step: int) -> StepPosition:
        return StepPosition(self.name, self.config, self.faces.image_size, self.progress.epoch, step)

    def _validate(self, faces: LabeledSet) -> Scores:
        self.compute.broadcast_buffers(self.eval_model)
        probabilities = predict_probabilities(
            self.eval_model,
            faces.pixels,
            self.compute.shard_indices(faces.pixel_rows),
            compute=self.compute,
            batch_size=256,
        )
        probabilities = self.compute.gather(probabilities)
        return score_predictions(probabilities, faces.codes, labels=self.faces.labels, numbers=faces.numbers)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "fixmatch": None if self.fixmatch is None else self.fixmatch.state_dict(),
            "progress": asdict(self.progress),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])
        if self.fixmatch is not None:
            self.fixmatch.load_state_dict(state["fixmatch"])
        self.progress = Progress(**state["progress"])
