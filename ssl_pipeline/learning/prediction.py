"""Class probabilities of faces, with gradients off.

Shapes: N faces, K classes, S the side of a face in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator

from ssl_pipeline.config import PredictionConfig
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, load_checkpoint
from ssl_pipeline.learning.device import Device, build_accelerator
from ssl_pipeline.learning.model import FaceClassifier


@dataclass(frozen=True)
class Predictor:
    """A checkpoint on its device, ready to label faces."""

    checkpoint: Checkpoint
    config: PredictionConfig
    accelerator: Accelerator

    @classmethod
    def load(
        cls, path: Path, config: PredictionConfig, *, labels: LabelSpace | None = None, device: Device = "auto"
    ) -> "Predictor":
        """Load a checkpoint, checked against `labels` if they are given.

        Raises:
            CheckpointError: if it cannot be used.
        """
        checkpoint = load_checkpoint(path, labels=labels)
        accelerator = build_accelerator(device, config.precision)
        checkpoint.model.to_channels_last(accelerator.device)
        return cls(checkpoint, config, accelerator)

    def predict(
        self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give class probabilities, float32 [N, K], of the faces in these rows of uint8 [M, S, S, 3]."""
        return predict_probabilities(
            self.checkpoint.model,
            pixels,
            pixel_rows,
            accelerator=self.accelerator,
            batch_size=self.config.batch_size,
            horizontal_flip=self.config.horizontal_flip,
            on_batch=on_batch,
        )


@torch.inference_mode()
def predict_probabilities(
    model: FaceClassifier,
    pixels: npt.NDArray[np.uint8],
    pixel_rows: IntArray,
    *,
    accelerator: Accelerator,
    batch_size: int,
    horizontal_flip: bool,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Predict faces in batches, in order; the model is left in the mode in which it came.

    Args:
        model: on the accelerator's device.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows to predict.
        accelerator: device and precision.
        batch_size: faces at a time.
        horizontal_flip: average the probabilities of a face with those of its mirror image.
        on_batch: told the number of faces after each batch.

    Returns:
        float32 [N, K], rows sum to 1.
    """
    was_training = model.training
    model.eval()
    parts = [np.zeros((0, model.labels.num_classes), np.float32)]
    for start in range(0, len(pixel_rows), batch_size):
        rows = pixel_rows[start : start + batch_size]
        batch = torch.from_numpy(np.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2).to(accelerator.device)
        with accelerator.autocast():
            probabilities = model(batch).exp()
            if horizontal_flip:
                probabilities = (probabilities + model(batch.flip(3)).exp()) / 2
        parts.append(probabilities.float().cpu().numpy())
        if on_batch is not None:
            on_batch(len(rows))
    model.train(was_training)
    return np.concatenate(parts)
