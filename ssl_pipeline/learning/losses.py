"""Losses on fully and partly labeled faces, with hard or soft targets, for either head.

Let S be the attributes known of a face, v a combination of their values, p(v) and q(v) the model's and the target's
probability of v, summed over the classes that agree with v. With ``per: class``, a loss compares p and q over all v;
with ``per: attribute``, over the values of each attribute in S separately, and sums. Unknown attributes therefore have
no effect, and a face without known attributes has a loss of 0.

Shapes: B batch, A attributes, K classes, V values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from ssl_pipeline.config.losses import F1, CrossEntropy, ExpectedNumber, Focal, LossConfig, WeightedLoss, terms_of
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.labels import LabelSpace


class BatchLoss:
    """The configured loss, summed over a batch; divided by the batch's total weight it is the mean.

    Sums over the parts of a split batch (accumulation, several processes) add up to the sum over the batch. F1 is the
    exception: it is computed per part, times the part's weight.
    """

    def __init__(
        self,
        config: LossConfig,
        labels: LabelSpace,
        class_mass: Tensor | None = None,
        attribute_mass: Tensor | None = None,
        *,
        value_numbers: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Check that the loss has what it needs.

        Args:
            config: the loss.
            labels: the label space.
            class_mass: total weight of each class in the training faces, float [K]; for balanced class weights.
            attribute_mass: the same by each attribute's weights, float [A, K]; by default `class_mass` for each.
            value_numbers: per attribute, the number that each value stands for, float [V]; for expected numbers.

        Raises:
            ValueError: if `class_mass` or `value_numbers` is needed and missing.
        """
        self._terms = [(weight, loss) for _, weight, loss in terms_of(config)]
        self._labels = labels
        balanced = any(isinstance(loss, WeightedLoss) and loss.class_weights == "balanced" for _, loss in self._terms)
        if balanced and class_mass is None:
            raise ValueError("balanced class weights need class_mass")
        self._class_mass = class_mass
        if attribute_mass is None and class_mass is not None:
            attribute_mass = class_mass.expand(len(labels.attributes), -1)
        self._attribute_mass = attribute_mass
        self._value_numbers = value_numbers or {}
        for _, loss in self._terms:
            if isinstance(loss, ExpectedNumber) and loss.attribute not in self._value_numbers:
                raise ValueError(f"expected numbers of '{loss.attribute}' need value_numbers")

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
            targets: class probabilities, float [B, K], rows sum to 1; ignored for unknown attributes.
            known: bool [B, A].
            weights: weight of each label, float [B, A], ≥ 0; ignored for unknown attributes.
            numbers: per attribute, each face's number, float [B], NaN if unknown; for expected numbers.

        Returns:
            float [], ≥ 0: the sum over the faces of weight times loss. With ``per: class``, a face's labels are weighed
            by `_sum_over_levels`.
        """
        total = log_probabilities.new_zeros(())
        for term_weight, loss in self._terms:
            match loss:
                case ExpectedNumber():
                    position = self._labels.names.index(loss.attribute)
                    truth = (numbers or {})[loss.attribute]
                    term = self._expected_number(loss, log_probabilities, truth, weights[:, position])
                case CrossEntropy() | Focal() | F1() if loss.per == "class":
                    term = self._sum_over_levels(loss, log_probabilities, targets, known, weights)
                case CrossEntropy() | Focal() | F1():
                    term = self._sum_over_attributes(loss, log_probabilities, targets, known, weights)
                case _:
                    assert_never(loss)
            total = total + term_weight * term
        return total

    def _sum_over_attributes(
        self,
        loss: CrossEntropy | Focal | F1,
        log_probabilities: Tensor,
        targets: Tensor,
        known: Tensor,
        weights: Tensor,
    ) -> Tensor:
        total = log_probabilities.new_zeros(())
        for position, (name, values) in enumerate(self._labels.to_dict().items()):
            value_names = [f"{name}/{values[code]}" for code in self._labels.class_codes[:, position]]
            only = torch.zeros_like(known)
            only[:, position] = known[:, position]
            mass = None if self._attribute_mass is None else self._attribute_mass[position]
            term = self._term(loss, log_probabilities, targets, only, weights[:, position], value_names, mass)
            total = total + loss.attribute_weights.get(name, 1.0) * term
        return total

    def _sum_over_levels(
        self,
        loss: CrossEntropy | Focal | F1,
        log_probabilities: Tensor,
        targets: Tensor,
        known: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Sum a loss over combinations, where a face's labels may differ in weight.

        Let w_1 ≥ w_2 ≥ … be the weights of its known labels: the loss of the k heaviest labels together weighs
        w_k − w_{k+1}. With cross-entropy that is −Σ_k w_k log p(label k | labels before it), so a label never weighs less
        because another one is added.
        """
        weights = torch.where(known, weights, 0.0)
        total, rest = log_probabilities.new_zeros(()), weights.clone()
        for _ in range(known.shape[1]):
            included = known & (rest > 0)
            lightest = torch.where(included, rest, math.inf).amin(dim=1)
            step = torch.where(included.any(dim=1), lightest, 0.0)
            if not bool((step > 0).any()):
                break
            total = total + self._term(
                loss, log_probabilities, targets, included, step, self._labels.class_names, self._class_mass
            )
            rest = torch.where(included, rest - step[:, None], 0.0)
        return total

    def _term(
        self,
        loss: CrossEntropy | Focal | F1,
        log_probabilities: Tensor,
        targets: Tensor,
        known: Tensor,
        weights: Tensor,
        weight_names: Sequence[str],
        class_mass: Tensor | None,
    ) -> Tensor:
        """Sum a loss over the batch, faces weighing float [B]; `weight_names` are the keys in `class_weights`, [K]."""
        weights = weights * known.any(dim=1)
        log_p = self._reduce_unknown(log_probabilities, known, torch.logsumexp)
        q = self._reduce_unknown(targets, known, torch.sum)
        if isinstance(loss, F1):
            if loss.per == "class":  # spread q(v) over its classes as the model does: q(v) · p(c) / p(v)
                q, log_p = q * (log_probabilities - log_p).detach().exp(), log_probabilities
            return f1_loss(log_p.exp(), q, weights) * weights.sum()
        num_merged = self._reduce_unknown(torch.ones_like(q), known, torch.sum)
        q = smooth_labels(q, label_smoothing=loss.label_smoothing, num_values=q.shape[1] / num_merged)
        match loss.class_weights:
            case "balanced":
                assert class_mass is not None
                precise = q.dtype if q.device.type == "mps" else torch.float64  # MPS has no float64
                mass = self._reduce_unknown(class_mass.to(q.device, precise), known, torch.sum)
                q = q * balanced_class_weights(mass, num_merged=num_merged).to(q)
            case dict(by_name):  # merged classes take the mean of their weights
                class_weights = q.new_tensor([by_name.get(name, 1.0) for name in weight_names])
                q = q * self._reduce_unknown(class_weights, known, torch.mean)
        gamma = loss.gamma if isinstance(loss, Focal) else 0.0
        return (weights * focal_cross_entropy(log_p, q / num_merged, gamma=gamma)).sum()

    def _expected_number(
        self, loss: ExpectedNumber, log_probabilities: Tensor, truth: Tensor, weights: Tensor
    ) -> Tensor:
        """Sum w (E − y)² / 2 over the faces with a known number y, with E = Σ_c p(c) · number(value of c)."""
        codes = self._labels.class_codes[:, self._labels.names.index(loss.attribute)]
        expected = log_probabilities.exp() @ self._value_numbers[loss.attribute][codes].to(truth)
        error = torch.where(truth.isfinite(), expected - truth.nan_to_num(), 0.0)
        return (weights * error**2).sum() / 2

    def _reduce_unknown(self, values: Tensor, known: Tensor, reduction: Callable[..., Tensor]) -> Tensor:
        """Merge the classes that differ in unknown attributes only; each class holds its group's value.

        Args:
            values: float [B, K], or [K] for every face.
            known: bool [B, A].
            reduction: `torch.logsumexp`, `torch.sum` or `torch.mean`.

        Returns:
            float [B, K].
        """
        cube = values.view(-1, *self._labels.num_values)
        for axis in range(1, cube.dim()):
            is_known = known[:, axis - 1].view(-1, *[1] * known.shape[1])
            cube = torch.where(is_known, cube, reduction(cube, dim=axis, keepdim=True))
        return cube.flatten(start_dim=1)


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
    # 1 − p by expm1 and clamped: near p = 1 the float32 difference is 0 or negative and its power has no finite slope
    complement = (-torch.expm1(log_probabilities)).clamp_min(torch.finfo(log_probabilities.dtype).eps)
    return -(targets * complement**gamma * log_probabilities).sum(dim=1)


def f1_loss(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Compute 1 − macro F1 with probabilities in place of counts.

    For value v and faces i of weight w: F1_v = 2 Σ w_i q_i(v) p_i(v) / Σ w_i (q_i(v) + p_i(v)), which is
    2TP / (2TP + FP + FN) with TP = Σ w q p. The mean is over the values that occur in the targets.

    Args:
        probabilities: float [B, V].
        targets: float [B, V].
        weights: float [B].

    Returns:
        float [], in [0, 1]; 0 if no face has a weight.
    """
    weighted = targets * weights[:, None]
    positives = weighted.sum(dim=0)
    occurs = positives > 0
    counts = positives + (probabilities * weights[:, None]).sum(dim=0)
    f1 = 2 * (weighted * probabilities).sum(dim=0) / torch.where(occurs, counts, 1.0)
    return torch.where(occurs, 1 - f1, 0.0).sum() / occurs.sum().clamp_min(1)


def smooth_labels(targets: Tensor, *, label_smoothing: float, num_values: int | Tensor) -> Tensor:
    """Mix targets with the uniform distribution over V = `num_values` values (arXiv:1512.00567): (1 − ε) q + ε / V."""
    return (1 - label_smoothing) * targets + label_smoothing / num_values


def balanced_class_weights(mass: Tensor, *, num_merged: int | Tensor = 1) -> Tensor:
    """Compute scikit-learn's ``balanced`` weights N / (V · n_v), V being the number of values that occur.

    Args:
        mass: n_v, float [..., V].
        num_merged: how often each value is repeated in `mass`.

    Returns:
        float [..., V]; 0 for values that do not occur.

    >>> balanced_class_weights(torch.tensor([3.0, 1.0, 0.0]))
    tensor([0.6667, 2.0000, 0.0000])
    """
    occurs = mass > 0
    total = mass.sum(dim=-1, keepdim=True) / num_merged
    num_occurring = occurs.sum(dim=-1, keepdim=True) / num_merged
    return torch.where(occurs, total / (num_occurring * mass.where(occurs, mass.new_ones(()))), 0.0)


def standardized_numbers(
    config: LossConfig, numbers: Mapping[str, RegressionTargets], *, name: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the regression targets of a loss, of faces [N] and of values [V], in standard deviations, by attribute.

    Raises:
        TrainingError: if the training faces have no number for every value.
    """
    face_numbers, value_numbers = {}, {}
    for _, _, loss in terms_of(config):
        if isinstance(loss, ExpectedNumber):
            targets = numbers.get(loss.attribute)
            if targets is None or not np.isfinite(targets.of_value).all():
                raise TrainingError(
                    f"{name}: the loss expected_number needs labeled training faces with a number for every value of "
                    f"'{loss.attribute}'; add such faces or drop the term"
                )
            scale = max(float(np.nanstd(targets.truth)), 1e-6)
            face_numbers[loss.attribute] = torch.from_numpy(targets.truth / scale).float()
            value_numbers[loss.attribute] = torch.from_numpy(targets.of_value / scale).float()
    return face_numbers, value_numbers
