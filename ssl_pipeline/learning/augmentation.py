"""Augmentation of a batch of faces on its device, without Python per face.

The parameters of each face come from `random_draws`, so that a face looks the same on CPU and GPU, in any batch. Shapes:
B faces of S pixels a side, s the side of the result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from ssl_pipeline.config.training import RandAugment
from ssl_pipeline.labels import FloatArray, IntArray
from ssl_pipeline.learning.random_draws import uniform_draws

Kind = Literal["none", "weak", "strong"]

_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_SIGNED = ("brightness", "color", "contrast", "sharpness")
_OPERATIONS = ("identity", *_GEOMETRIC, *_SIGNED, "posterize", "solarize", "auto_contrast", "equalize")
_MAX_MAGNITUDE = 30
_WEAK_DRAWS, _ERASING_TRIES = 3, 10
_ERASED_SHARE, _ERASED_VALUE, _LOG_RATIO = (0.02, 0.2), 127, math.log(3.3)


@dataclass(frozen=True)
class Augmentation:
    """A kind of augmentation.

    `weak` flips horizontally and shifts by up to 1/8 of the side, filling by reflection (FixMatch's weak augmentation,
    arXiv:2001.07685), or crops `input_size` of the side at random; `strong` adds RandAugment (arXiv:1909.13719), with
    torchvision's 14 operations and their strengths, and random erasing (arXiv:1708.04896). `none` leaves the crop to the
    model, which takes the centered one.
    """

    kind: Kind
    randaugment: RandAugment = RandAugment()  # noqa: RUF009 - frozen
    input_size: int | None = None

    def __call__(self, faces: Tensor, *, seed: int, epoch: int, positions: IntArray) -> Tensor:
        """Augment faces, each by its place in the epoch.

        Args:
            faces: uint8 [B, 3, S, S].
            seed: the run's, or a stream's.
            epoch: from 0.
            positions: in the epoch, int [B].

        Returns:
            uint8 [B, 3, s, s], channels last in memory.
        """
        if self.kind == "none":
            return faces
        num_ops = self.randaugment.num_ops
        num_draws = _WEAK_DRAWS + 2 * num_ops + 1 + 4 * _ERASING_TRIES if self.kind == "strong" else _WEAK_DRAWS
        draws = uniform_draws(seed, epoch, positions, num=num_draws)
        faces = _flip_and_crop(faces, draws[:, :_WEAK_DRAWS], input_size=self.input_size)
        if self.kind == "strong":
            for operation in range(num_ops):
                start = _WEAK_DRAWS + 2 * operation
                faces = _randaugment(faces, draws[:, start : start + 2], magnitude=self.randaugment.magnitude)
            faces = _erase(faces, draws[:, _WEAK_DRAWS + 2 * num_ops :], self.randaugment.erasing_probability)
        return faces


def _flip_and_crop(faces: Tensor, draws: FloatArray, *, input_size: int | None) -> Tensor:
    """Flip by the first draw, and crop by the other two."""
    side = faces.shape[-1]
    crops = input_size is not None and input_size < side
    size = input_size if crops and input_size is not None else side
    margin = 0 if crops else max(side // 8, 1)
    corners = (draws[:, 1:] * (side - size + 2 * margin + 1)).astype(np.int64) - margin
    rows, columns = (corners[:, [axis]] + np.arange(size) for axis in range(2))
    rows, columns = (np.abs((side - 1) - np.abs((side - 1) - places)) for places in (rows, columns))  # reflected
    columns = np.where(draws[:, :1] < 0.5, side - 1 - columns, columns)
    rows, columns = rows.astype(np.int32), columns.astype(np.int32)
    return _gather(faces, torch.from_numpy(rows)[:, :, None] * side + torch.from_numpy(columns)[:, None, :])


def _gather(faces: Tensor, sources: Tensor) -> Tensor:
    """Take each pixel from ``y·S + x`` of its face, `sources` int [B, s, s]; black where that is negative."""
    num_faces, channels, side, _ = faces.shape
    sources = sources.to(faces.device)
    pixels = faces.permute(0, 2, 3, 1).reshape(-1, channels)
    offsets = torch.arange(0, num_faces * side * side, side * side, dtype=torch.int32, device=faces.device)
    places = sources.clamp_min(0).add_(offsets[:, None, None])
    gathered = pixels.index_select(0, places.flatten()).view(*sources.shape, channels)
    gathered.masked_fill_((sources < 0)[..., None], 0)
    return gathered.permute(0, 3, 1, 2)


def _randaugment(faces: Tensor, draws: FloatArray, *, magnitude: int) -> Tensor:
    """Apply one operation to each face: chosen by the first draw, its direction by the second."""
    chosen = (draws[:, 0] * len(_OPERATIONS)).astype(np.int64)
    signs = np.where(draws[:, 1] < 0.5, -1.0, 1.0)
    faces = faces.clone(memory_format=torch.channels_last)
    is_geometric = (chosen >= 1) & (chosen <= len(_GEOMETRIC))
    if is_geometric.any():
        own = torch.from_numpy(np.flatnonzero(is_geometric)).to(faces.device)
        sources = _sources(chosen[is_geometric], signs[is_geometric], magnitude=magnitude, side=faces.shape[-1])
        faces[own] = _gather(faces[own], sources)
    for number, name in enumerate(_OPERATIONS):
        if name == "identity" or name in _GEOMETRIC:
            continue
        for sign in (-1.0, 1.0) if name in _SIGNED else (None,):
            own_faces = np.flatnonzero((chosen == number) & (True if sign is None else signs == sign))
            if len(own_faces):
                own = torch.from_numpy(own_faces).to(faces.device)
                faces[own] = _color_operation(name, (sign or 1.0) * magnitude / _MAX_MAGNITUDE)(faces[own])
    return faces


def _sources(chosen: IntArray, signs: FloatArray, *, magnitude: int, side: int) -> Tensor:
    """Return the nearest source pixel of each pixel under a geometric operation, int [n, side, side]; -1 outside."""
    strength = signs * magnitude / _MAX_MAGNITUDE
    matrices = np.zeros((len(chosen), 2, 3))  # from a pixel of the result, around the center, to its source
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1
    for number, name in enumerate(_GEOMETRIC, start=1):
        own, amount = chosen == number, strength[chosen == number]
        match name:
            case "shear_x" | "shear_y":  # about the corner, as torchvision's RandAugment does
                row = 0 if name == "shear_x" else 1
                matrices[own, row, 1 - row] = 0.3 * amount
                matrices[own, row, 2] = 0.3 * amount * side / 2
            case "translate_x" | "translate_y":
                matrices[own, 0 if name == "translate_x" else 1, 2] = -np.trunc(150 / 331 * side * amount)
            case "rotate":
                angle = np.radians(30 * amount)
                matrices[own, 0, 0] = matrices[own, 1, 1] = np.cos(angle)
                matrices[own, 0, 1], matrices[own, 1, 0] = -np.sin(angle), np.sin(angle)
    places = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    m = torch.from_numpy(matrices.astype(np.float32))[..., None]
    x, y = (
        (m[:, row, 0] * places)[:, None, :]
        .add((m[:, row, 1] * places + m[:, row, 2] + (side - 1) / 2)[:, :, None])
        .round_()
        for row in range(2)
    )
    is_outside = (x != x.clamp(0, side - 1)).logical_or_(y != y.clamp(0, side - 1))
    return y.mul_(side).add_(x).masked_fill_(is_outside, -1).int()


def _color_operation(name: str, strength: float) -> Callable[[Tensor], Tensor]:
    """Return torchvision's operation at a strength in [-1, 1]; it takes uint8 [n, 3, S, S]."""
    factor = 1 + 0.9 * strength
    operations: dict[str, Callable[[Tensor], Tensor]] = {
        "brightness": lambda faces: functional.adjust_brightness(faces, factor),
        "color": lambda faces: functional.adjust_saturation(faces, factor),
        "contrast": lambda faces: functional.adjust_contrast(faces, factor),
        "sharpness": lambda faces: functional.adjust_sharpness(faces, factor),
        "posterize": lambda faces: functional.posterize(faces, round(8 - 4 * strength)),
        "solarize": lambda faces: functional.solarize(faces, 255 * (1 - strength)),
        "auto_contrast": lambda faces: functional.autocontrast(faces.contiguous()),  # slow on channels last
        "equalize": functional.equalize,
    }
    return operations[name]


def _erase(faces: Tensor, draws: FloatArray, probability: float) -> Tensor:
    """Fill a rectangle of each face with gray; `draws` decide whether, then area, ratio, row and column of each try."""
    side = faces.shape[-1]
    area, ratio, top, left = np.moveaxis(draws[:, 1:].reshape(len(draws), _ERASING_TRIES, 4), 2, 0)
    area = side**2 * (_ERASED_SHARE[0] + area * (_ERASED_SHARE[1] - _ERASED_SHARE[0]))
    ratio = np.exp(_LOG_RATIO * (2 * ratio - 1))
    heights, widths = (np.rint(np.sqrt(area * shape)).astype(np.int64) for shape in (ratio, 1 / ratio))
    fits = (heights < side) & (widths < side)
    first, rows = fits.argmax(axis=1), np.arange(len(draws))
    erases = (draws[:, 0] < probability) & fits.any(axis=1)
    boxes = []
    for sizes, offsets in ((heights, top), (widths, left)):
        size = sizes[rows, first]
        start = (offsets[rows, first] * (side - size + 1)).astype(np.int64)
        places = np.arange(side)
        boxes.append((places >= start[:, None]) & (places < (start + size)[:, None]) & erases[:, None])
    is_erased = torch.from_numpy(boxes[0][:, None, :, None] & boxes[1][:, None, None, :]).to(faces.device)
    return faces.masked_fill(is_erased, _ERASED_VALUE)
