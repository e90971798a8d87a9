"""MixUp, CutMix and vertical halves: batches whose faces and labels are mixed in pairs.

Shapes: B batch, H×W pixels.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from ssl_pipeline.config.training import CutMix, Mixing, MixUp, VerticalHalves


class MixedBatch(NamedTuple):
    """A mixed batch."""

    pixels: Tensor
    """uint8 [B, 3, H, W]."""
    partners: Tensor
    """int [B], the position in the batch of the face that was mixed in."""
    label_weight: float
    """Weight λ of each face's own label, in [0, 1]; its partner's label has 1 − λ."""


def mix(pixels: Tensor, config: Mixing) -> MixedBatch:
    """Mix each face x of a batch with a partner x', a random permutation of the batch.

    With λ sampled from Beta(α, α) once per batch:

    - `mixup` (arXiv:1710.09412): λ x + (1 − λ) x', rounded to integers;
    - `cutmix` (arXiv:1905.04899): a rectangle with sides √(1 − λ) around a uniform center is pasted from x' and clipped
      at the border; λ is then recomputed from the number of pasted pixels;
    - `vertical_halves`: the right half is pasted from x'. Both halves of a face show its age.

    A batch is mixed with the config's probability, otherwise returned unchanged with λ = 1.
    """
    num_faces, _, height, width = pixels.shape
    if float(torch.rand(())) >= config.probability:
        return MixedBatch(pixels, torch.arange(num_faces), 1.0)
    partners = torch.randperm(num_faces)
    match config:
        case MixUp(alpha=alpha):
            weight = float(torch.distributions.Beta(alpha, alpha).sample())
            mixed = weight * pixels.float() + (1 - weight) * pixels[partners].float()
            return MixedBatch(mixed.round().to(torch.uint8), partners, weight)
        case CutMix(alpha=alpha):
            weight = float(torch.distributions.Beta(alpha, alpha).sample())
            half = (1 - weight) ** 0.5 / 2
            center_y, center_x = torch.rand(2).tolist()
            top, bottom = (round(height * min(max(y, 0.0), 1.0)) for y in (center_y - half, center_y + half))
            left, right = (round(width * min(max(x, 0.0), 1.0)) for x in (center_x - half, center_x + half))
            return _paste(pixels, partners, top, bottom, left, right)
        case VerticalHalves():
            return _paste(pixels, partners, 0, height, width // 2, width)
        case _:
            assert_never(config)


def _paste(pixels: Tensor, partners: Tensor, top: int, bottom: int, left: int, right: int) -> MixedBatch:
    mixed = pixels.clone()
    mixed[:, :, top:bottom, left:right] = pixels[partners][:, :, top:bottom, left:right]
    pasted_fraction = (bottom - top) * (right - left) / (pixels.shape[2] * pixels.shape[3])
    return MixedBatch(mixed, partners, 1 - pasted_fraction)
