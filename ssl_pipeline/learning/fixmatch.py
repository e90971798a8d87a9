"""FixMatch: confident predictions on weak views are targets for strong views (Sohn et al., arXiv:2001.07685).

Decided per attribute, within the labels known of a face. Shapes: U unlabeled faces of a step, A attributes, K classes,
V values, S image side.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ssl_pipeline.config.training import FixMatchConfig, RoleConfig
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.augmentation import Augmentation
from ssl_pipeline.learning.dataset import AugmentedFaces, UnlabeledSet, epoch_batches, load_batches

_ORDER_STREAM, _WEAK_STREAM, _STRONG_STREAM = 101, 102, 103
"""Added to the seed, so that the random numbers differ from those of the labeled faces."""


class UnlabeledBatch(NamedTuple):
    """The unlabeled faces of a step, in two views."""

    weak: Tensor
    """uint8 [U, 3, S, S]."""
    strong: Tensor
    """uint8 [U, 3, S, S], the same faces in the same order."""
    faces: Tensor
    """int [U], their indices in the unlabeled set."""


class FixMatch:
    """Batches of unlabeled faces and their pseudo-targets."""

    def __init__(self, config: FixMatchConfig, role: RoleConfig, faces: UnlabeledSet, labels: LabelSpace) -> None:
        self._config, self._role, self._faces = config, role, faces
        self._candidates = torch.from_numpy(labels.candidates(faces.codes))
        codes = torch.from_numpy(labels.class_codes)
        self._membership = [one_hot(codes[:, position]).float() for position in range(codes.shape[1])]
        """Per attribute, float [K, V], 1 where a class has a value."""

    def batches(
        self, sizes: Sequence[int], *, seed: int, epoch: int, start: int, shard_indices: Callable[[IntArray], IntArray]
    ) -> Iterator[UnlabeledBatch]:
        """Yield an epoch's batches from step `start`, each with `faces_per_labeled` faces per labeled face.

        Faces are in random order; none repeats before all have been used.

        Args:
            sizes: number of labeled faces of each batch.
            seed: the run's.
            epoch: from 0.
            start: the first batch to yield.
            shard_indices: selects this process's part of the labeled positions of a batch.
        """
        per_labeled, training = self._config.faces_per_labeled, self._role.training
        faces = self._sample(sum(sizes) * per_labeled, seed=seed, epoch=epoch)
        batches = np.split(faces, np.cumsum([size * per_labeled for size in sizes])[:-1])

        def shard_with_labeled(positions: IntArray) -> IntArray:
            labeled = shard_indices(np.arange(len(positions) // per_labeled))
            return positions.reshape(-1, per_labeled)[labeled].reshape(-1)

        kinds: tuple[tuple[Augmentation, int], ...] = (("weak", _WEAK_STREAM), ("strong", _STRONG_STREAM))
        loaders = [
            load_batches(
                AugmentedFaces(
                    self._faces,
                    kind,
                    seed=seed + stream,
                    randaugment=training.randaugment,
                    input_size=self._role.model.input_size,
                ),
                batches,
                epoch=epoch,
                num_workers=training.num_workers,
                start=start,
                shard_indices=shard_with_labeled,
            )
            for kind, stream in kinds
        ]
        for (weak, indices), (strong, _) in zip(*loaders, strict=True):
            yield UnlabeledBatch(weak, strong, indices)

    def _sample(self, num_samples: int, *, seed: int, epoch: int) -> IntArray:
        num_faces = len(self._faces.pixel_rows)
        uniform, num_passes = np.full(num_faces, 1 / num_faces), -(-num_samples // num_faces)
        orders = [
            epoch_batches(uniform, batch_size=num_faces, seed=seed + _ORDER_STREAM, epoch=epoch * 10_000 + index)[0]
            for index in range(num_passes)
        ]
        return np.concatenate(orders)[:num_samples]

    def pseudo_targets(self, log_probabilities: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Turn predictions on weak views into targets for strong views.

        Args:
            log_probabilities: predictions on the weak views, float [U, K].
            faces: indices in the unlabeled set, int [U].

        Returns:
            Targets, float32 [U, K], uniform over the classes that agree with the confident values; and bool [U, A],
            whether an attribute's most probable value reaches `confidence_threshold`.
        """
        candidates = self._candidates[faces].to(log_probabilities.device)
        posterior = log_probabilities.detach().float().exp() * candidates
        posterior = posterior / posterior.sum(dim=1, keepdim=True).clamp_min(1e-12)
        confident, agrees = [], torch.ones_like(posterior, dtype=torch.bool)
        for class_membership in self._membership:
            membership = class_membership.to(posterior)
            confidence, value = (posterior @ membership).max(dim=1)
            is_confident = confidence >= self._config.confidence_threshold
            agrees &= membership.T[value].bool() | ~is_confident[:, None]
            confident.append(is_confident)
        targets = agrees.float()
        return targets / targets.sum(dim=1, keepdim=True), torch.stack(confident, dim=1)
