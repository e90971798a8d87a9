"""The one training, for teacher and student alike: epochs, best checkpoint, early stopping, going on after a stop.

An epoch of it is in `training_loop`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.learning.checkpoint import load_training_state, save_checkpoint, save_training_state
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.device import Device, deterministic_algorithms
from ssl_pipeline.learning.loop import TrainingLoop
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.runs.uploads import request_upload

logger = logging.getLogger(__name__)

_STATE_FORMAT = 2  # of last.pt; a state of another format is not resumed


@dataclass(frozen=True)
class FitResult:
    """What a training came to."""

    checkpoint: Path
    best_epoch: int
    best_metric: float
    """The monitored metric in that epoch."""
    num_epochs: int
    """Epochs run; fewer than asked where training stopped early."""
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
) -> FitResult:
    """Train a model, or go on with a training of the same config, seed and faces found in `directory`.

    Leaves ``best.safetensors`` (best by the monitored metric of validation), ``last.pt`` (state, every epoch and every
    `save_every_steps`) and ``history.csv``.

    Args:
        config: model and training.
        faces: what to learn from, and what to be judged by.
        directory: where to write.
        seed: of weights, order, augmentation and dropout.
        device: where to compute.
        inputs: digest of the faces' origin; a state found is gone on with only if it is the same.
        name: what to call the model in progress bars and logs.

    Raises:
        TrainingError: if there is nothing to learn from or to be judged by, the loss is no longer finite, memory runs
            out, or the monitored metric is not defined on the validation faces.
    """
    if len(faces.train.pixel_rows) == 0 or len(faces.validation.pixel_rows) == 0:
        raise TrainingError(
            f"{name}: expected faces to train and to validate on, got {len(faces.train.pixel_rows)} and "
            f"{len(faces.validation.pixel_rows)}"
        )
    with deterministic_algorithms(config.training.deterministic):
        loop = TrainingLoop(config, faces, seed=seed, device=device, name=name)
        key = digest_of([_STATE_FORMAT, config.fingerprint_fields(), seed, inputs])
        return _run(loop, config, faces, directory=directory, key=key)


def _run(loop: TrainingLoop, config: RoleConfig, faces: TrainingFaces, *, directory: Path, key: str) -> FitResult:
    """Run the epochs that are left; of several processes, the main one writes."""
    name, is_main = loop.name, loop.compute.accelerator.is_main_process

    def save() -> None:
        if is_main:
            save_training_state(directory / "last.pt", {"key": key, **loop.state()})
            request_upload()

    state = load_training_state(directory / "last.pt", key=key)
    if state is not None:
        loop.restore(state)
        logger.info("%s: training goes on after epoch %d of %d", name, loop.progress.epoch, config.training.epochs)
    progress, resumed = loop.progress, loop.progress.epoch
    with TrainingProgress(name, config.training.epochs, start=resumed, shown=is_main) as bar:
        while not progress.should_stop(config.training):
            row = loop.run_epoch(bar, save=save)
            if is_main and progress.epoch == progress.best_epoch:
                save_checkpoint(
                    directory / "best.safetensors",
                    loop.eval_model,
                    model_config=config.model,
                    image_size=faces.image_size,
                )
            progress.epoch += 1
            if is_main:
                with atomic_path(directory / "history.csv") as beside:
                    pd.DataFrame(progress.history).to_csv(beside, index=False)
            save()
            bar.epoch_done(row, best=progress.best_metric, monitor=config.training.monitor)
    return FitResult(directory / "best.safetensors", progress.best_epoch, progress.best_metric, progress.epoch, resumed)
