"""Agreement with the pool: predictions on weak views, or a teacher's, are targets for strong views (FixMatch, arXiv:2001.07685).

Decided per attribute, within the values known of a face. Shapes: U unlabeled faces of a step, A attributes, K classes,
V values, S image side.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ssl_pipeline.config.losses import CrossEntropy
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.learning.augmentation import Augmentation
from ssl_pipeline.learning.batches import FaceReader
from ssl_pipeline.learning.dataset import UnlabeledSet, epoch_batches
from ssl_pipeline.learning.losses import BatchLoss
from ssl_pipeline.runs.profile import part_of_stage

_ORDER_STREAM, _WEAK_STREAM, _STRONG_STREAM = 101, 102, 103
"""Added to the seed, so that the random numbers differ from those of the labeled faces."""


class UnlabeledBatch(NamedTuple):
    """The unlabeled faces of a step, in two views."""

    strong: Tensor
    """uint8 [U, 3, S, S]."""
    weak: Tensor | None
    """uint8 [U, 3, S, S], the same faces in the same order; None if the targets are the teacher's alone."""
    faces: Tensor
    """int [U], their indices in the unlabeled set."""


class PoolTargets(NamedTuple):
    """Targets for the strong views of a step."""

    probabilities: Tensor
    """float32 [U, K], rows sum to 1."""
    weights: Tensor
    """float32 [U, A], of each attribute's target; 0 leaves it out."""

    def of(self, faces: Tensor) -> "PoolTargets":
        """Select faces by their positions in the step."""
        return PoolTargets(self.probabilities[faces], self.weights[faces])


class FixMatch:
    """Batches of unlabeled faces, their targets, and the loss against them.

    The running means that some settings need are over all processes' faces and part of the training state.
    """

    def __init__(
        self,
        role: RoleConfig,
        faces: UnlabeledSet,
        labels: LabelSpace,
        *,
        class_mass: Tensor,
        device: torch.device,
        sum_over_processes: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> None:
        """Prepare for a pool. Raises TrainingError if the settings need a teacher's predictions, and the pool has none.

        Args:
            role: its training has `fixmatch`.
            faces: the pool.
            labels: the label space.
            class_mass: total weight of each class in the training faces, float [K]; the prior `training`.
            device: of the batches.
            sum_over_processes: sums a tensor over the training processes.
        """
        assert role.training.fixmatch is not None
        self._config, self._faces, self._labels = role.training.fixmatch, faces, labels
        self._sum_over_processes = sum_over_processes
        self._is_known = torch.from_numpy(faces.codes >= 0)
        left_out = torch.zeros_like(self._is_known) if faces.left_out is None else torch.from_numpy(faces.left_out)
        self._is_guessed = ~self._is_known & ~left_out
        self._reader = FaceReader(faces, device)
        self._strong = Augmentation("strong", role.training.randaugment, role.model.input_size)
        self._weak = Augmentation("weak", input_size=role.model.input_size) if self.predicts else None
        self._teacher = None if faces.teacher is None else torch.from_numpy(faces.teacher)
        if self._config.teacher_share and self._teacher is None:
            raise TrainingError("fixmatch.teacher_share: no predictions of a teacher are given for the pool")
        self._candidates = torch.from_numpy(labels.candidates(faces.codes))
        codes = torch.from_numpy(labels.class_codes)
        self._membership = [one_hot(codes[:, position]).float() for position in range(codes.shape[1])]
        """Per attribute, float [K, V], 1 where a class has a value."""
        self._prior = [self._prior_of(position, class_mass) for position in range(codes.shape[1])]
        self._means = [_RunningMeans(self._config.momentum) for _ in labels.names]
        self._loss = BatchLoss(CrossEntropy(type="cross_entropy", per="attribute"), labels)

    def batches(
        self, sizes: Sequence[int], *, seed: int, epoch: int, start: int, shard_indices: Callable[[IntArray], IntArray]
    ) -> Iterator[UnlabeledBatch]:
        """Yield an epoch's batches from step `start`, each with `faces_per_labeled` faces per labeled face.

        Faces are in random order; without `UnlabeledSet.draws`, none repeats before all have been used.

        Args:
            sizes: number of labeled faces of each batch.
            seed: the run's.
            epoch: from 0.
            start: the first batch to yield.
            shard_indices: selects this process's part of the positions of a batch.
        """
        ends = np.rint(np.cumsum(sizes) * self._config.faces_per_labeled).astype(np.int64)
        batches = np.split(self._sample(int(ends[-1]), seed=seed, epoch=epoch), ends[:-1])
        for batch in self._reader.batches(batches, start=start, shard_indices=shard_indices):
            with part_of_stage("augment"):
                strong, weak = (
                    augment(batch.pixels, seed=seed + stream, epoch=epoch, positions=batch.positions)
                    if augment is not None
                    else None
                    for augment, stream in ((self._strong, _STRONG_STREAM), (self._weak, _WEAK_STREAM))
                )
            assert strong is not None
            yield UnlabeledBatch(strong, weak, batch.faces)

    def _sample(self, num_samples: int, *, seed: int, epoch: int) -> IntArray:
        num_faces, draws = len(self._faces.pixel_rows), self._faces.draws
        weights = np.ones(num_faces) if draws is None else draws
        weights, num_passes = weights / weights.sum(), -(-num_samples // num_faces)
        orders = [
            epoch_batches(weights, batch_size=num_faces, seed=seed + _ORDER_STREAM, epoch=epoch * 10_000 + index)[0]
            for index in range(num_passes)
        ]
        return np.concatenate(orders)[:num_samples]

    @property
    def predicts(self) -> bool:
        """Whether the targets need predictions on weak views; not if they are the teacher's, or no value is to be guessed."""
        return self._config.teacher_share < 1 and bool(self._is_guessed.any())

    def targets(self, log_probabilities: Tensor | None, faces: Tensor, *, device: torch.device) -> PoolTargets:
        """Turn predictions on the weak views of a step, and the teacher's, into targets, and update the running means.

        Args:
            log_probabilities: predictions on the weak views, float [U, K], without a graph; None without weak views.
            faces: indices in the unlabeled set, int [U].
            device: of the targets.
        """
        config, q = self._config, torch.ones(len(faces), self._labels.num_classes, device=device)
        if log_probabilities is not None:
            q = log_probabilities.float().exp()
        if self._teacher is not None and config.teacher_share:
            q = (1 - config.teacher_share) * q + config.teacher_share * self._teacher[faces].to(device)
        q = q * self._candidates[faces].to(device)
        q = q / q.sum(dim=1, keepdim=True).clamp_min(1e-12)
        if config.align is not None:
            q = self._aligned(q, faces)
        weights, kept = [], torch.ones_like(q)
        for position, attribute in enumerate(self._labels.attributes):
            is_known, is_guessed = (mask[faces, position].to(device) for mask in (self._is_known, self._is_guessed))
            membership = self._membership[position].to(q)
            marginal = q @ membership
            confidence, value = marginal.max(dim=1)
            if config.threshold != "fixed":
                mean = {"confidence": confidence[:, None], "square": confidence[:, None] ** 2, "marginal": marginal}
                self._update(position, mean, is_guessed)
            weight = self._weights(position, confidence, value) * config.attribute_weights.get(attribute.name, 1.0)
            weights.append(torch.where(is_known, 1.0, weight * is_guessed))
            kept = kept * membership.T[value]
        # hard: the class of the most probable values; a class-wise maximum might contradict an attribute's own
        return PoolTargets(kept if config.targets == "hard" else q, torch.stack(weights, dim=1))

    def loss(self, log_probabilities: Tensor, targets: PoolTargets) -> Tensor:
        """Sum the weighted cross-entropy of strong views [U, K] over faces and attributes."""
        loss = self._loss(log_probabilities, targets.probabilities, targets.weights > 0, targets.weights)
        return self._config.weight * loss

    def _aligned(self, q: Tensor, faces: Tensor) -> Tensor:
        """Multiply by (prior / running mean)^exponent per attribute that is guessed; the others stay as they are."""
        assert self._config.align is not None
        factors = torch.ones_like(q)
        for position, membership in enumerate(self._membership):
            is_guessed = self._is_guessed[faces, position].to(q.device)
            self._update(position, {"before": q @ membership.to(q)}, is_guessed)
            mean = self._means[position].get("before")
            if mean is not None:
                ratio = (self._prior[position].to(q) / mean.clamp_min(1e-6)) ** self._config.align.exponent
                factors = torch.where(is_guessed[:, None], factors * (membership.to(q) @ ratio), factors)
        q = q * factors
        return q / q.sum(dim=1, keepdim=True).clamp_min(1e-12)

    def _weights(self, position: int, confidence: Tensor, value: Tensor) -> Tensor:
        """Weigh each face's most probable value of an attribute, float [U] in [0, 1]."""
        means = self._means[position]
        marginal, mean, square = (means.get(name) for name in ("marginal", "confidence", "square"))
        match self._config.threshold:
            case "fixed":
                return (confidence >= self._config.threshold_of(self._labels.names[position])).float()
            case _ if marginal is None or mean is None or square is None:  # so far, every face's value was known
                return torch.zeros_like(confidence)
            case "self_adaptive":
                return (confidence >= (mean * marginal / marginal.max())[value]).float()
            case "gaussian_weights":
                variance = (square - mean**2).clamp_min(1e-12)
                return torch.exp(-((mean - confidence).clamp_min(0) ** 2) / (2 * variance))

    def _update(self, position: int, values: dict[str, Tensor], is_guessed: Tensor) -> None:
        """Update running means by the faces whose value is neither known nor left out."""
        guessed = is_guessed.float()[:, None]
        count = self._sum_over_processes(guessed.sum())
        if count == 0:
            return
        for name, tensor in values.items():
            self._means[position].update(name, self._sum_over_processes((tensor * guessed).sum(dim=0)) / count)

    def _prior_of(self, position: int, class_mass: Tensor) -> Tensor:
        """Return the expected shares of an attribute's values, float [V]."""
        attribute, align = self._labels.attributes[position], self._config.align
        shares = class_mass.float().cpu() @ self._membership[position]
        if align is not None and align.prior == "flat":
            shares = torch.ones_like(shares)
        elif align is not None and not isinstance(align.prior, str) and attribute.name in align.prior:
            shares = torch.tensor([align.prior[attribute.name][value] for value in attribute.values])
        return shares / shares.sum()

    def state_dict(self) -> list[dict[str, Tensor]]:
        """Return the running means of each attribute."""
        return [{name: mean.cpu() for name, mean in means.sums.items()} for means in self._means]

    def load_state_dict(self, state: list[dict[str, Tensor]]) -> None:
        """Restore a state."""
        for means, sums in zip(self._means, state, strict=True):
            means.sums = dict(sums)


class _RunningMeans:
    """Exponential means by name, without a bias to the start (as Adam's, arXiv:1412.6980, algorithm 1)."""

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self.sums: dict[str, Tensor] = {}
        """Σ_t (1 − m) m^(T − t) (x_t, 1), float [n + 1]; the last entry is the total weight."""

    def update(self, name: str, value: Tensor) -> None:
        value = torch.cat([value, value.new_ones(1)])
        before = self.sums.get(name)
        before = torch.zeros_like(value) if before is None else before.to(value)
        self.sums[name] = self._momentum * before + (1 - self._momentum) * value

    def get(self, name: str) -> Tensor | None:
        sums = self.sums.get(name)
        return None if sums is None else sums[:-1] / sums[-1]
