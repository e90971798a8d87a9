"""Agreement on faces that nobody has labeled: what a face is surely taken for, its strongly augmented picture is taught.

FixMatch (Sohn et al., arXiv:2001.07685), attribute by attribute, inside what is known of a face. Shapes: U unlabeled
faces of a step, A attributes, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ssl_pipeline.config.training import FixMatchConfig, TrainingConfig
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.augmentation import Augmentation
from ssl_pipeline.learning.dataset import AugmentedFaces, UnlabeledSet, epoch_batches, load_batches

_ORDER_STREAM, _WEAK_STREAM, _STRONG_STREAM = 101, 102, 103
"""Added to the run's seed, so that no draw is one of the labeled faces'."""


class UnlabeledBatch(NamedTuple):
    """The unlabeled faces of a step."""

    weak: Tensor
    """uint8 [U, 3, S, S]."""
    strong: Tensor
    """uint8 [U, 3, S, S], the same faces."""
    faces: Tensor
    """int [U], their numbers."""


class FixMatch:
    """The unlabeled faces of a training, in batches, and what they teach."""

    def __init__(
        self, config: FixMatchConfig, training: TrainingConfig, faces: UnlabeledSet, labels: LabelSpace
    ) -> None:
        self._config, self._training, self._faces = config, training, faces
        self._candidates = torch.from_numpy(labels.candidates(faces.codes))
        codes = torch.from_numpy(labels.class_codes)
        self._membership = [one_hot(codes[:, position]).float() for position in range(codes.shape[1])]
        """Per attribute, float [K, V], 1 where a class has a value."""

    def batches(
        self, sizes: Sequence[int], *, seed: int, epoch: int, start: int, shard_indices: Callable[[IntArray], IntArray]
    ) -> Iterator[UnlabeledBatch]:
        """Yield the batches of an epoch, from `start` on: `faces_per_labeled` times as many faces as the step's labeled.

        Faces come in a random order without repeats until all have been seen, pass after pass.
        """
        times = self._config.faces_per_labeled
        drawn = self._draw(sum(sizes) * times, seed=seed, epoch=epoch)
        batches = np.split(drawn, np.cumsum([size * times for size in sizes])[:-1])

        def beside_labeled(places: IntArray) -> IntArray:
            """A process's part: the faces that go with its part of the labeled ones."""
            return places.reshape(-1, times)[shard_indices(np.arange(len(places) // times))].reshape(-1)

        kinds: tuple[tuple[Augmentation, int], ...] = (("weak", _WEAK_STREAM), ("strong", _STRONG_STREAM))
        loaders = [
            load_batches(
                AugmentedFaces(self._faces, kind, seed=seed + stream, randaugment=self._training.randaugment),
                batches,
                epoch=epoch,
                num_workers=self._training.num_workers,
                start=start,
                shard_indices=beside_labeled,
            )
            for kind, stream in kinds
        ]
        for (weak, faces), (strong, _) in zip(*loaders, strict=True):
            yield UnlabeledBatch(weak, strong, faces)

    def _draw(self, number: int, *, seed: int, epoch: int) -> IntArray:
        num_faces = len(self._faces.pixel_rows)
        uniform, passes = np.full(num_faces, 1 / num_faces), -(-number // num_faces)
        orders = [
            epoch_batches(uniform, batch_size=num_faces, seed=seed + _ORDER_STREAM, epoch=epoch * 10_000 + turn)[0]
            for turn in range(passes)
        ]
        return np.concatenate(orders)[:number]

    def pseudo_targets(self, log_probabilities: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Say what the faces teach, given what the network takes their weakly augmented pictures for.

        Args:
            log_probabilities: of the weak pictures, float [U, K].
            faces: their numbers, int [U].

        Returns:
            Targets, float32 [U, K], uniform over the classes with the chosen values, and bool [U, A], of which
            attributes the chosen value has at least `confidence_threshold`.
        """
        candidates = self._candidates[faces].to(log_probabilities.device)
        posterior = log_probabilities.detach().float().exp() * candidates
        posterior = posterior / posterior.sum(dim=1, keepdim=True).clamp_min(1e-12)
        sure, fits = [], torch.ones_like(posterior, dtype=torch.bool)
        for membership in self._membership:
            membership = membership.to(posterior)
            confidence, value = (posterior @ membership).max(dim=1)
            is_sure = confidence >= self._config.confidence_threshold
            fits &= membership.T[value].bool() | ~is_sure[:, None]
            sure.append(is_sure)
        targets = fits.float()
        return targets / targets.sum(dim=1, keepdim=True), torch.stack(sure, dim=1)
