"""The cloth of a mask as a flat texture: colors and prints, and the shading of pleats, seams and creases.

A texture is an image of the sheet in `shapes`: u to the right, v down.
"""

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ssl_pipeline.synthetic.masks.parameters import MaskParameters

WIDTH, HEIGHT = 208, 160
FloatImage = npt.NDArray[np.float32]
_COARSE = 2  # creases are soft, so half the resolution suffices
_U = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :]
_V = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]


def draw_cloth(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Draw the cloth of a mask, lit from above.

    Returns:
        float32 [HEIGHT, WIDTH, 3], 0 to slightly above 255.
    """
    color = np.empty((HEIGHT, WIDTH, 3), np.float32)
    color[:] = mask.color
    for print_color in mask.print_colors:
        share = _print_share(mask.print, rng)[..., None]
        color += share * (np.array(print_color, np.float32) - color)
    light = 1 + _creases(mask, rng)
    match mask.kind:
        case "surgical":
            light += _pleats(mask, rng)
        case "three_panel":
            light += _panels(mask, rng)
        case "cloth":
            light += _seam(mask, rng)
    if mask.kind != "cloth":
        light += _nose_wire(mask)
    if mask.valve:
        light += _valve(rng)
    light = np.clip(light * _hem(), 0.4, 1.25)
    # Fibers of any color shine a little, so that black cloth shows its folds.
    return np.asarray(color * light[..., None] + 26 * (light - 0.75)[..., None], dtype=np.float32)


def _fold(offset: FloatImage, *, dark: float, light: float, width: float) -> FloatImage:
    """Shade a fold: bright before its edge at `offset` = 0, dark beyond it."""
    return np.asarray(
        light * np.exp(-(((offset + 1.3 * width) / (1.3 * width)) ** 2))
        - dark * np.exp(-(((offset - 0.5 * width) / width) ** 2))
    )


def _pleats(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Shade three pleats that open towards the middle, each overhanging the cloth below."""
    light = np.zeros((HEIGHT, WIDTH), np.float32)
    for height in (0.27, 0.48, 0.69):
        bow, tilt, wave, phase = (
            rng.normal(0.02 + 0.1 * (height - 0.5), 0.015),
            *rng.normal(0, 0.012, 2),
            rng.uniform(0, 6),
        )
        line = height + rng.normal(0, 0.02) + bow * (1 - _U**2) + tilt * _U + wave * np.sin(3 * _U + phase)
        depth = (0.12 + 0.22 * mask.folds) * rng.uniform(0.6, 1.2) * (0.65 + 0.35 * np.cos(2 * _U + rng.normal(0, 0.7)))
        light += depth * _fold(_V - line, dark=1.0, light=0.28, width=0.016)
    return light


def _panels(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Shade an upper and a lower panel that meet a middle one in bent edges; the lower one faces away from the light."""
    upper = _V - (0.36 + rng.normal(0, 0.015) - 0.1 * (1 - _U**2))
    lower = _V - (0.66 + rng.normal(0, 0.015) + 0.09 * (1 - _U**2))
    depth = 0.1 + 0.12 * mask.folds
    lower_panel = -0.09 / (1 + np.exp(-np.clip(lower / 0.012, -30, 30)))
    return np.asarray(
        _fold(upper, dark=depth, light=0.05, width=0.016)
        + _fold(lower, dark=depth, light=0.06, width=0.014)
        + lower_panel
    )


def _seam(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Shade a seam down the middle; a third of the cloth masks have none."""
    bend, depth = 0.03 * rng.normal(0, 1), 0.08 + 0.12 * mask.folds
    if rng.random() < 0.35:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    return _fold(_U - bend * np.sin(np.pi * _V), dark=depth, light=0.06, width=0.02)


def _nose_wire(mask: MaskParameters) -> FloatImage:
    """Shade the wire in the upper edge, pressed around the nose."""
    along = 1 / (1 + np.exp((np.abs(_U) - 0.42) / 0.02))
    return np.asarray(along * _fold(_V - 0.085, dark=0.05 + 0.05 * mask.folds, light=0.05, width=0.02))


def _creases(mask: MaskParameters, rng: np.random.Generator) -> FloatImage:
    """Shade soft creases, lit from above: half of them start at the corners with the loops, the rest anywhere."""
    u, v = _U[:, ::_COARSE], _V[::_COARSE]
    height = np.zeros((v.size, u.size), np.float32)
    for number in range(int(5 + 9 * mask.folds)):
        side, low = rng.choice((-1, 1), 2)
        if number % 2:
            center_u, center_v = side * rng.uniform(0.45, 0.95), 0.5 + low * rng.uniform(0.1, 0.42)
            angle = np.arctan2(0.5 - center_v, -center_u) + rng.normal(0, 0.25)
        else:
            center_u, center_v, angle = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.9), rng.normal(0.9 * side, 0.6)
        along = (u - center_u) * np.cos(angle) + (v - center_v) * np.sin(angle)
        across = (v - center_v) * np.cos(angle) - (u - center_u) * np.sin(angle)
        width, length = rng.uniform(0.025, 0.08), rng.uniform(0.15, 0.5)
        amplitude = rng.uniform(-0.4, 1) * 0.35 * width * (0.3 + mask.folds)
        height += amplitude * np.exp(-((across / width) ** 2) - (along / length) ** 2)
    step = _V[_COARSE, 0] - _V[0, 0]
    slope_v, slope_u = np.gradient(height, step)
    light = np.clip(0.8 * slope_v + 0.4 * slope_u, -0.35, 0.22).astype(np.float32)
    return np.asarray(Image.fromarray(light).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def _valve(rng: np.random.Generator) -> FloatImage:
    """Shade a round breathing valve at one side of the middle."""
    side = 1 if rng.random() < 0.5 else -1
    distance = np.hypot((_U - 0.35 * side) * 1.35, _V - 0.6)
    ring = np.exp(-(((distance - 0.13) / 0.012) ** 2)) + 0.6 * np.exp(-(((distance - 0.08) / 0.01) ** 2))
    return np.asarray(-0.3 * ring - 0.12 * (distance < 0.13) * (_V - 0.6) / 0.13)


@functools.cache
def _edge_distance() -> FloatImage:
    """Return the distance of each point from the sheet's edge, as a share of the sheet's height."""
    return np.minimum(np.minimum(_V, 1 - _V), (1 - np.abs(_U)) * 0.65).astype(np.float32)


def _hem() -> FloatImage:
    """Shade the hem: a band along the edge with a fine line at its end; the outer rim is darker."""
    distance = _edge_distance()
    line = 0.1 * np.exp(-(((distance - 0.055) / 0.008) ** 2))
    rim = 0.16 * np.exp(-distance / 0.012)
    return np.asarray(1 - line - rim, dtype=np.float32)


def _print_share(kind: str, rng: np.random.Generator) -> FloatImage:
    """Return the share of the print's color per point, 0 to 1."""
    step = int(rng.integers(12, 30))
    match kind:
        case "dots":
            layer = _dots(step, radius=step * rng.uniform(0.18, 0.34))
        case "stripes":
            layer = _stripes(step, share=rng.uniform(0.25, 0.6))
        case "checks":
            stripes = _stripes(step, share=rng.uniform(0.3, 0.6))
            across = stripes.rotate(90, expand=True).resize((WIDTH, HEIGHT))
            layer = Image.blend(stripes, across, 0.5)
        case "flowers":
            layer = _flowers(rng)
        case "lettering":
            layer = _lettering(rng)
        case _:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 14), dtype=np.uint8))
            blotches = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
            layer = Image.fromarray(np.select([blotches > 140, blotches > 95], [255, 90], 0).astype(np.uint8))
    return np.asarray(layer.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32) * np.float32(1 / 255)


def _dots(step: int, *, radius: float) -> Image.Image:
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    for row, y in enumerate(range(-step, HEIGHT + step, step)):
        for x in range(-step, WIDTH + step, step):
            draw.circle((x + row % 2 * step / 2, y), radius, fill=255)
    return layer


def _stripes(step: int, *, share: float) -> Image.Image:
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    for y in range(0, HEIGHT, step):
        draw.rectangle((0, y, WIDTH, y + max(1, int(step * share))), fill=255)
    return layer


def _flowers(rng: np.random.Generator) -> Image.Image:
    largest = rng.uniform(6, 20)
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    for x, y in rng.uniform((0, 0), (WIDTH, HEIGHT), (int(rng.integers(18, 50)), 2)):
        size, turn = rng.uniform(0.4, 1) * largest, rng.uniform(0, 6)
        for angle in turn + np.arange(5) * 2 * np.pi / 5:
            draw.circle((x + size * 0.7 * np.cos(angle), y + size * 0.7 * np.sin(angle)), size * 0.5, fill=255)
        draw.circle((x, y), size * 0.35, fill=40)
    return layer


def _lettering(rng: np.random.Generator) -> Image.Image:
    """Draw one or two words of random strokes."""
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(1, 3))):
        letter_height, x, y = rng.uniform(8, 30), rng.uniform(0.1, 0.5) * WIDTH, rng.uniform(0.25, 0.65) * HEIGHT
        for letter in range(int(rng.integers(3, 9))):
            left = x + letter * letter_height * 0.75
            points = rng.uniform((left, y), (left + 0.6 * letter_height, y + letter_height), (4, 2))
            draw.line(points.ravel().tolist(), fill=255, width=max(1, round(letter_height / 7)), joint="curve")
    return layer


@functools.cache
def cover(kind: str) -> FloatImage:
    """Return the opacity of a kind of mask per point of its sheet, 0 to 1; its corners are round."""
    radius = {"surgical": 0.05, "three_panel": 0.16, "cloth": 0.12}[kind]
    x, y = (1 - np.abs(_U)) * 0.65, np.minimum(_V, 1 - _V)
    outside = np.hypot(np.maximum(radius - x, 0), np.maximum(radius - y, 0)) - radius
    return np.asarray(np.clip(-outside * HEIGHT / 1.5, 0, 1), dtype=np.float32)
