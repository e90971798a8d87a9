"""Draw what covers a face: hair, mask, glasses, hat or hand, in the head frame of `canvas`."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ssl_pipeline.synthetic.people.anatomy import Anatomy
from ssl_pipeline.synthetic.people.canvas import BLACK, GRAY_HAIR, WHITE, Canvas, Color, ellipse, mirrored, mix, smooth


class Haircut(NamedTuple):
    """Volume over the head, lower end of the sides, length of the fringe, and whether the hair curls."""

    volume: float
    length: float
    fringe: float
    curly: bool


HAIRCUTS: Mapping[str, Haircut] = {
    "bald": Haircut(0.0, 0.0, 0.0, curly=False),
    "buzz": Haircut(0.015, -0.08, 0.0, curly=False),
    "short": Haircut(0.08, 0.0, 0.1, curly=False),
    "swept": Haircut(0.14, -0.02, 0.03, curly=False),
    "curly": Haircut(0.15, 0.1, 0.08, curly=True),
    "bob": Haircut(0.13, 0.72, 0.18, curly=False),
    "long": Haircut(0.11, 1.5, 0.05, curly=False),
    "bun": Haircut(0.05, -0.02, 0.02, curly=False),
}
# Heights of the mask's upper and lower edge.
WORN_RIGHT = (0.08, 1.07)
WORN_WRONG = {"nose_out": (0.4, 1.06), "mouth_out": (0.76, 1.16), "chin_out": (0.1, 0.78)}
NUM_DOTS = 40


def draw_mask(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw the mask with its shadow and loops; its position distinguishes `wear` from `incorrect`."""
    face = canvas.face
    top, bottom = WORN_RIGHT if face.mask == "wear" else WORN_WRONG[face.mask_fit]
    top, bottom = top + rng.uniform(-0.03, 0.03), bottom + rng.uniform(-0.02, 0.03)
    edge = anatomy.right_edge()
    heights = np.array([top + 0.1, (top + bottom) / 2, bottom - 0.14])
    reach = np.maximum(np.interp(heights, edge[:, 1], edge[:, 0]), 0.34) * (0.9, 0.97, 0.98)
    beak = 0.08 if face.mask_style == "three_panel" else 0.02
    side_points = np.stack([reach, heights], axis=1)
    right = [(0.16, top + 0.03 - beak), *side_points, (max(reach[2] * 0.62, 0.24), bottom - 0.01)]
    shape = smooth([(0, top - beak), *right, (0, bottom + 0.04), *mirrored(right[::-1])], closed=True)
    for corner, anchor in (
        (side_points[0], (anatomy.width + 0.03, -0.06)),
        (side_points[2], (anatomy.width + 0.03, 0.18)),
    ):
        for sign in ((1, 1), (-1, 1)):
            canvas.line(np.stack([corner, anchor]) * sign, mix(face.mask_color, WHITE, 0.5), 0.026, on_face=False)
    shadow, _ = canvas.stencil(shape + np.array((0.0, 0.03)))
    canvas.paint(mix(canvas.person.skin, BLACK, 0.45), shadow, blur=0.03)
    stencil, _ = canvas.stencil(shape)
    background = canvas.image
    canvas.draw_on(canvas.lit(face.mask_color, bulge=1.15, fading=0.95))
    _draw_cloth(canvas, top, bottom, rng)
    canvas.line(np.concatenate([shape, shape[:1]]), mix(face.mask_color, BLACK, 0.3), 0.026)
    cloth = canvas.image
    canvas.draw_on(background)
    canvas.paint(cloth, stencil)


def _draw_cloth(canvas: Canvas, top: float, bottom: float, rng: np.random.Generator) -> None:
    """Draw pleats, panels, or a seam and possibly dots."""
    color, height = canvas.face.mask_color, bottom - top
    dark, light = mix(color, BLACK, 0.28), mix(color, WHITE, 0.4)
    match canvas.face.mask_style:
        case "surgical":
            pleat = smooth([(-0.75, -0.05), (0, 0.03), (0.75, -0.05)])
            for y in (top + 0.3 * height, top + 0.48 * height, top + 0.66 * height):
                canvas.line(pleat + np.array((0, y)), dark, 0.02)
                canvas.line(pleat + np.array((0, y + 0.025)), light, 0.014)
        case "three_panel":
            for y, bend in ((top + 0.3 * height, -0.12), (top + 0.7 * height, 0.12)):
                canvas.line(smooth([(-0.7, y), (0, y + bend), (0.7, y)]), dark, 0.024)
        case "cloth":
            canvas.line([(0, top - 0.1), (0, bottom + 0.1)], dark, 0.022)
            for x, y in rng.uniform((-0.7, top), (0.7, bottom), (int(rng.integers(2)) * NUM_DOTS, 2)):
                canvas.disc(x, y, 0.022, light)


def draw_hair_behind(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw the hair behind the neck, or a bun."""
    volume, length, *_ = HAIRCUTS[canvas.person.hair_style]
    if canvas.person.hair_style == "bun":
        canvas.disc(0.05, -1.22, 0.28, mix(anatomy.hair, BLACK, 0.2), on_face=False)
    if length > 0.2:
        edge = anatomy.width + volume
        right = [(0.3, -0.8), (edge - 0.1, -0.4), (edge, 0.2), (edge + 0.02, length - 0.2), (0.5, length + 0.04)]
        dark = mix(anatomy.hair, BLACK, 0.45)
        canvas.fill(smooth([*right, *mirrored(right[::-1])], closed=True), dark, on_face=False)


def draw_hair(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw the hair over the forehead and at the sides of the face."""
    person = canvas.person
    rng = np.random.default_rng([person.seed, 1])
    volume, length, fringe, curl = HAIRCUTS[person.hair_style]
    half_width = anatomy.width
    if person.hair_style == "bald" or anatomy.recession > 0.8:
        patch = smooth(
            [
                (half_width - 0.07, -0.5),
                (half_width + 0.04, -0.4),
                (half_width + 0.05, -0.05),
                (half_width - 0.05, -0.02),
            ],
            closed=True,
        )
        stencil, _ = canvas.stencil(patch, mirrored(patch), on_face=False)
        canvas.paint(canvas.lit(anatomy.hair), stencil, blur=0.015)
        return
    edge, part, back = half_width + volume, rng.uniform(-0.3, 0.3), 0.28 * anatomy.recession
    line = -0.66 + fringe * (1 - anatomy.recession) - 0.6 * back
    outer = [
        (edge - 0.02, length),
        (edge + 0.03, length * 0.5 - 0.15),
        (edge - 0.05, -0.5),
        (0.43, -0.99 - 0.9 * volume),
    ]
    inner = [
        (half_width - 0.035, max(-0.12, length * 0.6)),
        (half_width - 0.05, -0.2),
        (0.6, -0.46 - back),
        (0.4, line - 1.1 * back),
    ]
    ends = [(edge - 0.06, length + 0.03)]
    crown = smooth([*mirrored(outer), (0, -1.05 - volume), *outer[::-1]])
    hairline = smooth([*ends, *inner, (part, line - 0.06), *mirrored(inner[::-1]), *mirrored(ends)])
    stencil, draw = canvas.stencil(np.concatenate([crown, hairline]), on_face=False)
    if curl:
        for point in crown[::2]:
            draw.circle(canvas.to_pixels([point], on_face=False), rng.uniform(0.08, 0.14) * canvas.unit, fill=255)
    background = canvas.image
    canvas.draw_on(canvas.lit(anatomy.hair, bulge=0.9, fading=0.95))
    _draw_strands(canvas, anatomy, part, edge, -1.04 - volume, rng)
    hair = canvas.image
    canvas.draw_on(background)
    canvas.paint(hair, stencil, blur=0.02 if person.hair_style == "buzz" else 0.0)


def _draw_strands(
    canvas: Canvas, anatomy: Anatomy, part: float, edge: float, top: float, rng: np.random.Generator
) -> None:
    """Draw strands from the parting outward and down, some of them gray."""
    if HAIRCUTS[canvas.person.hair_style].curly:
        _draw_curls(canvas, anatomy, edge, rng)
        return
    num_strands = 40
    angle = np.linspace(-1.6, 1.6, num_strands) + rng.normal(0, 0.04, num_strands)
    far_x, far_y = np.sin(angle) * (edge + 0.02), -0.35 - 0.25 * np.cos(angle)
    sway = rng.uniform(-0.05, 0.05, (2, num_strands))
    xs = [np.full(num_strands, part), 0.55 * far_x + 0.45 * part + sway[0], far_x, far_x * 1.02 + sway[1], far_x * 0.97]
    ys = [np.full(num_strands, top), top + 0.12 + 0.1 * angle**2, far_y, far_y + 0.7, far_y + 2.0]
    curves = smooth(np.stack([np.stack(xs, 1), np.stack(ys, 1)], axis=-1))
    for curve, side_angle in zip(curves, np.abs(angle), strict=True):
        color = _strand_color(canvas, anatomy, rng)
        canvas.line(curve if side_angle > 1 else curve[:13], color, rng.uniform(0.014, 0.035), on_face=False)


def _draw_curls(canvas: Canvas, anatomy: Anatomy, edge: float, rng: np.random.Generator) -> None:
    for x, y in rng.uniform((-edge - 0.1, -1.3), (edge + 0.1, 0.25), (130, 2)):
        curl = ellipse(x, y, 0.05, 0.05)[: int(rng.integers(10, 24))]
        canvas.line(curl, _strand_color(canvas, anatomy, rng), 0.022, on_face=False)


def _strand_color(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> Color:
    gray = rng.random() < anatomy.gray
    tone = mix(canvas.person.hair_color, GRAY_HAIR, 0.9) if gray else canvas.person.hair_color
    return mix(tone, WHITE if rng.random() < 0.4 else BLACK, rng.uniform(0.0, 0.18))


def draw_eyewear(canvas: Canvas) -> None:
    """Draw glasses or sunglasses, if any."""
    if canvas.face.eyewear == "none":
        return
    frame = mix((30, 28, 30), (120, 76, 44), canvas.person.seed % 7 / 7)
    for side in (-1, 1):
        rim = ellipse(side * 0.325, -0.04, 0.215, 0.175)
        if canvas.face.eyewear == "sunglasses":
            canvas.fill(rim, (34, 32, 38))
            canvas.line([(side * 0.25, -0.12), (side * 0.36, -0.16)], (90, 92, 104), 0.035)
        canvas.line(np.concatenate([rim, rim[:2]]), frame, 0.03)
        canvas.line([(side * 0.535, -0.08), (side * 0.78, -0.1)], frame, 0.03)
    canvas.line(smooth([(-0.11, -0.06), (0, -0.09), (0.11, -0.06)]), frame, 0.03)


def draw_occlusion(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw a hat, loose strands of hair or a hand in front of the face, if any."""
    side = 1 if rng.random() < 0.5 else -1
    skin = canvas.person.skin
    match canvas.face.occlusion:
        case "hat":
            edge = anatomy.width + 0.1
            right = [(0.45, -1.2), (edge - 0.04, -0.8), (edge, -0.42)]
            brim = smooth([(edge, -0.44), (0, -0.62), (-edge, -0.44)])
            dome = smooth([*mirrored(right[::-1]), (0, -1.3), *right])
            stencil, _ = canvas.stencil(np.concatenate([dome, brim]), on_face=False)
            canvas.paint_lit(canvas.face.background[-1], stencil, bulge=0.85)
            canvas.line(brim, mix(canvas.face.background[-1], BLACK, 0.35), 0.09, on_face=False)
        case "strand":
            for _ in range(5):
                x, end = rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.65)
                lock = [(x * 0.5, -0.85), (x + 0.1, -0.4), (end, 0.0), (end + rng.uniform(-0.2, 0.1), 0.5)]
                color = mix(anatomy.hair, BLACK, rng.uniform(0, 0.3))
                canvas.line(smooth(lock) * (side, 1), color, 0.035, on_face=False)
        case "hand":
            wrist, palm = np.array((0.75, 1.35)), mix(skin, BLACK, 0.06)
            for finger in range(4):
                tip = np.array((0.1 + 0.16 * finger, 0.62 - 0.06 * finger + rng.uniform(-0.04, 0.04)))
                bone = np.stack([tip, tip * 0.4 + wrist * 0.6]) * (side, 1)
                for color, width in ((mix(skin, (80, 36, 26), 0.4), 0.17), (palm, 0.145)):
                    canvas.line(bone, color, width, on_face=False)
                    canvas.disc(bone[0, 0], bone[0, 1], width / 2, color, on_face=False)
            canvas.fill(ellipse(side * 0.6, 1.25, 0.34, 0.38), palm, on_face=False)
