"""Soft voting: the mean of several checkpoints' class probabilities, whatever their architectures and image sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import describe_labels
from ssl_pipeline.learning.device import Device
from ssl_pipeline.learning.predict import CheckpointPredictor


@dataclass(frozen=True)
class SoftVote:
    """Several models of one label space that predict as one.

    With M members of probabilities p_m and weights w_m, p(c | x) = Σ w_m · p_m(c | x) / Σ w_m.

    Attributes:
        members: at least one; each sees a face at its own size.
        weights: one a member, above 0.
    """

    members: tuple[CheckpointPredictor, ...]
    weights: tuple[float, ...]

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        config: PredictionConfig,
        *,
        weights: Sequence[float] | None = None,
        device: Device = "auto",
    ) -> "SoftVote":
        """Load checkpoints that vote together; without weights each counts the same.

        Raises:
            ConfigError: if there is not one finite weight above 0 a checkpoint.
            CheckpointError: if one cannot be used, or two have other labels, naming both.
        """
        weights = tuple(weights or [1.0] * len(paths))
        if not paths or len(weights) != len(paths):
            raise ConfigError(
                f"{len(weights)} weights for {len(paths)} checkpoints: give a weight for each, in the same order, or none"
            )
        if bad := [weight for weight in weights if not (math.isfinite(weight) and weight > 0)]:
            raise ConfigError(f"weights of checkpoints: expected numbers above 0, got {bad[0]}")
        members = tuple(CheckpointPredictor.load(path, config, device=device) for path in paths)
        for member in members[1:]:
            _check_same_labels(members[0], member)
        return cls(members, weights)

    @property
    def labels(self) -> LabelSpace:
        """The classes, the same for every member."""
        return self.members[0].labels

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The members' sizes in pixels, each once, ascending."""
        return tuple(sorted({size for member in self.members for size in member.image_sizes}))

    @property
    def batch_size(self) -> int:
        """Faces at a time."""
        return min(member.batch_size for member in self.members)

    def predict(self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray) -> npt.NDArray[np.float32]:
        """Give the weighted mean of the members' class probabilities, float32 [N, K], of these rows of uint8 [M, S, S, 3]."""
        votes = [member.predict(pixels, pixel_rows) for member in self.members]
        return np.average(np.stack(votes), axis=0, weights=self.weights).astype(np.float32)

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Give the weighted mean of the members' class probabilities, float32 [N, K].

        Args:
            pixels: the same N faces at each of `image_sizes`, {S: uint8 [N, S, S, 3]}.
        """
        votes = [member.predict_sizes(pixels) for member in self.members]
        return np.average(np.stack(votes), axis=0, weights=self.weights).astype(np.float32)


def _check_same_labels(first: CheckpointPredictor, other: CheckpointPredictor) -> None:
    if first.labels != other.labels:
        raise CheckpointError(
            f"{other.checkpoint.path}: cannot vote together with {first.checkpoint.path}, whose labels differ\n"
            f"  {first.checkpoint.path} tells {describe_labels(first.labels)}\n"
            f"  {other.checkpoint.path} tells {describe_labels(other.labels)}\n"
            "  give checkpoints that were trained with the same labels section"
        )
