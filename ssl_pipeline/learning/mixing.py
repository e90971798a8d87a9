"""Mixing of faces in a batch: each becomes in part another, and teaches both in proportion.

Shapes: B batch, H×W pixels.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from ssl_pipeline.config.training import CutMix, Mixing, MixUp, VerticalHalves


class MixedBatch(NamedTuple):
    """A batch after mixing."""

    pixels: Tensor
    """uint8 [B, 3, H, W]."""
    partners: Tensor
    """int [B], the place in the batch of the face that was mixed in."""
    label_weight: float
    """How much of each face is still its own, in [0, 1]; the partner's share is the rest."""


def mix(pixels: Tensor, config: Mixing) -> MixedBatch:
    """Mix each face of a batch with another one, drawn without replacement by torch's generator.

    With λ drawn from Beta(α, α) once a batch:

    - `mixup` (arXiv:1710.09412): λ x + (1 − λ) x', rounded to whole pixels;
    - `cutmix` (arXiv:1905.04899): a rectangle of sides √(1 − λ) around a uniform place comes from x'; what is cut off
      at the border is its own again, and the share counts the pixels that were pasted;
    - `vertical_halves`: the left half is its own, the right half the partner's, as the founding case's winners did:
      both halves of a face tell its age.

    A batch is mixed with the config's probability, else it stays as it is with a share of 1.
    """
    num_faces, _, height, width = pixels.shape
    if float(torch.rand(())) >= config.probability:
        return MixedBatch(pixels, torch.arange(num_faces), 1.0)
    partners = torch.randperm(num_faces)
    match config:
        case MixUp(alpha=alpha):
            share = float(torch.distributions.Beta(alpha, alpha).sample())
            mixed = share * pixels.float() + (1 - share) * pixels[partners].float()
            return MixedBatch(mixed.round().to(torch.uint8), partners, share)
        case CutMix(alpha=alpha):
            share = float(torch.distributions.Beta(alpha, alpha).sample())
            half = (1 - share) ** 0.5 / 2
            center_y, center_x = torch.rand(2).tolist()
            top, bottom = (round(height * min(max(y, 0.0), 1.0)) for y in (center_y - half, center_y + half))
            left, right = (round(width * min(max(x, 0.0), 1.0)) for x in (center_x - half, center_x + half))
            return _pasted(pixels, partners, top, bottom, left, right)
        case VerticalHalves():
            return _pasted(pixels, partners, 0, height, width // 2, width)
        case _:
            assert_never(config)


def _pasted(pixels: Tensor, partners: Tensor, top: int, bottom: int, left: int, right: int) -> MixedBatch:
    mixed = pixels.clone()
    mixed[:, :, top:bottom, left:right] = pixels[partners][:, :, top:bottom, left:right]
    pasted = (bottom - top) * (right - left) / (pixels.shape[2] * pixels.shape[3])
    return MixedBatch(mixed, partners, 1 - pasted)
