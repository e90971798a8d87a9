"""The shape of a mask on a head: a sheet spanned over nose, mouth and chin as its kind and way of wearing say.

A sheet is a grid of points in the head's frame (see `head`): u runs from -1 at the left edge to 1 at the right, v from 0
at the upper edge to 1 at the lower.
"""

from dataclasses import dataclass

import numpy as np

from ssl_pipeline.synthetic.masks.head import FloatArray, half_width, middle_depth
from ssl_pipeline.synthetic.masks.parameters import MaskParameters

COLUMNS, ROWS = 21, 13
_EAR_TOP, _EAR_LOBE = (1.09, 0.16, -0.95), (1.09, 0.56, -0.95)

# What each way of wearing covers: heights of the upper and the lower edge on the face's middle line (bridge of the
# nose 0.25, its tip 0.55, its base 0.7, mouth 1.0, chin 1.68), each with how far it may vary to either side.
_EDGES = {
    "right": ((0.3, 0.08), (1.74, 0.05)),
    "nose_out": ((0.8, 0.06), (1.78, 0.05)),
    "chin_out": ((0.32, 0.08), (1.3, 0.07)),
    "on_chin": ((1.27, 0.06), (1.9, 0.05)),
}
# Heights of the upper and lower corners at the sides, for each way of wearing.
_CORNERS = {"right": (0.52, 1.32), "nose_out": (0.78, 1.38), "chin_out": (0.5, 1.12), "on_chin": (1.0, 1.48)}


@dataclass(frozen=True)
class _Cut:
    """How a kind of mask is cut.

    Attributes:
        reach: of its sides, as a share of half the face's width.
        narrowing: how much nearer the corners of the sides lie to each other than a surgical mask's; 0 to 1.
        crest: how sharply the upper edge rises at the nose, 0 to 1.
        bow: how far out the lower edge keeps low; the larger, the squarer.
        peak: how far the middle stands out from the face.
    """

    reach: float
    narrowing: float
    crest: float
    bow: float
    peak: float


_CUTS = {
    "surgical": _Cut(reach=0.97, narrowing=0.0, crest=0.45, bow=2.4, peak=0.03),
    "three_panel": _Cut(reach=1.0, narrowing=0.5, crest=0.5, bow=1.7, peak=0.16),
    "cloth": _Cut(reach=1.02, narrowing=0.3, crest=0.6, bow=1.9, peak=0.06),
}


@dataclass(frozen=True)
class MaskShape:
    """A mask in space.

    Attributes:
        sheet: float [ROWS, COLUMNS, 3].
        loops: float [4, n, 3], the middle lines of the ear loops: left upper, left lower, right upper, right lower.
    """

    sheet: FloatArray
    loops: FloatArray


def shape_mask(mask: MaskParameters) -> MaskShape:
    """Span a mask over the head."""
    cut = _CUTS[mask.kind]
    u, v = np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, ROWS)[:, None]
    top, bottom, corner_top, corner_bottom = _heights(mask, cut)
    wide = np.abs(u)
    crest = (1 - cut.crest) * (1 - wide**1.7) + cut.crest * np.exp(-((wide / 0.34) ** 2))
    upper = corner_top + (top - corner_top) * crest
    lower = corner_bottom + (bottom - corner_bottom) * (1 - wide**cut.bow)
    y = upper + (lower - upper) * v
    reach = cut.reach * (1 + (mask.size - 1) * 0.8)
    # the side edge bends with the cheek; its corners are drawn in by the loops
    side = half_width(corner_top + (corner_bottom - corner_top) * v) * reach * (1 + 0.03 * np.sin(np.pi * v))
    angle = u * np.radians(72)
    x = side * np.sin(angle) / np.sin(np.radians(72))
    middle = _middle_depth(y, mask, cut)
    back = 0.62 * (1 - np.cos(angle)) / (1 - np.cos(np.radians(72)))
    z = middle - back - _nose_hollow(x, y, mask)
    sheet = _moved(np.stack([x, y, z], axis=-1), mask)
    return MaskShape(sheet, _loops(sheet, mask))


def _heights(mask: MaskParameters, cut: _Cut) -> tuple[float, float, float, float]:
    """Heights of the upper and lower edge in the middle, and of the upper and lower corners."""
    (top, top_spread), (bottom, bottom_spread) = _EDGES[mask.way]
    corner_top, corner_bottom = _CORNERS[mask.way]
    top += mask.height * top_spread
    bottom += bottom_spread * (2 * mask.sag - 1) + 0.5 * (mask.size - 1)
    middle = (corner_top + corner_bottom) / 2
    half = (corner_bottom - corner_top) / 2 * (1 - cut.narrowing) * mask.size
    return top, bottom, middle - half, middle + half


def _middle_depth(y: FloatArray, mask: MaskParameters, cut: _Cut) -> FloatArray:
    """How far the sheet's middle line stands out: tented from the nose over the mouth to the chin."""
    face = middle_depth(y)
    if mask.way in ("right", "chin_out"):
        nose = np.interp(y, [0.1, 0.55, 1.15, 1.6], [0.2, 0.5, 0.36, 0.16])
        face = np.maximum(face, nose)
    belly = np.sin(np.pi * np.clip((y - 0.3) / 1.5, 0, 1)) * (cut.peak + 0.08 * mask.sag)
    return np.asarray(face + belly + 0.02)


def _nose_hollow(x: FloatArray, y: FloatArray, mask: MaskParameters) -> FloatArray:
    """Beside the nose the upper part of the sheet lies on the cheeks, not on the level of the nose."""
    if mask.way not in ("right", "chin_out"):
        return np.zeros(np.broadcast_shapes(x.shape, y.shape))
    above_mouth = np.clip((1.0 - y) / 0.5, 0, 1)
    return np.asarray(0.2 * above_mouth * (1 - np.exp(-((x / 0.3) ** 2))) * np.exp(-((x / 0.85) ** 4)))


def _moved(sheet: FloatArray, mask: MaskParameters) -> FloatArray:
    """Turn the mask about its middle and shift it."""
    angle = np.radians(mask.rotation_degrees)
    center = sheet.reshape(-1, 3).mean(axis=0) * (0, 1, 1)
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray((sheet - center) @ turn + center + (mask.shift, 0, 0))


def _loops(sheet: FloatArray, mask: MaskParameters) -> FloatArray:
    """Ear loops, from the corners of the sides to the ears, a little slack."""
    t = np.linspace(0, 1, 9)[:, None]
    lines = []
    for side, column in ((-1, 1), (1, -2)):  # sewn on a little inside of the corners, which are round
        for row, ear in ((1, _EAR_TOP), (-2, _EAR_LOBE)):
            corner, end = sheet[row, column], np.array(ear) * (side, 1, 1)
            line = corner + (end - corner) * t
            line[:, 0] += side * 0.05 * np.sin(np.pi * t[:, 0])  # over the cheek's curve
            lines.append(line)
    return np.stack(lines)
