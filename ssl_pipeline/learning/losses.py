"""Losses on what is known of a face: all attributes, some, none, surely or softly; for either head.

Every loss is taken over groups of classes. Let S be the attributes that are known of a face, v a combination of
their values, and p(v), q(v) what the model and the target give it, summed over all classes that agree with it. With
``per: class`` a loss compares p and q over S as a whole; with ``per: attribute``, over each attribute of S by itself,
and sums over them. So a partly known face teaches what is known of it and nothing else, one of which nothing is known
teaches nothing, and a head with one softmax an attribute is treated as the product of them.

Shapes: B batch, A attributes, K classes, V groups of classes, n faces of the batch.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ssl_pipeline.config.losses import F1, CrossEntropy, ExpectedNumber, Focal, LossConfig, WeightedLoss, terms_of
from ssl_pipeline.labels import LabelSpace


@dataclass(frozen=True)
class Grouping:
    """The classes, grouped by their values of some attributes."""

    names: tuple[str, ...]
    """What the groups are called, [V]."""
    group_of_class: Tensor
    """int [K], in 0 … V - 1."""

    @classmethod
    def by(cls, positions: tuple[int, ...], labels: LabelSpace) -> "Grouping":
        """Group by the attributes at these positions; the last varies fastest, as in class ids."""
        codes = torch.from_numpy(labels.class_codes)
        groups = torch.zeros(labels.num_classes, dtype=torch.int64)
        for position in positions:
            groups = groups * labels.num_values[position] + codes[:, position]
        values = (labels.attributes[position].values for position in positions)
        names = tuple("/".join(combination) for combination in itertools.product(*values))
        return cls(names, groups)

    @cached_property
    def membership(self) -> Tensor:
        """float64 [K, V], 1 where a class belongs to a group."""
        return one_hot(self.group_of_class, len(self.names)).double()

    def log_sums(self, log_probabilities: Tensor) -> Tensor:
        """Add up [n, K] within the groups, in log space, so that tiny probabilities stay exact; [n, V]."""
        if len(self.names) == len(self.group_of_class):
            return log_probabilities
        groups = self.group_of_class.to(log_probabilities.device)
        sums = [log_probabilities[:, groups == group].logsumexp(dim=1) for group in range(len(self.names))]
        return torch.stack(sums, dim=1)

    def sums(self, values: Tensor) -> Tensor:
        """Add up [n, K] or [K] within the groups; [n, V] or [V]."""
        return values @ self.membership.to(values)


class BatchLoss:
    """The loss that a config asks for, added up over a batch; divided by the batch's weight it is the mean.

    A sum, because then the parts of a batch that is split (accumulation, several processes) add up to its own. F1 is
    no sum over faces: it is that of the faces that pass together, so of each part by itself, times the part's weight.
    """

    def __init__(
        self,
        config: LossConfig,
        labels: LabelSpace,
        *,
        class_mass: Tensor | None = None,
        value_numbers: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Set up.

        Args:
            config: which loss.
            labels: the label space.
            class_mass: how much of each class there is in the training faces, float [K], for balanced weights.
            value_numbers: by the attribute's name, the number that each of its values stands for, float [V], for
                expected numbers.

        Raises:
            ValueError: if balanced weights are asked for without `class_mass`, or expected numbers without theirs.
        """
        self._terms = [(weight, loss) for _, weight, loss in terms_of(config)]
        self._labels = labels
        balanced = any(isinstance(loss, WeightedLoss) and loss.class_weights == "balanced" for _, loss in self._terms)
        if balanced and class_mass is None:
            raise ValueError("balanced class weights need class_mass")
        self._class_mass = class_mass
        self._value_numbers = value_numbers or {}
        for _, loss in self._terms:
            if isinstance(loss, ExpectedNumber) and loss.attribute not in self._value_numbers:
                raise ValueError(f"expected numbers of '{loss.attribute}' need value_numbers")
        self._groupings: dict[tuple[int, ...], Grouping] = {}

    def __call__(
        self,
        log_probabilities: Tensor,
        targets: Tensor,
        known: Tensor,
        weights: Tensor,
        numbers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            log_probabilities: the model's, float [B, K].
            targets: class probabilities, float [B, K], rows sum to 1. What they say of unknown attributes is ignored.
            known: bool [B, A].
            weights: how much each face counts, float [B], ≥ 0.
            numbers: by the attribute's name, the faces' own numbers, float [B], NaN where unknown; for expected numbers.

        Returns:
            float [], ≥ 0: the sum over the faces of weight times loss.
        """
        total = log_probabilities.new_zeros(())
        for share, loss in self._terms:
            match loss:
                case CrossEntropy() | Focal():
                    term = self._sum_of_faces(loss, log_probabilities, targets, known, weights)
                case F1():
                    term = self._f1(loss, log_probabilities, targets, known, weights)
                case ExpectedNumber():
                    truth = (numbers or {})[loss.attribute]
                    term = self._expected_number(loss, log_probabilities, truth, weights)
                case _:
                    assert_never(loss)
            total = total + share * term
        return total

    def _sum_of_faces(
        self, loss: CrossEntropy | Focal, log_probabilities: Tensor, targets: Tensor, known: Tensor, weights: Tensor
    ) -> Tensor:
        gamma = loss.gamma if isinstance(loss, Focal) else 0.0
        total = log_probabilities.new_zeros(())
        for attribute_weight, positions, rows in self._units(loss, known):
            grouping = self._grouping(positions)
            log_p, q = grouping.log_sums(log_probabilities[rows]), grouping.sums(targets[rows])
            q = smoothed(q, label_smoothing=loss.label_smoothing) * self._value_weights(loss, positions, like=q)
            total = total + attribute_weight * (weights[rows] * focal_cross_entropy(log_p, q, gamma=gamma)).sum()
        return total

    def _f1(self, loss: F1, log_probabilities: Tensor, targets: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        if loss.per == "class":
            some = known.any(dim=1).nonzero().squeeze(1)
            completed = self._completed(log_probabilities[some].detach(), targets[some], known[some])
            return f1_loss(log_probabilities[some].exp(), completed, weights[some]) * weights[some].sum()
        total = log_probabilities.new_zeros(())
        for attribute_weight, positions, rows in self._units(loss, known):
            grouping = self._grouping(positions)
            p, q = grouping.log_sums(log_probabilities[rows]).exp(), grouping.sums(targets[rows])
            total = total + attribute_weight * f1_loss(p, q, weights[rows]) * weights[rows].sum()
        return total

    def _expected_number(
        self, loss: ExpectedNumber, log_probabilities: Tensor, truth: Tensor, weights: Tensor
    ) -> Tensor:
        """Add up w (E − y)² / 2 over the faces whose number y is known, E = Σ_v p(v) · number(v), v the values."""
        rows = truth.isfinite().nonzero().squeeze(1)
        grouping = self._grouping((self._labels.names.index(loss.attribute),))
        expected = grouping.log_sums(log_probabilities[rows]).exp() @ self._value_numbers[loss.attribute].to(truth)
        return (weights[rows] * (expected - truth[rows]) ** 2).sum() / 2

    def _completed(self, log_probabilities: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Spread each target over the classes as the model would, inside what is known: q(v) · p(c) / p(v), [n, K]."""
        completed = targets.clone()
        for positions, rows in _patterns(known):
            if len(positions) == known.shape[1]:
                continue
            grouping = self._grouping(positions)
            groups = grouping.group_of_class.to(rows.device)
            inside = (log_probabilities[rows] - grouping.log_sums(log_probabilities[rows])[:, groups]).exp()
            completed[rows] = grouping.sums(targets[rows])[:, groups] * inside
        return completed

    def _units(self, loss: CrossEntropy | Focal | F1, known: Tensor) -> Iterator[tuple[float, tuple[int, ...], Tensor]]:
        """Give (weight, attributes taken together, faces that know them) of what the loss is summed over."""
        if loss.per == "class":
            yield from ((1.0, positions, rows) for positions, rows in _patterns(known) if positions)
            return
        for position, name in enumerate(self._labels.names):
            rows = known[:, position].nonzero().squeeze(1)
            if len(rows):
                yield loss.attribute_weights.get(name, 1.0), (position,), rows

    def _grouping(self, positions: tuple[int, ...]) -> Grouping:
        if positions not in self._groupings:
            self._groupings[positions] = Grouping.by(positions, self._labels)
        return self._groupings[positions]

    def _value_weights(self, loss: WeightedLoss, positions: tuple[int, ...], *, like: Tensor) -> Tensor:
        """Give the weight of each group, [V] (or 1); a group of several classes with weights by name takes their mean."""
        grouping = self._grouping(positions)
        match loss.class_weights:
            case None:
                return like.new_ones(())
            case "balanced":
                assert self._class_mass is not None
                return balanced_weights(grouping.sums(self._class_mass.double())).to(like)
            case by_name if loss.per == "attribute":
                name = self._labels.names[positions[0]]
                return like.new_tensor([by_name.get(f"{name}/{value}", 1.0) for value in grouping.names])
            case by_name:
                of_class = torch.tensor([by_name.get(name, 1.0) for name in self._labels.class_names]).double()
                return (grouping.sums(of_class) / grouping.membership.sum(dim=0)).to(like)


def focal_cross_entropy(log_probabilities: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """Compute −Σ_v q(v) (1 − p(v))^γ log p(v) (Lin et al., arXiv:1708.02002, eq. 5); γ = 0 is cross-entropy.

    Args:
        log_probabilities: float [n, V].
        targets: float [n, V], ≥ 0; weights of values, the paper's α, are multiplied into them.
        gamma: ≥ 0.

    Returns:
        float [n], ≥ 0.
    """
    if gamma == 0:
        return -(targets * log_probabilities).sum(dim=1)
    # 1 − p through expm1: near p = 1 the difference of float32 numbers would be zero or worse, its power's slope infinite
    doubt = (-torch.expm1(log_probabilities)).clamp_min(torch.finfo(log_probabilities.dtype).eps)
    return -(targets * doubt**gamma * log_probabilities).sum(dim=1)


def f1_loss(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Compute 1 − macro F1 with probabilities in place of counts.

    Of value v, with faces i of weight w: F1_v = 2 Σ w_i q_i(v) p_i(v) / Σ w_i (q_i(v) + p_i(v)), which is 2TP / (2TP +
    FP + FN) with TP = Σ w q p. The mean runs over the values that occur among the targets.

    Args:
        probabilities: float [n, V].
        targets: float [n, V].
        weights: float [n].

    Returns:
        float [], in [0, 1]; 0 if no face has a weight.
    """
    weighted = targets * weights[:, None]
    positives = weighted.sum(dim=0)
    occurs = positives > 0
    if not occurs.any():
        return probabilities.new_zeros(())
    true_positives = (weighted * probabilities).sum(dim=0)
    f1 = 2 * true_positives[occurs] / (positives + (probabilities * weights[:, None]).sum(dim=0))[occurs]
    return 1 - f1.mean()


def smoothed(targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Mix targets [n, V] with the uniform distribution (arXiv:1512.00567): (1 − ε) q + ε / V."""
    return (1 - label_smoothing) * targets + label_smoothing / targets.shape[1]


def balanced_weights(mass: Tensor) -> Tensor:
    """Weigh values inversely to their mass: N / (V · n_v), V of those that occur, as scikit-learn's ``balanced``.

    Args:
        mass: float [V], n_v.

    Returns:
        float [V]; 0 where there is none.

    >>> balanced_weights(torch.tensor([3.0, 1.0, 0.0]))
    tensor([0.6667, 2.0000, 0.0000])
    """
    occurs = mass > 0
    return torch.where(occurs, mass.sum() / (occurs.sum() * mass.where(occurs, mass.new_ones(()))), 0.0)


def _patterns(known: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Give, for each set of known attributes that occurs, their positions and the faces of that set, int [n]."""
    for pattern in itertools.product((False, True), repeat=known.shape[1]):
        rows = (known == torch.tensor(pattern, device=known.device)).all(dim=1).nonzero().squeeze(1)
        if len(rows):
            yield tuple(position for position, is_known in enumerate(pattern) if is_known), rows
