"""Class probabilities of faces from a checkpoint, averaged over views (test-time augmentation).

Shapes: N faces, B batch, K classes, S image side, M rows of the pixel array, D features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resized_crop

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, load_checkpoint
from ssl_pipeline.learning.device import Compute, Device
from ssl_pipeline.learning.model import FaceClassifier

View = tuple[float, bool]
"""Zoom, and whether flipped horizontally."""
SINGLE_VIEW: tuple[View, ...] = ((1.0, False),)


class FacePredictor(Protocol):
    """Predictor of class probabilities: one checkpoint (`CheckpointPredictor`) or several (`voting.SoftVote`)."""

    @property
    def labels(self) -> LabelSpace:
        """The classes."""

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The image sides in pixels that the models take."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The models."""

    @property
    def batch_size(self) -> int:
        """Faces per batch."""

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Predict class probabilities, float32 [N, K], of N faces given at every image size, {S: uint8 [N, S, S, 3]}."""


@dataclass(frozen=True)
class CheckpointPredictor:
    """A checkpoint on its device, with prediction settings."""

    checkpoint: Checkpoint
    config: PredictionConfig
    compute: Compute
    views: Sequence[View] = SINGLE_VIEW

    @classmethod
    def load(
        cls, path: Path, config: PredictionConfig, *, labels: LabelSpace | None = None, device: Device = "auto"
    ) -> "CheckpointPredictor":
        """Load a checkpoint and check that it has these labels, unless None.

        Raises:
            CheckpointError: see `checkpoint.load_checkpoint`.
        """
        checkpoint = load_checkpoint(path, labels=labels)
        compute = Compute.build(device, config.precision)
        checkpoint.model.to_channels_last(compute.device)
        return cls(checkpoint, config, compute, config.views)

    def by_view(self) -> "tuple[CheckpointPredictor, ...]":
        """Return one predictor per view; the mean of their uncalibrated probabilities equals this predictor's."""
        return tuple(replace(self, views=(view,)) for view in self.views)

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.checkpoint.labels

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The image side that the model was trained on."""
        return (self.checkpoint.image_size,)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The model."""
        return (self.checkpoint,)

    @property
    def batch_size(self) -> int:
        """Faces per batch."""
        return self.config.batch_size

    def predict(
        self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Predict calibrated class probabilities, float32 [N, K], of the faces in these rows of uint8 [M, S, S, 3]."""
        probabilities = self.predict_uncalibrated(pixels, pixel_rows, on_batch=on_batch)
        if self.checkpoint.calibration is None:
            return probabilities
        return self.checkpoint.calibration.apply(probabilities, self.labels).astype(np.float32)

    def predict_uncalibrated(
        self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Predict uncalibrated class probabilities, averaged over the views, float32 [N, K]."""
        return predict_probabilities(
            self.checkpoint.model,
            pixels,
            pixel_rows,
            compute=self.compute,
            batch_size=self.config.batch_size,
            views=self.views,
            on_batch=on_batch,
        )

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Predict calibrated class probabilities, float32 [N, K], of N faces, {S: uint8 [N, S, S, 3]}."""
        faces = pixels[self.checkpoint.image_size]
        return self.predict(faces, np.arange(len(faces)))


@torch.inference_mode()
def predict_probabilities(
    model: FaceClassifier,
    pixels: npt.NDArray[np.uint8],
    pixel_rows: IntArray,
    *,
    compute: Compute,
    batch_size: int,
    views: Sequence[View] = SINGLE_VIEW,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Predict faces in batches, in order, as the mean of the probabilities over the views.

    With V views, p(c | x) = 1/V · Σ p(c | view(x)). The train or eval mode of every module is restored afterwards.

    Args:
        model: on the device of `compute`.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows to predict.
        compute: device and precision.
        batch_size: faces per batch.
        views: zoom (see `zoom_in`) and flip of each view.
        on_batch: called with the number of faces after each batch.

    Returns:
        float32 [N, K], rows sum to 1.
    """
    parts = [np.zeros((0, model.labels.num_classes), np.float32)]
    with eval_mode(model):
        for batch in iterate_batches(pixels, pixel_rows, batch_size=batch_size, device=compute.device):
            with compute.autocast():
                probabilities = _mean_over_views(model, batch, views)
            parts.append(probabilities.float().cpu().numpy())
            if on_batch is not None:
                on_batch(len(batch))
    return np.concatenate(parts)


def iterate_batches(
    pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the faces in these rows of uint8 [M, S, S, 3] as batches uint8 [B, 3, S, S] on a device, in order."""
    for start in range(0, len(pixel_rows), batch_size):
        rows = pixel_rows[start : start + batch_size]
        yield torch.from_numpy(np.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2).to(device)


def zoom_in(faces: Tensor, zoom: float) -> Tensor:
    """Crop the centered square of 1/zoom of the side, rounded to whole pixels, and resize it back (bilinear).

    Args:
        faces: uint8 [B, 3, S, S].
        zoom: ≥ 1; 1 returns the faces unchanged.

    Returns:
        uint8 [B, 3, S, S].
    """
    side = faces.shape[-1]
    crop_side = max(round(side / zoom), 1)
    if crop_side == side:
        return faces
    margin = (side - crop_side) // 2
    box = (margin, margin, crop_side, crop_side)
    return torch.as_tensor(resized_crop(faces, *box, [side, side], InterpolationMode.BILINEAR, antialias=True))


def _mean_over_views(model: FaceClassifier, faces: Tensor, views: Sequence[View]) -> Tensor:
    total = torch.zeros(len(faces), model.labels.num_classes, device=faces.device)
    for zoom, flipped in views:
        view = zoom_in(faces, zoom)
        total += model(view.flip(3) if flipped else view).exp()
    return total / len(views)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to eval mode inside the block and restore the mode of every module afterwards."""
    # per module: a frozen part of a model in training is already in eval mode and must stay there
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@torch.inference_mode()
def pooled_features(
    predictor: CheckpointPredictor, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray
) -> npt.NDArray[np.float32]:
    """Compute the pooled features of faces, the input of the classifier layer, float32 [N, D].

    Args:
        predictor: the model.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows of the faces.
    """
    model, compute, parts = predictor.checkpoint.model, predictor.compute, []
    with eval_mode(model):
        for batch in iterate_batches(pixels, pixel_rows, batch_size=predictor.batch_size, device=compute.device):
            with compute.autocast():
                features = model.features(batch)
            parts.append(features.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
