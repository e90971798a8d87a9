"""Class probabilities of faces, with gradients off: one model, one or several views of each face.

Shapes: N faces, B of them in a batch, K classes, S the side of a face in pixels.
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
"""How a face is shown: its zoom, and whether mirrored."""
SINGLE_VIEW: tuple[View, ...] = ((1.0, False),)


class FacePredictor(Protocol):
    """What gives class probabilities of faces: one checkpoint (`CheckpointPredictor`) or several (`voting.SoftVote`)."""

    @property
    def labels(self) -> LabelSpace:
        """The classes."""

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The sizes in pixels at which a face is wanted."""

    @property
    def batch_size(self) -> int:
        """Faces at a time."""

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Give class probabilities, float32 [N, K], of N faces at each wanted size, {S: uint8 [N, S, S, 3]}."""


@dataclass(frozen=True)
class CheckpointPredictor:
    """A checkpoint on its device, ready to label faces."""

    checkpoint: Checkpoint
    config: PredictionConfig
    compute: Compute
    views: Sequence[View] = SINGLE_VIEW

    @classmethod
    def load(
        cls, path: Path, config: PredictionConfig, *, labels: LabelSpace | None = None, device: Device = "auto"
    ) -> "CheckpointPredictor":
        """Load a checkpoint, checked against `labels` if they are given.

        Raises:
            CheckpointError: if it cannot be used.
        """
        checkpoint = load_checkpoint(path, labels=labels)
        compute = Compute.build(device, config.precision)
        checkpoint.model.to_channels_last(compute.device)
        return cls(checkpoint, config, compute, config.views)

    def by_view(self) -> "tuple[CheckpointPredictor, ...]":
        """Give a predictor for each view alone; the mean over their uncalibrated probabilities is this one's."""
        return tuple(replace(self, views=(view,)) for view in self.views)

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.checkpoint.labels

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The one size at which the model was trained."""
        return (self.checkpoint.image_size,)

    @property
    def batch_size(self) -> int:
        """Faces at a time."""
        return self.config.batch_size

    def predict(
        self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give calibrated class probabilities, float32 [N, K], of the faces in these rows of uint8 [M, S, S, 3]."""
        probabilities = self.predict_uncalibrated(pixels, pixel_rows, on_batch=on_batch)
        if self.checkpoint.calibration is None:
            return probabilities
        return self.checkpoint.calibration.apply(probabilities, self.labels).astype(np.float32)

    def predict_uncalibrated(
        self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give the class probabilities that the network gives, averaged over the views, float32 [N, K]."""
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
        """Give class probabilities, float32 [N, K], of N faces, {S: uint8 [N, S, S, 3]} with S the model's own size."""
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
    """Predict faces in batches, in order, each as the mean of the probabilities of its views.

    With V views, p(c | x) = 1/V · Σ p(c | view(x)). Every module of the model is left in the mode in which it came.

    Args:
        model: on the device.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows to predict.
        compute: device and precision.
        batch_size: faces at a time.
        views: of each face; see `zoom_in` for what the zooms, at least 1, do.
        on_batch: told the number of faces after each batch.

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
    """Yield the faces in these rows of uint8 [M, S, S, 3] on a device, uint8 [B, 3, S, S] at a time, in order."""
    for start in range(0, len(pixel_rows), batch_size):
        rows = pixel_rows[start : start + batch_size]
        yield torch.from_numpy(np.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2).to(device)


def zoom_in(faces: Tensor, zoom: float) -> Tensor:
    """Keep the centered square of 1/zoom of the side, rounded to whole pixels, and resize it back (bilinear).

    Args:
        faces: uint8 [B, 3, S, S].
        zoom: at least 1, which changes nothing.

    Returns:
        uint8 [B, 3, S, S].
    """
    side = faces.shape[-1]
    kept = max(round(side / zoom), 1)
    if kept == side:
        return faces
    margin = (side - kept) // 2
    box = (margin, margin, kept, kept)
    return torch.as_tensor(resized_crop(faces, *box, [side, side], InterpolationMode.BILINEAR, antialias=True))


def _mean_over_views(model: FaceClassifier, faces: Tensor, views: Sequence[View]) -> Tensor:
    total = torch.zeros(len(faces), model.labels.num_classes, device=faces.device)
    for zoom, mirrored in views:
        view = zoom_in(faces, zoom)
        total += model(view.flip(3) if mirrored else view).exp()
    return total / len(views)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Hold a model in eval mode: dropout off, batch norm by its running statistics, which stay as they are."""
    # module by module: a frozen part of a model in training may be in eval mode already, and is to stay so
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
    """Give what the network's last layer sees of faces, one view each, float32 [N, D].

    Args:
        predictor: the teacher.
        pixels: uint8 [P, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows of the faces.
    """
    model, compute, parts = predictor.checkpoint.model, predictor.compute, []
    with eval_mode(model):
        for batch in iterate_batches(pixels, pixel_rows, batch_size=predictor.batch_size, device=compute.device):
            with compute.autocast():
                features = model.features(batch)
            parts.append(features.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
