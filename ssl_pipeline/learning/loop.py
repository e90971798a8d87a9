"""An epoch of training, and the state between two steps.

Everything random is drawn from (seed, epoch, place), so nothing random needs saving: a training that is interrupted
and started again takes the same steps, and on a CPU ends with the same weights, bit for bit.

Several processes (see `training_job`) draw the same batches; each takes its part of every one, and all take the same
steps.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_pipeline.config.losses import ExpectedNumber, terms_of
from ssl_pipeline.config.metrics import metric_direction
from ssl_pipeline.config.training import RoleConfig, TrainingConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.evaluation.metrics import Scores, metric_value, score_predictions
from ssl_pipeline.learning.augmentation import seed_generators
from ssl_pipeline.learning.dataset import (
    AugmentedFaces,
    LabeledSet,
    TrainingFaces,
    epoch_batches,
    load_batches,
    sampling_weights,
)
from ssl_pipeline.learning.device import Compute, Device
from ssl_pipeline.learning.fixmatch import FixMatch, UnlabeledBatch
from ssl_pipeline.learning.losses import BatchLoss
from ssl_pipeline.learning.mixing import mix
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.parameter_groups import FreezableBackbone
from ssl_pipeline.learning.predict import predict_probabilities
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.learning.schedules import Schedule

WEIGHTS_STREAM, STEP_STREAM = 1, 2  # apart from the loader's (seed, epoch, place)


@dataclass
class Progress:
    """Where a training stands: whole epochs, and steps and losses of the one under way."""

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    learning_rate: float = math.nan
    """Of the epoch's first step."""
    best_metric: float = math.nan
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)

    def should_stop(self, config: TrainingConfig) -> bool:
        """Tell whether the epochs or the patience are spent."""
        patience = config.early_stopping_epochs
        return self.epoch >= config.epochs or (patience is not None and self.epoch - 1 - self.best_epoch >= patience)


class TrainingLoop:
    """Model, optimizer, schedule and average of one training, and an epoch of it."""

    def __init__(self, config: RoleConfig, faces: TrainingFaces, *, seed: int, device: Device, name: str) -> None:
        training = config.training
        self.config, self.faces, self.seed, self.name = training, faces, seed, name
        may_freeze = training.optimizer.freeze_backbone_epochs > 0
        self.compute = Compute.build(device, training.precision, find_unused_parameters=may_freeze)
        self.scaler = self.compute.gradient_scaler()
        seed_generators(seed, WEIGHTS_STREAM)
        model = build_model(config.model, labels=faces.labels, image_size=faces.image_size)
        self.model: FaceClassifier = model.to_channels_last(self.compute.device)
        self.parallel: nn.Module = self.compute.accelerator.prepare_model(self.model)
        self.forward: nn.Module = torch.compile(self.parallel) if training.compile else self.parallel  # type: ignore[assignment]
        self.ema = ModelEmaV3(self.model, decay=training.ema_decay, use_warmup=True) if training.ema_decay else None
        self.sampling_weights = sampling_weights(
            faces.train, class_balanced=training.class_balanced, labeled_fraction=training.labeled_fraction
        )
        self.augmented = AugmentedFaces(faces.train, training.augmentation, seed=seed, randaugment=training.randaugment)
        class_mass = torch.from_numpy(faces.train.weights @ faces.train.targets).to(self.compute.device)
        self.numbers, value_numbers = self._standardized_numbers()
        self.loss = BatchLoss(training.loss, faces.labels, class_mass=class_mass, value_numbers=value_numbers)
        self.fixmatch: FixMatch | None = None
        if training.fixmatch is not None:
            if faces.unlabeled is None or len(faces.unlabeled.pixel_rows) == 0:
                raise TrainingError(f"{name}: fixmatch asks for agreement on a pool, and there is none")
            self.fixmatch = FixMatch(training.fixmatch, training, faces.unlabeled, faces.labels)
        self.targets = torch.from_numpy(faces.train.targets)
        self.known = torch.from_numpy(faces.train.known)
        self.weights = torch.from_numpy(faces.train.weights)
        self.steps_per_epoch = -(-len(faces.train.pixel_rows) // training.batch_size)
        self.optimizer: Optimizer = build_optimizer(training.optimizer, self.model)
        self.freezable = FreezableBackbone(self.model, epochs=training.optimizer.freeze_backbone_epochs)
        self.direction = metric_direction(training.monitor)
        self.schedule = Schedule(training, self.optimizer, steps_per_epoch=self.steps_per_epoch, mode=self.direction)
        self.progress = Progress()

    @property
    def eval_model(self) -> FaceClassifier:
        """The model that is validated and kept: the average of the weights, where there is one."""
        return self.ema.module if self.ema is not None else self.model

    def run_epoch(self, bar: TrainingProgress, *, save: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train for the rest of an epoch and validate; give the history's row.

        `save` is called after every `save_every_steps` steps of the whole training, when `state` can be gone on from.
        """
        progress, epoch = self.progress, self.progress.epoch
        batches = epoch_batches(self.sampling_weights, batch_size=self.config.batch_size, seed=self.seed, epoch=epoch)
        loader = load_batches(
            self.augmented,
            batches,
            epoch=epoch,
            num_workers=self.config.num_workers,
            start=progress.step,
            shard_indices=self.compute.shard_indices,
        )
        pool: Iterable[UnlabeledBatch | None] = itertools.repeat(None)
        if self.fixmatch is not None:
            pool = self.fixmatch.batches(
                [len(batch) for batch in batches],
                seed=self.seed,
                epoch=epoch,
                start=progress.step,
                shard_indices=self.compute.shard_indices,
            )
        self.model.train()
        self.freezable.start_epoch(epoch)
        if progress.step == 0:
            progress.learning_rate = self.schedule.learning_rate
        for step, ((pixels, indices), unlabeled) in enumerate(zip(loader, pool, strict=False), start=progress.step):
            rank = self.compute.accelerator.process_index
            place = (epoch, step, rank) if rank else (epoch, step)
            seed_generators(self.seed, STEP_STREAM, *place)  # mixing, dropout and stochastic depth
            steps_before = epoch * self.steps_per_epoch + step
            progress.losses.append(self._step(pixels, indices, steps_before, unlabeled))
            progress.step = step + 1
            bar.step_done(progress.step, self.steps_per_epoch, progress.losses[-1])
            every = self.config.save_every_steps
            if every is not None and (steps_before + 1) % every == 0 and progress.step < self.steps_per_epoch:
                save()
        row = self._close_epoch(self._validate(self.faces.validation))
        progress.step, progress.losses = 0, []
        return row

    def _close_epoch(self, scores: Scores) -> dict[str, float]:
        """Note an epoch's scores: in the history, the schedule, and as the best if they are."""
        monitor, progress = self.config.monitor, self.progress
        value = metric_value(scores, monitor)
        if value is None:
            raise TrainingError(
                f"{self.name}: {monitor} is not defined on the {len(self.faces.validation.pixel_rows):,} validation "
                "faces (does one value fill them all?); add validation faces or choose another training.monitor"
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

    def _step(self, pixels: Tensor, indices: Tensor, step: int, unlabeled: UnlabeledBatch | None = None) -> float:
        """Take one optimizer step on a batch, in `accumulation_steps` parts; give its loss.

        Each part is divided by the weight of the whole batch, of all processes, so that the parts add up to the batch's
        own gradient.
        """
        device, accelerator = self.compute.device, self.compute.accelerator
        taught = [(indices, 1.0)]  # which faces the pixels show, and in what share
        if self.config.mixing is not None:
            mixed = mix(pixels, self.config.mixing)
            pixels, share = mixed.pixels, mixed.label_weight
            taught = [(indices, share), (indices[mixed.partners], 1 - share)]
        # mixed or not, a face's weight counts once: its partners are the batch's own faces, each taken once
        total_weight = self.compute.sum(self.weights[indices].sum()).clamp_min(1e-8)
        num_unlabeled = torch.tensor(0.0 if unlabeled is None else len(unlabeled.faces))
        total_unlabeled = self.compute.sum(num_unlabeled)
        total = torch.zeros((), device=device)
        parts = [part for part in torch.arange(len(indices)).tensor_split(self.config.accumulation_steps) if len(part)]
        with self._translate_errors(step):
            for part in parts:
                with nullcontext() if part is parts[-1] else accelerator.no_sync(self.parallel):
                    beside = None if unlabeled is None else _part_of(unlabeled, part, of=len(indices))
                    seen = [pixels[part]] if beside is None else [pixels[part], beside.weak, beside.strong]
                    with self.compute.autocast():
                        log_probabilities = self.forward(torch.cat(seen).to(device))
                    own = log_probabilities[: len(part)]
                    losses = [self._loss(own, faces[part], share) for faces, share in taught if share > 0]
                    loss = torch.stack(losses).sum() / total_weight
                    if beside is not None:
                        loss = loss + self._unlabeled_loss(log_probabilities[len(part) :], beside) / total_unlabeled
                    # times the processes, as the exchange of gradients takes their mean
                    torch.autograd.backward(self.scaler.scale(loss * accelerator.num_processes))
                total += loss.detach()
        total_loss = float(self.compute.sum(total))
        if not math.isfinite(total_loss):
            raise TrainingError(self._not_finite(total_loss, indices, step))
        self._update_weights()
        self.schedule.after_step()
        if self.ema is not None:
            self.ema.update(self.model, step=step + 1)
        return total_loss

    def _update_weights(self) -> None:
        """Clip the gradients and take the optimizer's step; fp16 leaves out a step whose scaled gradients overflow."""
        if self.config.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _loss(self, log_probabilities: Tensor, faces: Tensor, share: float) -> Tensor:
        device = log_probabilities.device
        return self.loss(
            log_probabilities,
            self.targets[faces].to(device),
            self.known[faces].to(device),
            share * self.weights[faces].to(device),
            {name: of_all[faces].to(device) for name, of_all in self.numbers.items()},
        )

    def _unlabeled_loss(self, log_probabilities: Tensor, batch: UnlabeledBatch) -> Tensor:
        """Add up the loss of the strong pictures against what the weak ones, whose rows come first, are taken for."""
        assert self.fixmatch is not None
        assert self.config.fixmatch is not None
        weak, strong = torch.split(log_probabilities, len(batch.faces))
        targets, sure = self.fixmatch.pseudo_targets(weak, batch.faces)
        unknown = {name: strong.new_full((len(strong),), math.nan) for name in self.numbers}
        return self.config.fixmatch.weight * self.loss(strong, targets, sure, strong.new_ones(len(strong)), unknown)

    def _standardized_numbers(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give the faces' numbers, [N], and those of the values, [V], that the loss asks for, in standard deviations."""
        of_faces, of_values = {}, {}
        for _, _, loss in terms_of(self.config.loss):
            if isinstance(loss, ExpectedNumber):
                known = self.faces.train.numbers.get(loss.attribute)
                if known is None or not np.isfinite(known.of_value).all():
                    raise TrainingError(
                        f"{self.name}: the loss expected_number needs the number behind every value of "
                        f"'{loss.attribute}', and no training face tells some of them; add labeled faces or drop it"
                    )
                scale = max(float(np.nanstd(known.truth)), 1e-6)
                of_faces[loss.attribute] = torch.from_numpy(known.truth / scale).float()
                of_values[loss.attribute] = torch.from_numpy(known.of_value / scale).float()
        return of_faces, of_values

    def _not_finite(self, loss: float, indices: Tensor, step: int) -> str:
        shown = [self.faces.train.image_ids[index] for index in indices[:8].tolist()]
        more = f" and {len(indices) - len(shown):,} more" if len(indices) > len(shown) else ""
        return (
            f"{self.name}: the loss is {loss} at step {step} (epoch {self.progress.epoch}), learning rate "
            f"{self.schedule.learning_rate:.3g}, faces {', '.join(shown)}{more}; lower "
            "training.optimizer.learning_rate, set training.max_gradient_norm: 1 or training.precision: fp32"
        )

    @contextmanager
    def _translate_errors(self, step: int) -> Iterator[None]:
        """Say what to lower when memory runs out, and what to switch off when the network cannot be compiled."""
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(
                f"{self.name}: cannot be compiled here ({reason}); set training.compile: false"
            ) from None
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
                raise
            config = self.config
            raise TrainingError(
                f"{self.name}: out of memory at step {step} with {config.batch_size // config.accumulation_steps} faces "
                f"of {self.faces.image_size} pixels at a time; raise training.accumulation_steps (now "
                f"{config.accumulation_steps}), which changes no result of a network without batch norm, or lower "
                f"training.batch_size (now {config.batch_size}) or faces.image_size"
            ) from None

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
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": asdict(self.progress),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**state["progress"])


def _part_of(batch: UnlabeledBatch, part: Tensor, *, of: int) -> UnlabeledBatch:
    """Take the unlabeled faces that go with a part of the labeled ones, `part` being places among `of`."""
    times = len(batch.faces) // of
    places = (part[:, None] * times + torch.arange(times)).reshape(-1)
    return UnlabeledBatch(batch.weak[places], batch.strong[places], batch.faces[places])
