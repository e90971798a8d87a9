"""Train a model: epochs, best checkpoint, early stopping, resume. One epoch is in `learning.loop`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ssl_pipeline.config.run import Device
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.learning.checkpoint import load_training_state, save_checkpoint, save_training_state
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.device import deterministic_algorithms
from ssl_pipeline.learning.loop import TrainingLoop
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.learning.trackers import TrackedRun, Tracking
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.runs.uploads import request_upload

logger = logging.getLogger(__name__)

TRAINED = "trained.safetensors"
_STATE_FORMAT = 3  # of last.pt; a state of another format is not resumed


@dataclass(frozen=True)
class FitResult:
    """Result of a training."""

    checkpoint: Path
    kept: Literal["best", "last"]
    """Which epoch's weights the checkpoint holds; see `TrainingConfig.keep`."""
    kept_epoch: int
    """Counted from 0."""
    kept_metric: float
    """The monitored metric of the kept epoch."""
    num_epochs: int
    """Completed epochs; fewer than configured after early stopping."""
    resumed_from_epoch: int


def fit(
    config: RoleConfig,
    faces: TrainingFaces,
    *,
    directory: Path,
    seed: int = 0,
    device: Device = "auto",
    inputs: str = "",
    name: str = "model",
    start: Path | None = None,
    tracking: Tracking | None = None,
) -> FitResult:
    """Train a model, or resume a training of the same config, seed and inputs found in `directory`.

    Writes ``trained.safetensors`` (the best or the last epoch, see `keep`; uncalibrated), ``last.pt`` (state, after every epoch
    and every `save_every_steps` steps) and ``history.csv``.

    Args:
        config: model and training.
        faces: training, validation and unlabeled faces.
        directory: where to write.
        seed: for weights, sampling order, augmentation and dropout.
        device: where to compute.
        inputs: digest of the faces' source; a saved state with another digest is not resumed.
        name: the model's name in progress bars, logs and errors.
        start: checkpoint of a model with the same network and labels, whose weights the training starts with; `inputs`
            must change with its content.
        tracking: which trackers get the rows of the history, too.

    Raises:
        TrainingError: if there are no training or validation faces, fewer faces than processes, the loss is not finite, memory runs out, or the
            monitored metric is undefined on the validation faces.
    """
    if len(faces.train.pixel_rows) == 0 or len(faces.validation.pixel_rows) == 0:
        raise TrainingError(
            f"{name}: expected training and validation faces, got {len(faces.train.pixel_rows)} and "
            f"{len(faces.validation.pixel_rows)}; label more faces"
        )
    num_faces, training = len(faces.train.pixel_rows), config.training
    smallest_batch = num_faces // -(-num_faces // training.batch_size)  # see `dataset.epoch_batches`
    if smallest_batch < training.num_processes:
        raise TrainingError(
            f"{name}: {num_faces} training faces make batches of {smallest_batch}, too few for num_processes "
            f"{training.num_processes}; set training.num_processes to at most {smallest_batch}, or label more faces"
        )
    with deterministic_algorithms(config.training.deterministic):
        loop = TrainingLoop(config, faces, seed=seed, device=device, name=name, start=start)
        key = digest_of([_STATE_FORMAT, config.fingerprint_fields(), seed, inputs])
        return _run(loop, config, faces, directory=directory, key=key, tracking=tracking)


def _run(
    loop: TrainingLoop,
    config: RoleConfig,
    faces: TrainingFaces,
    *,
    directory: Path,
    key: str,
    tracking: Tracking | None,
) -> FitResult:
    """Run the remaining epochs; only the main process writes files and tracks."""
    name, is_main = loop.name, loop.compute.accelerator.is_main_process

    def save() -> None:
        if is_main:
            save_training_state(directory / "last.pt", {"key": key, **loop.state()})
            request_upload()

    state = load_training_state(directory / "last.pt", key=key)
    if state is not None:
        loop.restore(state)
        logger.info("%s: training resumes after epoch %d of %d", name, loop.progress.epoch, loop.num_epochs)
    progress, first_epoch = loop.progress, loop.progress.epoch
    tracked = TrackedRun(
        tracking if is_main else None,
        name=name,
        key=key,
        parameters={**config.fingerprint_fields(), "seed": loop.seed},
        history=progress.history,
    )
    with TrainingProgress(name, loop.num_epochs, start=first_epoch, shown=is_main) as bar, tracked:
        while not (progress.epoch and loop.is_last(progress.epoch - 1)):
            row = loop.run_epoch(bar, save=save)
            if is_main and (loop.keeps_last or progress.epoch == progress.best_epoch):
                save_checkpoint(
                    directory / TRAINED,
                    loop.eval_model,
                    model_config=config.model,
                    image_size=faces.image_size,
                    cropping=faces.cropping,
                )
            progress.epoch += 1
            if is_main:
                with atomic_path(directory / "history.csv") as temporary:
                    pd.DataFrame(progress.history).to_csv(temporary, index=False)
            tracked.log(row)  # before the state is saved, after which no process trains this epoch again
            save()
            bar.epoch_done(row, best=progress.best_metric, monitor=config.training.monitor)
    epoch = progress.epoch - 1 if loop.keeps_last else progress.best_epoch
    metric = progress.history[epoch][config.training.monitor]
    kept: Literal["best", "last"] = "last" if loop.keeps_last else "best"
    return FitResult(directory / TRAINED, kept, epoch, metric, progress.epoch, first_epoch)
