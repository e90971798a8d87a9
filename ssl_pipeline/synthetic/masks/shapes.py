"""The shape of a mask on a head: a sheet over nose, mouth and chin, and its ear loops.

A sheet is a grid of points in the head frame (see `head_pose`): u runs from -1 at the left edge to 1 at the right edge,
v from 0 at the upper edge to 1 at the lower edge.
"""

from dataclasses import dataclass

import numpy as np

from ssl_pipeline.synthetic.masks.head_pose import FloatArray, half_width, middle_depth
from ssl_pipeline.synthetic.masks.parameters import MaskParameters

COLUMNS, ROWS = 21, 13
_EAR_TOP, _EAR_LOBE = (1.09, 0.16, -0.95), (1.09, 0.56, -0.95)

# Per way of wearing: heights of the upper and lower edge on the face's middle line (bridge of the nose 0.25, its tip
# 0.55, its base 0.7, mouth 1.0, chin 1.68), each with the range of its variation to either side.
_EDGES = {
    "right": ((0.3, 0.08), (1.74, 0.05)),
    "nose_out": ((0.8, 0.06), (1.78, 0.05)),
    "chin_out": ((0.32, 0.08), (1.3, 0.07)),
    "on_chin": ((1.27, 0.06), (1.9, 0.05)),
}
# Per way of wearing: heights of the upper and lower corners at the sides.
_CORNERS = {"right": (0.52, 1.32), "nose_out": (0.78, 1.38), "chin_out": (0.5, 1.12), "on_chin": (1.0, 1.48)}


@dataclass(frozen=True)
class _Cut:
    """Cut of a kind of mask.

    Attributes:
        reach: of the sides, as a share of half the face's width.
        narrowing: of the sides, compared with a surgical mask; 0 to 1.
        crest: sharpness of the upper edge's rise at the nose, 0 to 1.
        bow: squareness of the lower edge.
        peak: distance of the middle from the face.
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
        loops: float [4, n, 3], center lines of the ear loops: left upper, left lower, right upper, right lower.
    """

    sheet: FloatArray
    loops: FloatArray


def shape_mask(mask: MaskParameters) -> MaskShape:
    """Compute the shape of a mask on the head."""
    cut = _CUTS[mask.kind]
    u, v = np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, ROWS)[:, None]
    top, bottom, corner_top, corner_bottom = _heights(mask, cut)
    distance = np.abs(u)
    crest = (1 - cut.crest) * (1 - distance**1.7) + cut.crest * np.exp(-((distance / 0.34) ** 2))
    upper = corner_top + (top - corner_top) * crest
    lower = corner_bottom + (bottom - corner_bottom) * (1 - distance**cut.bow)
    y = upper + (lower - upper) * v
    reach = cut.reach * (1 + (mask.size - 1) * 0.8)
    # The side edge follows the cheek; the loops pull its corners in.
    side = half_width(corner_top + (corner_bottom - corner_top) * v) * reach * (1 + 0.03 * np.sin(np.pi * v))
    angle = u * np.radians(72)
    x = side * np.sin(angle) / np.sin(np.radians(72))
    middle = _middle_depth(y, mask, cut)
    back = 0.62 * (1 - np.cos(angle)) / (1 - np.cos(np.radians(72)))
    z = middle - back - _nose_hollow(x, y, mask)
    sheet = _move(np.stack([x, y, z], axis=-1), mask)
    return MaskShape(sheet, _loops(sheet, mask))


def _heights(mask: MaskParameters, cut: _Cut) -> tuple[float, float, float, float]:
    """Return the heights of the upper and lower edge in the middle, and of the upper and lower corners."""
    (top, top_spread), (bottom, bottom_spread) = _EDGES[mask.way]
    corner_top, corner_bottom = _CORNERS[mask.way]
    top += mask.height * top_spread
    bottom += bottom_spread * (2 * mask.sag - 1) + 0.5 * (mask.size - 1)
    middle = (corner_top + corner_bottom) / 2
    half = (corner_bottom - corner_top) / 2 * (1 - cut.narrowing) * mask.size
    return top, bottom, middle - half, middle + half


def _middle_depth(y: FloatArray, mask: MaskParameters, cut: _Cut) -> FloatArray:
    """Return the depth of the sheet's middle line, which spans from the nose over the mouth to the chin."""
    face = middle_depth(y)
    if mask.way in ("right", "chin_out"):
        nose = np.interp(y, [0.1, 0.55, 1.15, 1.6], [0.2, 0.5, 0.36, 0.16])
        face = np.maximum(face, nose)
    belly = np.sin(np.pi * np.clip((y - 0.3) / 1.5, 0, 1)) * (cut.peak + 0.08 * mask.sag)
    return np.asarray(face + belly + 0.02)


def _nose_hollow(x: FloatArray, y: FloatArray, mask: MaskParameters) -> FloatArray:
    """Return how far the upper part of the sheet recedes at the sides of the nose, where it lies on the cheeks."""
    if mask.way not in ("right", "chin_out"):
        return np.zeros(np.broadcast_shapes(x.shape, y.shape))
    above_mouth = np.clip((1.0 - y) / 0.5, 0, 1)
    return np.asarray(0.2 * above_mouth * (1 - np.exp(-((x / 0.3) ** 2))) * np.exp(-((x / 0.85) ** 4)))


def _move(sheet: FloatArray, mask: MaskParameters) -> FloatArray:
    """Rotate the mask about its middle and shift it."""
    angle = np.radians(mask.rotation_degrees)
    center = sheet.reshape(-1, 3).mean(axis=0) * (0, 1, 1)
    rotation = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray((sheet - center) @ rotation + center + (mask.shift, 0, 0))


def _loops(sheet: FloatArray, mask: MaskParameters) -> FloatArray:
    """Compute slightly slack ear loops, from the corners of the sides to the ears."""
    t = np.linspace(0, 1, 9)[:, None]
    lines = []
    for side, column in ((-1, 1), (1, -2)):  # attached slightly inside the round corners
        for row, ear in ((1, _EAR_TOP), (-2, _EAR_LOBE)):
            corner, end = sheet[row, column], np.array(ear) * (side, 1, 1)
            line = corner + (end - corner) * t
            line[:, 0] += side * 0.05 * np.sin(np.pi * t[:, 0])  # over the curve of the cheek
            lines.append(line)
    return np.stack(lines)
