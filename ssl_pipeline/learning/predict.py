"""Class probabilities of faces from a checkpoint, averaged over views (test-time augmentation).

Shapes: N faces, B batch, K classes, S image side, M rows of the pixel array, D features.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resized_crop

from ssl_pipeline.config.run import Device, PredictionConfig
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, load_checkpoint
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.engine import Engine, build_engine, torch_engine
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.stored_features import stored_features
from ssl_pipeline.learning.vote import FeatureHead, Vote
from ssl_pipeline.runs.profile import part_of_stage

logger = logging.getLogger(__name__)

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
    member: str | None = None
    """Predict with this member of a vote only."""
    engine: Engine = torch_engine
    """Computes the class probabilities of networks; heads on features are torch's."""

    @classmethod
    def load(
        cls, path: Path, config: PredictionConfig, *, labels: LabelSpace | None = None, device: Device = "auto"
    ) -> "CheckpointPredictor":
        """Load a checkpoint and check that it has these labels, unless None.

        Raises:
            CheckpointError: see `checkpoint.load_checkpoint`.
            ConfigError: if the device is not available, or the engine cannot predict on it.
        """
        compute = Compute.build(device, config.precision)
        engine = build_engine(config.engine, compute)
        checkpoint = load_checkpoint(path, labels=labels)
        checkpoint.model.to_channels_last(compute.device)
        return cls(checkpoint, config, compute, config.views, engine=engine)

    @property
    def model(self) -> FaceClassifier | Vote:
        """The model that predicts."""
        model = self.checkpoint.model
        return model.only(self.member) if self.member is not None and isinstance(model, Vote) else model

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
            self.model,
            pixels,
            pixel_rows,
            compute=self.compute,
            batch_size=self.config.batch_size,
            views=self.views,
            engine=self.engine,
            on_batch=on_batch,
        )

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Predict calibrated class probabilities, float32 [N, K], of N faces, {S: uint8 [N, S, S, 3]}."""
        faces = pixels[self.checkpoint.image_size]
        return self.predict(faces, np.arange(len(faces)))


@torch.inference_mode()
def predict_probabilities(
    model: FaceClassifier | Vote,
    pixels: npt.NDArray[np.uint8],
    pixel_rows: IntArray,
    *,
    compute: Compute,
    batch_size: int,
    views: Sequence[View] = SINGLE_VIEW,
    engine: Engine = torch_engine,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Predict faces in batches, in order, as the mean of the probabilities over the views.

    With V views, p(c | x) = 1/V · Σ p(c | view(x)). Of a vote, heads on features see one view each, and the features that
    the run of the pixel array keeps are not computed again (see `stored_features`). The train or eval mode of every module is restored afterwards.

    Args:
        model: on the device of `compute`.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows to predict.
        compute: device and precision.
        batch_size: faces per batch; halved, as often as needed, where the device's memory is too small.
        views: zoom (see `zoom_in`) and flip of each view.
        engine: computes the probabilities of networks.
        on_batch: called with the number of faces after each batch.

    Returns:
        float32 [N, K], rows sum to 1.
    """
    parts = [np.zeros((0, model.labels.num_classes), np.float32)]
    stored = stored_features(pixels, feature_digests(model))
    start = 0
    with eval_mode(model):
        while start < len(pixel_rows):
            batch = _Faces(pixels, pixel_rows[start : start + batch_size], stored, compute.device)
            try:
                with part_of_stage("compute"), compute.autocast():
                    parts.append(_mean_over_members(model, batch, views, engine).float().cpu().numpy())
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size = math.ceil(min(batch_size, len(batch.rows)) / 2)
                logger.warning("prediction: out of memory; going on with batches of %d faces", batch_size)
                continue
            start += len(batch.rows)
            if on_batch is not None:
                on_batch(len(batch.rows))
    return np.concatenate(parts)


def iterate_batches(
    pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, *, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the faces in these rows of uint8 [M, S, S, 3] as batches uint8 [B, 3, S, S] on a device, in order."""
    for start in range(0, len(pixel_rows), batch_size):
        rows = pixel_rows[start : start + batch_size]
        with part_of_stage("transfer"):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2).to(device)
        yield batch


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


@dataclass(frozen=True)
class _Faces:
    """A batch of faces, whose pixels are read only if a model needs them."""

    array: npt.NDArray[np.uint8]
    rows: IntArray
    stored: Mapping[str, npt.NDArray[np.float32]]
    device: torch.device

    @cached_property
    def pixels(self) -> Tensor:
        """uint8 [B, 3, S, S]."""
        return next(iterate_batches(self.array, self.rows, batch_size=len(self.rows), device=self.device))

    def features(self, head: FeatureHead) -> Tensor:
        """Return the features that a head takes, float32 [B, D]."""
        if head.digest in self.stored:
            return torch.from_numpy(np.array(self.stored[head.digest][self.rows])).to(self.device)
        return head.features(self.pixels)


def feature_digests(model: FaceClassifier | Vote) -> set[str]:
    """Return the digests of the features that a model's heads take."""
    members = model.members if isinstance(model, Vote) else ()
    return {member.model.digest for member in members if isinstance(member.model, FeatureHead)}


def _mean_over_members(model: FaceClassifier | Vote, faces: _Faces, views: Sequence[View], engine: Engine) -> Tensor:
    """Compute the weighted mean of the members' probabilities; of a network those over its views, float32 [B, K]."""
    if not isinstance(model, Vote):
        return _mean_over_views(model, faces.pixels, views, engine)
    total = torch.zeros(len(faces.rows), model.labels.num_classes, device=faces.device)
    for weight, member in model.weighted():
        if isinstance(member, FeatureHead):
            total += weight * member(faces.features(member)).exp()
        else:
            total += weight * _mean_over_views(member, faces.pixels, views, engine)
    return total


def _mean_over_views(model: FaceClassifier, faces: Tensor, views: Sequence[View], engine: Engine) -> Tensor:
    total = torch.zeros(len(faces), model.labels.num_classes, device=faces.device)
    for zoom, flipped in views:
        view = zoom_in(faces, zoom)
        total += engine(model, view.flip(3) if flipped else view)
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


def has_fixed_features(model: FaceClassifier | Vote) -> bool:
    """Whether the features of `pooled_features` come from a network that no training of the run changed."""
    return isinstance(_featured_member(model), FeatureHead)


def _featured_member(model: FaceClassifier | Vote) -> FaceClassifier | FeatureHead:
    if not isinstance(model, Vote):
        return model
    members = [member.model for member in model.members]
    return next((member for member in members if isinstance(member, FeatureHead)), members[0])


@torch.inference_mode()
def pooled_features(
    predictor: CheckpointPredictor, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray
) -> npt.NDArray[np.float32]:
    """Compute the features of faces that a classifier layer takes, float32 [N, D].

    Of a vote, those of its first head on fixed features, which most runs keep, else those of its first network.

    Args:
        predictor: the model.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [N], the rows of the faces.
    """
    model, compute, parts = predictor.model, predictor.compute, []
    first = _featured_member(model)
    stored = stored_features(pixels, feature_digests(model))
    with eval_mode(model):
        for start in range(0, len(pixel_rows), predictor.batch_size):
            faces = _Faces(pixels, pixel_rows[start : start + predictor.batch_size], stored, compute.device)
            with compute.autocast():
                features = faces.features(first) if isinstance(first, FeatureHead) else first.features(faces.pixels)
            parts.append(features.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
