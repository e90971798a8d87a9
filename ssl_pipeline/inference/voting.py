"""Soft voting: weighted mean of the class probabilities of several checkpoints, each at its own image size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_pipeline.config.run import Device, PredictionConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint, describe_labels, warn_if_unfinished
from ssl_pipeline.learning.predict import CheckpointPredictor


@dataclass(frozen=True)
class SoftVote:
    """Ensemble of models with the same labels: p(c | x) = Σ_m w_m · p_m(c | x) / Σ_m w_m.

    Attributes:
        members: at least one.
        weights: w_m > 0, one per member.
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
        """Load checkpoints; without weights, all count equally.

        Raises:
            ConfigError: unless there is one finite weight above 0 per checkpoint.
            CheckpointError: if one cannot be used, or if the labels of two differ, naming both.
        """
        weights = tuple(weights or [1.0] * len(paths))
        if not paths or len(weights) != len(paths):
            raise ConfigError(
                f"{len(weights)} weights for {len(paths)} checkpoints: give one weight per checkpoint, in the same order, or none"
            )
        if bad := [weight for weight in weights if not (math.isfinite(weight) and weight > 0)]:
            raise ConfigError(f"weights of checkpoints: expected numbers above 0, got {bad[0]}")
        for path in paths:
            warn_if_unfinished(path)
        members = tuple(CheckpointPredictor.load(path, config, device=device) for path in paths)
        for member in members[1:]:
            _check_same_labels(members[0], member)
        return cls(members, weights)

    @property
    def labels(self) -> LabelSpace:
        """The classes, equal for all members."""
        return self.members[0].labels

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Distinct image sizes of the members in pixels, ascending."""
        return tuple(sorted({size for member in self.members for size in member.image_sizes}))

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The members' models."""
        return tuple(member.checkpoint for member in self.members)

    @property
    def batch_size(self) -> int:
        """Smallest batch size of the members."""
        return min(member.batch_size for member in self.members)

    def predict(self, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray) -> npt.NDArray[np.float32]:
        """Return the mean class probabilities, float32 [N, K], of these N rows of uint8 [M, S, S, 3]."""
        return self._mean([member.predict(pixels, pixel_rows) for member in self.members])

    def predict_sizes(self, pixels: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return the mean class probabilities, float32 [N, K].

        Args:
            pixels: the same N faces at each of `image_sizes`, {S: uint8 [N, S, S, 3]}.
        """
        return self._mean([member.predict_sizes(pixels) for member in self.members])

    def _mean(self, probabilities: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return np.average(np.stack(probabilities), axis=0, weights=self.weights).astype(np.float32)


def _check_same_labels(first: CheckpointPredictor, other: CheckpointPredictor) -> None:
    if first.labels != other.labels:
        raise CheckpointError(
            f"{other.checkpoint.path}: cannot vote together with {first.checkpoint.path}, because their labels differ\n"
            f"  {first.checkpoint.path} predicts {describe_labels(first.labels)}\n"
            f"  {other.checkpoint.path} predicts {describe_labels(other.labels)}\n"
            "  use checkpoints that were trained with the same labels section"
        )
