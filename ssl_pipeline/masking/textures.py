"""The cloth of a mask, laid flat: its colors, and the relief of pleats, seams and creases as light and shade.

A texture is a picture of the sheet of `shapes`: u to the right, v down.
"""

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ssl_pipeline.masking.parameters import MaskParameters

WIDTH, HEIGHT = 256, 192
FloatImage = npt.NDArray[np.float32]
_U = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :]
_V = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]


def draw_cloth(mask: MaskParameters, rng: np.random.Generator) -> tuple[FloatImage, FloatImage]:
    """Draw a mask's cloth.

    Returns:
        Its color, float32 [HEIGHT, WIDTH, 3], 0 to 255, and its relief as a factor on the light, float32
        [HEIGHT, WIDTH], about 0.7 to 1.2.
    """
    color = np.empty((HEIGHT, WIDTH, 3), np.float32)
    color[:] = mask.color
    if mask.print != "none":
        share = _printed(mask.print, rng)[..., None]
        color += share * (np.array(mask.print_color, np.float32) - color)
    height = _creases(mask, rng)
    match mask.kind:
        case "surgical":
            height += _pleats(mask, rng)
        case "three_panel":
            height += _panels(mask)
        case "cloth":
            height += _seam(mask, rng)
    if mask.valve:
        height += _valve(rng)
    light = 1 + _slope(height)
    return color, np.clip(light * _hem(mask), 0.45, 1.3).astype(np.float32)


def _slope(height: FloatImage) -> FloatImage:
    """Light on a relief, lit from above: what faces up is lighter; heights in shares of the texture's height."""
    down = np.zeros_like(height)
    down[1:-1] = (height[2:] - height[:-2]) * (HEIGHT / 2)
    across = np.zeros_like(height)
    across[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (HEIGHT / 2)
    return np.clip(0.8 * down + 0.35 * across, -0.42, 0.3)


def _pleats(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Three pleats that open towards the middle: each a fold that overhangs the next, with its shade below."""
    height = np.zeros((HEIGHT, WIDTH), np.float32)
    for place in (0.3, 0.5, 0.7):
        bend = rng.normal(0, 0.012) + 0.05 * (place - 0.5)
        line = place + rng.normal(0, 0.015) + bend * (1 - _U**2) * 2 + rng.normal(0, 0.012) * _U
        off = _V - line
        depth = (0.006 + 0.016 * mask.folds) * (0.55 + 0.45 * np.abs(_U))
        height += np.where(off < 0, depth * np.exp(off / 0.045), depth * np.exp(-off / 0.012) * 0.35)
    return height


def _panels(mask: MaskParameters) -> FloatImage:
    """An upper and a lower panel that meet a middle one in bent edges."""
    height = np.zeros((HEIGHT, WIDTH), np.float32)
    for place, bend in ((0.36, -0.1), (0.68, 0.08)):
        off = _V - (place + bend * (1 - _U**2))
        ridge = np.exp(-np.abs(off) / 0.05)
        height += (0.016 + 0.012 * mask.folds) * ridge
    return height


def _seam(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """A seam down the middle, in half of the cloth masks."""
    if rng.random() < 0.4:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    line = 0.03 * np.sin(np.pi * _V) * rng.normal(0, 1)
    off = _U - line
    return np.asarray((0.01 + 0.01 * mask.folds) * np.exp(-np.abs(off) / 0.05) - 0.006 * np.exp(-np.abs(off) / 0.012))


def _creases(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Soft random creases, most of them running down and outwards from the nose, and a grain of fibers."""
    height = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(int(4 + 7 * mask.folds)):
        u, v = rng.uniform(-0.95, 0.95), rng.uniform(0.05, 0.95)
        angle = np.radians(rng.normal(60, 25)) * np.sign(u if rng.random() < 0.8 else -u)
        along = (_U - u) * np.cos(angle) + (_V - v) * np.sin(angle)
        across = -(_U - u) * np.sin(angle) + (_V - v) * np.cos(angle)
        wide, long = rng.uniform(0.03, 0.09), rng.uniform(0.15, 0.5)
        height += rng.uniform(0.2, 1) * 0.012 * mask.folds * np.exp(-((across / wide) ** 2) - (along / long) ** 2)
    return height


def _valve(rng: np.random.Generator) -> FloatImage:
    side = 1 if rng.random() < 0.5 else -1
    distance = np.hypot((_U - 0.35 * side) * 1.35, _V - 0.6)
    return np.asarray(0.03 / (1 + np.exp((distance - 0.13) / 0.01)) - 0.015 / (1 + np.exp((distance - 0.09) / 0.008)), np.float32)


@functools.cache
def _edge_distance(kind: str) -> FloatImage:
    """How far a point lies inside the sheet's edge, in shares of the sheet's height."""
    return np.minimum(np.minimum(_V, 1 - _V), (1 - np.abs(_U)) * 0.65).astype(np.float32)


def _hem(mask: MaskParameters) -> FloatImage:
    """The hem: a band along the edge, ended by a fine line; the very edge turns away from the light."""
    distance = _edge_distance(mask.kind)
    line = 0.1 * np.exp(-(((distance - 0.055) / 0.008) ** 2))
    rim = 0.16 * np.exp(-distance / 0.012)
    return np.asarray(1 - line - rim)


def _printed(kind: str, rng: np.random.Generator) -> FloatImage:
    """How much of the print's color a point takes, 0 to 1."""
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    step = int(rng.integers(14, 34))
    match kind:
        case "dots":
            radius = step * rng.uniform(0.18, 0.34)
            for row, y in enumerate(range(-step, HEIGHT + step, step)):
                for x in range(-step, WIDTH + step, step):
                    draw.circle((x + row % 2 * step / 2, y), radius, fill=255)
        case "stripes" | "checks":
            width = max(2, int(step * rng.uniform(0.25, 0.6)))
            for y in range(0, HEIGHT, step):
                draw.rectangle((0, y, WIDTH, y + width), fill=255 if kind == "stripes" else 150)
            if kind == "checks":
                across = Image.new("L", layer.size)
                other = ImageDraw.Draw(across)
                for x in range(0, WIDTH, step):
                    other.rectangle((x, 0, x + width, HEIGHT), fill=150)
                layer = Image.fromarray(np.maximum(np.asarray(layer), np.asarray(across) + np.asarray(layer) // 3))
        case "flowers":
            for x, y in rng.uniform((0, 0), (WIDTH, HEIGHT), (int(rng.integers(18, 50)), 2)):
                size, turn = rng.uniform(5, 13), rng.uniform(0, 6)
                for petal in range(5):
                    angle = turn + petal * 2 * np.pi / 5
                    draw.circle((x + size * 0.7 * np.cos(angle), y + size * 0.7 * np.sin(angle)), size * 0.5, fill=255)
                draw.circle((x, y), size * 0.35, fill=40)
        case _:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 14), dtype=np.uint8))
            blotches = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            layer = blotches.point(lambda value: 255 if value > 140 else 90 if value > 95 else 0)
    return np.asarray(layer.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32) / 255


@functools.cache
def outline(kind: str) -> FloatImage:
    """How much a kind of mask covers at each point of its sheet, 0 to 1: its corners are round."""
    radius = {"surgical": 0.05, "three_panel": 0.16, "cloth": 0.12}[kind]
    x, y = (1 - np.abs(_U)) * 0.65, np.minimum(_V, 1 - _V)
    outside = np.hypot(np.maximum(radius - x, 0), np.maximum(radius - y, 0)) - radius
    cover = np.clip(-outside * HEIGHT / 1.5, 0, 1)
    return np.asarray(cover, dtype=np.float32)
