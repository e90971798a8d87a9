"""The canvas of a drawn face: head frame to pixels, painting with light, background and camera effects.

Head frame: origin a little below the eyes, x to the right, y down, the crown near y = -1, the chin near y = 1.
"""

from math import cos, hypot, pi, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ssl_pipeline.synthetic.people.parameters import DrawnFace

FloatArray = npt.NDArray[np.floating[Any]]
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (18, 14, 14)
GRAY_HAIR: Color = (206, 204, 202)
HEAD_SHARE = 0.315  # half the head's height, as a share of the picture's side
LIGHT_GRID = 32

# Catmull-Rom spline: from four consecutive points to six steps between the second and the third.
_STEPS = np.linspace(0, 1, 6, endpoint=False)
_BLEND = np.stack([_STEPS**0, _STEPS, _STEPS**2, _STEPS**3], axis=1) @ np.array(
    [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
)
_BULGE = np.array([0.85**-2, 1.3**-2])
_ANGLES = np.linspace(0, 2 * pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class Canvas:
    """An image in progress, two or three times its final size, with the transform from the head frame to its pixels."""

    def __init__(self, face: DrawnFace, size: int) -> None:
        self.face, self.person = face, face.person
        self.side = size * (3 if size < 48 else 2)
        self.unit = HEAD_SHARE * self.side * face.pose.scale
        angle = radians(face.pose.roll_degrees)
        self._turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) * self.unit
        self._yaw = 0.6 * sin(radians(face.pose.yaw_degrees))
        self._center = np.array([0.5 + face.pose.shift_x, 0.5 + face.pose.shift_y]) * self.side
        self.draw_on(Image.new("RGB", (self.side, self.side)))
        # Light varies slowly, so it is computed on a coarse grid and enlarged.
        steps = (np.arange(LIGHT_GRID) + 0.5) / LIGHT_GRID * self.side
        grid = np.stack(np.meshgrid(steps, steps), axis=-1)
        self._u, self._v = np.moveaxis((grid - self._center) @ np.linalg.inv(self._turn), -1, 0)

    def draw_on(self, image: Image.Image) -> None:
        """Continue on another image."""
        self.image, self.draw = image, ImageDraw.Draw(image)

    def to_pixels(self, points: Any, *, on_face: bool = True) -> list[float]:
        """Transform points [n, 2] of the head frame into pixels x, y, x, y …; yaw shifts points on the face sideways."""
        points = np.array(points, dtype=float)
        if on_face:
            bulge = np.sqrt(np.maximum(1 - (points**2) @ _BULGE, 0))
            points[:, 0] += self._yaw * bulge
        return (points @ self._turn + self._center).ravel().tolist()  # type: ignore[no-any-return]

    def fill(self, points: Any, color: Color, *, on_face: bool = True) -> None:
        """Fill a polygon with one color."""
        self.draw.polygon(self.to_pixels(points, on_face=on_face), fill=color)

    def line(self, points: Any, color: Color, width: float, *, on_face: bool = True) -> None:
        """Draw a line; its width is in units of the head frame."""
        pixels = max(1, round(width * self.unit))
        self.draw.line(self.to_pixels(points, on_face=on_face), fill=color, width=pixels, joint="curve")

    def disc(self, x: float, y: float, radius: float, color: Color, *, on_face: bool = True) -> None:
        """Fill a disc."""
        self.draw.circle(self.to_pixels([(x, y)], on_face=on_face), radius * self.unit, fill=color)

    def stencil(self, *shapes: Any, on_face: bool = True) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """Return an 8-bit layer to paint through, open inside the polygons, and its drawing interface."""
        layer = Image.new("L", (self.side, self.side))
        draw = ImageDraw.Draw(layer)
        for shape in shapes:
            draw.polygon(self.to_pixels(shape, on_face=on_face), fill=255)
        return layer, draw

    def paint(self, color: "Color | Image.Image", stencil: Image.Image, *, blur: float = 0.0) -> None:
        """Paint a color or an image through a stencil; `blur` softens its edges, in units of the head frame."""
        box = self._box(stencil, margin=int(2 * blur * self.unit) + 1)
        if box is None:
            return
        stencil = stencil.crop(box)
        if blur:
            stencil = stencil.filter(ImageFilter.BoxBlur(blur * self.unit))
        self.image.paste(color.crop(box) if isinstance(color, Image.Image) else color, box, stencil)

    def paint_lit(self, color: Color, stencil: Image.Image, *, bulge: float = 1.0, fading: float = 1.0) -> None:
        """Paint a color, lit as on a head-shaped surface; a smaller bulge is flatter, a fading above 1 darker."""
        box = self._box(stencil, margin=0)
        if box is not None:
            self.image.paste(self._render_lit(color, bulge, fading, box), box, stencil.crop(box))

    def lit(self, color: Color, *, bulge: float = 1.0, fading: float = 1.0) -> Image.Image:
        """Return a whole image of one color, lit as in `paint_lit`."""
        return self._render_lit(color, bulge, fading, (0, 0, self.side, self.side))

    def _box(self, stencil: Image.Image, *, margin: int) -> tuple[int, int, int, int] | None:
        """Return the open part of a stencil as left, top, right, bottom, so that only it is painted."""
        box = stencil.getbbox()
        if box is None:
            return None
        left, top, right, bottom = box
        return (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, self.side),
            min(bottom + margin, self.side),
        )

    def _render_lit(self, color: Color, bulge: float, fading: float, box: tuple[int, int, int, int]) -> Image.Image:
        light = self.face.light
        nx, ny = self._u * bulge, (self._v - 0.05) * (bulge / 1.35)
        nz = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0.04))
        diffuse = np.maximum((nx * light.x + ny * light.y + nz * 1.1) / hypot(light.x, light.y, 1.1), 0)
        shade = (light.ambient + (1 - light.ambient) * 1.12 * diffuse) / fading
        # Shade is warmer: light through skin and from the surroundings is reddish.
        pixels = np.asarray(color) * shade[..., None] ** np.array([0.85, 1.0, 1.08])
        coarse = Image.fromarray(np.minimum(pixels, 255).astype(np.uint8))
        left, top, right, bottom = box
        share = LIGHT_GRID / self.side
        part = (left * share, top * share, right * share, bottom * share)
        return coarse.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=part)


def mix(first: Color, second: Color, share: float) -> Color:
    """Mix two colors; `share` is that of the second.

    >>> mix((0, 100, 200), (100, 100, 100), 0.5)
    (50, 100, 150)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def smooth(points: Any, *, closed: bool = False) -> FloatArray:
    """Return smooth curves through rows of points [..., n, 2]."""
    points = np.asarray(points, dtype=float)
    first, last = points[..., :1, :], points[..., -1:, :]
    extended = [last, points, points[..., :2, :]] if closed else [first, points, last]
    row = np.concatenate(extended, axis=-2)
    groups = np.stack([row[..., :-3, :], row[..., 1:-2, :], row[..., 2:-1, :], row[..., 3:, :]], axis=-2)
    curve = (_BLEND @ groups).reshape(*points.shape[:-2], -1, 2)
    return curve if closed else np.concatenate([curve, last], axis=-2)


def mirrored(points: Any) -> FloatArray:
    """Mirror points to the other side of the face."""
    return np.asarray(points, dtype=float) * (-1, 1)


def draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw blurred blocks of the background's colors."""
    colors = np.asarray(canvas.face.background, dtype=float)
    coarse = colors[0] + rng.normal(0, 5, (12, 12, 1)) + np.linspace(14, -14, 12)[:, None, None]
    for color in colors[1:]:
        left, top = rng.integers(0, 9, 2)
        width, height = rng.integers(2, 7, 2)
        coarse[top : top + height, left : left + width] = color
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    canvas.draw_on(image.resize((canvas.side, canvas.side), Image.Resampling.BICUBIC))


def photograph(canvas: Canvas, rng: np.random.Generator, size: int) -> Image.Image:
    """Blur and shrink; apply the light's gain, falloff and warmth; add sensor noise."""
    face, light = canvas.face, canvas.face.light
    image = (
        canvas.image.filter(ImageFilter.GaussianBlur(face.blur * canvas.side))
        if face.blur * size > 0.15
        else canvas.image
    )
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=float)
    position = np.linspace(-0.5, 0.5, size, dtype=float)
    falloff = light.gain * (1 + 0.22 * (light.x * position[None, :] + light.y * position[:, None]))
    pixels = pixels * falloff[..., None] * np.array([1 + light.warmth, 1, 1 - light.warmth], dtype=float)
    pixels += rng.normal(0, face.noise, (size, size, 1)) + rng.normal(0, face.noise / 2, (size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def ellipse(x: float, y: float, half_width: float, half_height: float) -> FloatArray:
    """Return points around an ellipse, [24, 2]."""
    return _CIRCLE * (half_width, half_height) + (x, y)
