"""Drawing one face from its parameters with Pillow; the parameters are in `drawn`.

Everything is laid out in the head's own frame: the origin between the eyes' height and the nose, x to the right, y
down, the crown near y = -1 and the chin near y = 1. `Canvas` turns that frame into pixels.
"""

from dataclasses import dataclass
from math import cos, hypot, pi, radians, sin
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from ssl_pipeline.faces.drawn import DrawnFace, DrawnPerson

FloatArray = npt.NDArray[np.floating[Any]]
Color = tuple[int, int, int]
MIN_SIZE = 16
HEAD_SHARE = 0.315  # half a head's height, as a share of the picture's side
WHITE, BLACK, GRAY_HAIR = (255, 255, 255), (18, 14, 14), (206, 204, 202)

# Catmull-Rom: four points in a row to six steps from the second to the third.
_STEPS = np.linspace(0, 1, 6, endpoint=False)
_BLEND = np.stack([_STEPS**0, _STEPS, _STEPS**2, _STEPS**3], axis=1) @ np.array(
    [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
)


def draw_face(face: "DrawnFace", *, size: int = 128) -> Image.Image:
    """Draw one picture; the same face and size give the same pixels.

    Args:
        face: what to draw.
        size: side of the picture in pixels, 16 or more.

    Returns:
        RGB image, size × size.

    Raises:
        ValueError: if the size is below 16.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size must be {MIN_SIZE} or more, got {size}")
    rng = np.random.default_rng(face.seed)
    canvas = Canvas(face, size)
    body = Anatomy.of(face.person)
    _draw_background(canvas, rng)
    _draw_shoulders(canvas, body)
    _draw_hair_behind(canvas, body)
    _draw_head(canvas, body)
    _draw_skin_marks(canvas, body)
    _draw_eyes(canvas, body)
    _draw_nose_and_mouth(canvas, body)
    _draw_beard(canvas, body)
    if face.mask != "normal":
        _draw_mask(canvas, body, rng)
    _draw_hair(canvas, body)
    _draw_eyewear(canvas)
    _draw_occlusion(canvas, body, rng)
    return _photograph(canvas, rng, size)


@dataclass(frozen=True)
class Anatomy:
    """What a person's gender, age and own shape make of their face; lengths in the head's frame.

    Attributes:
        old: 0 (about 22 years) to 1.1 (80 or looking it).
        gray: share of gray hair, 0 to 1.
        recession: how far the hairline has gone back, 0 to 1.
    """

    old: float
    width: float
    jaw: float
    chin: float
    brow: float
    brow_y: float
    eye: float
    nose: float
    lips: float
    gray: float
    recession: float
    wrinkles: float
    hair: Color

    @classmethod
    def of(cls, person: "DrawnPerson") -> "Anatomy":
        """Work it out. The gender's means lie about one standard deviation and a half apart."""
        male, shape = float(person.gender == "male"), person.shape
        age = person.age_years + person.looks_older_years
        old = float(np.clip((age - 22) / 52, 0, 1.1))
        gray = float(1 / (1 + np.exp((person.graying_age_years - age) / 4.5)))
        return cls(
            old=old,
            width=0.73 + 0.015 * male + 0.025 * shape.width,
            jaw=0.485 + 0.06 * male + 0.035 * shape.jaw + 0.03 * old,
            chin=0.15 + 0.05 * male + 0.025 * shape.jaw,
            brow=0.034 + 0.022 * male + 0.012 * shape.brow,
            brow_y=-0.315 + 0.035 * male + 0.015 * shape.brow + 0.02 * old,
            eye=0.125 - 0.008 * male + 0.008 * shape.eyes - 0.014 * old,
            nose=0.105 + 0.015 * male + 0.012 * shape.nose + 0.012 * old,
            lips=0.082 - 0.018 * male + 0.013 * shape.lips - 0.03 * old,
            gray=gray,
            recession=float(np.clip(person.balding * (age - 24) / 40, 0, 1)) * (1 if male else 0.25),
            wrinkles=float(np.clip((age - 27) / 45, 0, 1.2)) * person.wrinkling,
            hair=mix(person.hair_color, GRAY_HAIR, 0.85 * gray),
        )

    def outline(self) -> FloatArray:
        """The face's edge, closed; old age adds jowls."""
        jowl = 0.035 * self.old
        right = [
            (0.42, -0.94), (self.width - 0.07, -0.56), (self.width, -0.1), (self.width - 0.05, 0.32),
            (self.jaw + 0.02 + jowl, 0.68), (self.chin + 0.12 + jowl, 0.91), (self.chin, 1.0),
        ]  # fmt: skip
        left = [(-x, y) for x, y in reversed(right)]
        return smooth([(0, -1.04), *right, *left], closed=True)


class Canvas:
    """A picture in the making, two or three times its final size, and the way from the head's frame to its pixels."""

    def __init__(self, face: "DrawnFace", size: int) -> None:
        self.face, self.person = face, face.person
        self.side = size * (3 if size <= 64 else 2)
        self.unit = HEAD_SHARE * self.side * face.pose.scale
        angle = radians(face.pose.roll_degrees)
        self._turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) * self.unit
        self._center = np.array([0.5 + face.pose.shift_x, 0.5 + face.pose.shift_y]) * self.side
        self.show(Image.new("RGB", (self.side, self.side)))
        # The light changes slowly: worked out on a coarse grid, then enlarged.
        steps = (np.arange(48) + 0.5) / 48 * self.side
        grid = np.stack(np.meshgrid(steps, steps), axis=-1)
        self._u, self._v = np.moveaxis((grid - self._center) @ np.linalg.inv(self._turn), -1, 0)

    def show(self, image: Image.Image) -> None:
        """Go on drawing on another image."""
        self.image, self.draw = image, ImageDraw.Draw(image)

    def place(self, points: Any, *, on_face: bool = True) -> list[tuple[float, float]]:
        """Turn points [n, 2] of the head's frame into pixels; those on the face's bulge move when the head turns."""
        points = np.array(points, dtype=float)
        if on_face:
            bulge = np.sqrt(np.clip(1 - (points[:, 0] / 0.85) ** 2 - (points[:, 1] / 1.3) ** 2, 0, 1))
            points[:, 0] += 0.6 * bulge * sin(radians(self.face.pose.yaw_degrees))
        return [(x, y) for x, y in (points @ self._turn + self._center).tolist()]

    def fill(self, points: Any, color: Color, *, on_face: bool = True) -> None:
        """Fill a polygon with one color."""
        self.draw.polygon(self.place(points, on_face=on_face), fill=color)

    def line(self, points: Any, color: Color, width: float, *, on_face: bool = True) -> None:
        """Draw a line, its width in the head's frame."""
        pixels = max(1, round(width * self.unit))
        self.draw.line(self.place(points, on_face=on_face), fill=color, width=pixels, joint="curve")

    def disc(self, x: float, y: float, radius: float, color: Color, *, on_face: bool = True) -> None:
        """Fill a disc."""
        self.draw.circle(self.place([(x, y)], on_face=on_face)[0], radius * self.unit, fill=color)

    def stencil(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """An empty 8-bit layer, through which colors are laid on."""
        layer = Image.new("L", (self.side, self.side))
        return layer, ImageDraw.Draw(layer)

    def lay(self, color: "Color | Image.Image", stencil: Image.Image, *, blur: float = 0.0) -> None:
        """Lay a color or a picture on through a stencil, its edges softened by `blur` of the head's frame."""
        if blur:
            stencil = stencil.filter(ImageFilter.BoxBlur(blur * self.unit))
        self.image.paste(color, (0, 0, self.side, self.side), stencil)

    def lit(self, color: Color, *, bulge: float = 1.0, fading: float = 1.0) -> Image.Image:
        """A picture of one color, lit as if on a head-shaped surface; a fading above 1 makes it darker."""
        light = self.face.light
        nx, ny = self._u / 1.0 * bulge, (self._v - 0.05) / 1.35 * bulge
        nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.04, 1))
        diffuse = np.clip((nx * light.x + ny * light.y + nz * 1.1) / hypot(light.x, light.y, 1.1), 0, 1)
        shade = (light.ambient + (1 - light.ambient) * 1.12 * diffuse) / fading
        # What is in the shade is warmer: light that comes through skin and from around is reddish.
        pixels = np.asarray(color) * shade[..., None] ** np.array([0.85, 1.0, 1.08])
        coarse = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        return coarse.resize((self.side, self.side), Image.Resampling.BILINEAR)


def mix(first: Color, second: Color, share: float) -> Color:
    """Mix two colors; `share` of the second.

    >>> mix((0, 100, 200), (100, 100, 100), 0.5)
    (50, 100, 150)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def smooth(points: Any, *, closed: bool = False) -> FloatArray:
    """Round a row of points [n, 2] off into a curve through them."""
    points = np.asarray(points, dtype=float)
    around = [points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]]
    row = np.concatenate(around)
    groups = np.stack([row[:-3], row[1:-2], row[2:-1], row[3:]], axis=1)
    curve = np.einsum("sk,gkd->gsd", _BLEND, groups).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def mirrored(points: Any) -> FloatArray:
    """The same points on the face's other side."""
    return np.asarray(points, dtype=float) * (-1, 1)


def _draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Soft blotches and blocks of the background's colors, out of focus."""
    colors = np.asarray(canvas.face.background, dtype=float)
    coarse = colors[0] + rng.normal(0, 12, (12, 12, 1)) + np.linspace(14, -14, 12)[:, None, None]
    for color in colors[1:]:
        left, top = rng.integers(0, 9, 2)
        width, height = rng.integers(2, 7, 2)
        coarse[top : top + height, left : left + width] = color
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    canvas.show(image.resize((canvas.side, canvas.side), Image.Resampling.BICUBIC))


def _draw_shoulders(canvas: Canvas, body: Anatomy) -> None:
    wide = 0.75 + body.jaw
    right = [(0.36, 1.14), (0.62, 1.28), (wide, 1.42), (wide + 0.25, 1.75), (wide + 0.35, 2.9)]
    shape = smooth([*mirrored(right[::-1]), *right])
    stencil, draw = canvas.stencil()
    draw.polygon(canvas.place(shape, on_face=False), fill=255)
    canvas.lay(canvas.lit(canvas.face.clothes_color, bulge=0.45), stencil)


def _draw_hair_behind(canvas: Canvas, body: Anatomy) -> None:
    volume, length, _, curl = HAIR[canvas.person.hair_style]
    if canvas.person.hair_style == "bun":
        canvas.disc(0.05, -1.22, 0.3, mix(body.hair, BLACK, 0.2), on_face=False)
    if length <= 0.2:
        return
    edge = body.width + volume
    right = [(edge, -0.4), (edge + 0.03, 0.2), (edge - 0.02, length), (0.3, length + 0.05)]
    shape = smooth([*right, *mirrored(right[::-1])], closed=True)
    dark = mix(body.hair, BLACK, 0.45)
    canvas.fill(shape, dark, on_face=False)
    if curl:
        for x, y in shape[::2]:
            canvas.disc(x, y, 0.11, dark, on_face=False)


def _draw_head(canvas: Canvas, body: Anatomy) -> None:
    """Neck, its shade under the chin, ears, and the face's skin."""
    skin = canvas.person.skin
    neck = body.jaw - 0.1
    stencil, draw = canvas.stencil()
    right = [(neck, 0.55), (neck - 0.01, 1.05), (neck + 0.07, 1.25), (0.16, 1.42)]
    draw.polygon(canvas.place([*right, *mirrored(right[::-1])], on_face=False), fill=255)
    canvas.lay(canvas.lit(skin, bulge=0.5, fading=1.28), stencil)
    canvas.fill(smooth(body.outline() * (0.85, 0.5) + (0, 0.6)), mix(skin, (70, 34, 24), 0.42), on_face=False)
    shade = mix(skin, (90, 40, 30), 0.45)
    for side in (-1, 1):
        ear = np.array([(0.0, -0.16), (0.1, -0.2), (0.13, -0.06), (0.09, 0.16), (0.03, 0.26), (-0.02, 0.2)])
        ear = (ear + (body.width - 0.03, 0)) * (side, 1)
        stencil, draw = canvas.stencil()
        draw.polygon(canvas.place(smooth(ear, closed=True), on_face=False), fill=255)
        canvas.lay(canvas.lit(skin, fading=0.8), stencil)
        canvas.line(smooth((ear[:4] - (side * body.width, 0)) * 0.6 + (side * body.width, 0)), shade, 0.022, on_face=False)
        if canvas.person.earrings:
            canvas.disc(side * (body.width + 0.02), 0.3, 0.042, (226, 196, 112), on_face=False)
    stencil, draw = canvas.stencil()
    draw.polygon(canvas.place(body.outline(), on_face=False), fill=255)
    canvas.lay(canvas.lit(skin), stencil)


def _draw_skin_marks(canvas: Canvas, body: Anatomy) -> None:
    """Soft shades that give the face its relief; blush; and what age leaves: folds, bags under the eyes, spots."""
    rng = np.random.default_rng(canvas.person.seed)
    skin = canvas.person.skin
    soft, draw_soft = canvas.stencil()
    blush, draw_blush = canvas.stencil()
    fine, draw_fine = canvas.stencil()

    def crease(points: Any, strength: float, width: float = 0.016) -> None:
        depth = int(np.clip(150 * body.wrinkles * strength * rng.uniform(0.6, 1.3), 0, 170))
        pixels = max(1, round(width * canvas.unit))
        draw_fine.line(canvas.place(smooth(points)), fill=depth, width=pixels, joint="curve")

    for side in (-1, 1):
        mirror = np.array((side, 1))
        draw_soft.polygon(canvas.place(ellipse(0.3, -0.12, 0.19, 0.12) * mirror), fill=80)
        draw_soft.polygon(canvas.place(ellipse(0.1, 0.05, 0.04, 0.2) * mirror), fill=70 if side * canvas.face.light.x < 0 else 25)
        draw_soft.polygon(canvas.place(ellipse(0.58, 0.5 - 0.1 * body.old, 0.12, 0.2) * mirror), fill=int(20 + 60 * body.old))
        draw_soft.polygon(canvas.place(ellipse(0.31, 0.07, 0.12, 0.035) * mirror), fill=int(20 + 95 * body.old))
        draw_blush.polygon(canvas.place(ellipse(0.42, 0.25, 0.16, 0.12) * mirror), fill=int(40 + 50 * canvas.person.makeup))
        for offset in (-0.05, 0.0, 0.05):
            crease(np.array([(0.46, -0.08 + offset), (0.55, -0.09 + 2 * offset), (0.62, -0.06 + 3 * offset)]) * mirror, 0.8)
        crease(np.array([(0.13, 0.28), (0.25, 0.4), (0.3, 0.55), (0.28, 0.66)]) * mirror, 1.1, 0.022)
        crease(np.array([(0.24, 0.66), (0.27, 0.76), (0.25, 0.84)]) * mirror, 0.8 if body.old > 0.5 else 0.2)
        crease(np.array([(0.2, 0.08), (0.31, 0.12), (0.42, 0.07)]) * mirror, 0.9)
        crease(np.array([(0.05, -0.36), (0.06, -0.28)]) * mirror, 0.7)
    for height in (-0.46, -0.55, -0.64):
        bend = rng.uniform(-0.03, 0.03, 5)
        crease(np.stack([np.linspace(-0.4, 0.4, 5), height + bend - 0.02 * np.array([-1, 0.5, 1, 0.5, -1])], 1), 0.8)
    draw_soft.polygon(canvas.place(ellipse(0, 0.33, 0.13, 0.04)), fill=80)
    draw_soft.polygon(canvas.place(ellipse(0, 0.73, 0.13, 0.035)), fill=70)
    for _ in range(int(max(0.0, body.old - 0.5) * 24)):
        x, y = rng.uniform((-0.6, -0.75), (0.6, 0.5))
        draw_fine.circle(canvas.place([(x, y)])[0], rng.uniform(0.012, 0.035) * canvas.unit, fill=45)
    canvas.lay(mix(skin, (90, 30, 20), 0.62), soft, blur=0.07)
    canvas.lay(mix(skin, (214, 70, 64), 0.55), blush, blur=0.1)
    canvas.lay(mix(skin, (60, 24, 16), 0.75), fine, blur=0.008)


def _draw_eyes(canvas: Canvas, body: Anatomy) -> None:
    person, droop = canvas.person, 0.05 * body.old
    size = body.eye
    for side in (-1, 1):
        at = np.array((side * 0.315, -0.08))
        mirror = np.array((side, 1))
        upper = smooth([(-1.1, 0.16), (-0.5, -0.5 + droop), (0.15, -0.62 + 3 * droop), (0.75, -0.3 + 5 * droop), (1.15, 0.05 + 2 * droop)])
        lower = smooth([(1.15, 0.05 + 2 * droop), (0.6, 0.42), (0, 0.5), (-0.6, 0.4), (-1.1, 0.16)])
        upper, lower = upper * size * mirror + at, lower * size * mirror + at
        almond, draw = canvas.stencil()
        draw.polygon(canvas.place(np.concatenate([upper, lower])), fill=255)
        ground = canvas.image.copy()
        canvas.fill(ellipse(*at, 0.2, 0.2), mix((238, 234, 230), person.skin, 0.18))
        look = at[0] + canvas.face.pose.yaw_degrees * 0.0012
        canvas.disc(look, at[1] - 0.01, size * 0.52, mix(person.eye_color, BLACK, 0.35))
        canvas.disc(look, at[1] - 0.01, size * 0.42, person.eye_color)
        canvas.disc(look, at[1] - 0.01, size * 0.23, BLACK)
        canvas.disc(look + 0.025 * (1 if canvas.face.light.x > 0 else -1), at[1] - 0.045, 0.018, WHITE)
        eyes = canvas.image
        canvas.show(ground)
        canvas.lay(eyes, almond)
        canvas.line(upper, mix(person.skin, BLACK, 0.8), 0.022 + 0.026 * person.makeup)
        canvas.line(lower, mix(person.skin, (80, 40, 30), 0.5), 0.012)
        canvas.line(upper[4:-4] - (0, 0.055), mix(person.skin, (70, 30, 20), 0.45), 0.014)
        if person.makeup > 0.4:
            canvas.line([upper[-2], upper[-1] + (side * 0.05, -0.04)], BLACK, 0.026)
        _draw_brow(canvas, body, side)


def _draw_brow(canvas: Canvas, body: Anatomy, side: int) -> None:
    arch = 0.05 - 0.6 * (body.brow - 0.04)
    middle = smooth([(0.13, 0.02), (0.27, -0.2 * arch), (0.42, -arch), (0.53, 0.035)]) + (0, body.brow_y)
    thick = body.brow * np.linspace(1.0, 0.25, len(middle))[:, None] * (0, 1)
    shape = np.concatenate([middle - thick, (middle + thick * 0.7)[::-1]]) * (side, 1)
    brow, draw = canvas.stencil()
    draw.polygon(canvas.place(shape), fill=215)
    canvas.lay(mix(mix(body.hair, BLACK, 0.3 * (1 - body.gray)), canvas.person.skin, 0.12), brow, blur=0.008)


def _draw_nose_and_mouth(canvas: Canvas, body: Anatomy) -> None:
    person, wide = canvas.person, body.nose
    dark = mix(person.skin, (70, 24, 18), 0.68)
    shine, draw = canvas.stencil()
    draw.polygon(canvas.place(ellipse(0, 0.02, 0.025, 0.2)), fill=70)
    draw.polygon(canvas.place(ellipse(0, 0.24, 0.05, 0.04)), fill=110)
    canvas.lay(mix(person.skin, WHITE, 0.6), shine, blur=0.025)
    wing = np.array([(wide, 0.2), (wide + 0.035, 0.26), (wide + 0.01, 0.315), (wide - 0.03, 0.31)])
    for side in (-1, 1):
        canvas.line(smooth(wing * (side, 1)), mix(person.skin, dark, 0.6), 0.018)
        canvas.fill(ellipse(side * wide * 0.52, 0.315, 0.036, 0.018), dark)
    lift, full, half = 0.05 * canvas.face.smile, body.lips, 0.225 + 0.03 * canvas.face.smile
    corner = (half, 0.56 - lift)
    middle = smooth([mirrored(corner), (-0.1, 0.565), (0, 0.575), (0.1, 0.565), corner])
    top = smooth([corner, (0.11, 0.555 - 0.75 * full), (0.045, 0.555 - full), (0, 0.565 - 0.8 * full), (-0.045, 0.555 - full), (-0.11, 0.555 - 0.75 * full), mirrored(corner)])
    bottom = smooth([corner, (0.12, 0.58 + full), (0, 0.585 + 1.25 * full), (-0.12, 0.58 + full), mirrored(corner)])
    red = mix(mix(person.skin, (168, 66, 66), 0.48 - 0.2 * body.old), (186, 34, 58), 0.65 * person.makeup)
    canvas.fill(np.concatenate([middle, top]), mix(red, BLACK, 0.14))
    canvas.fill(np.concatenate([middle, bottom]), red)
    canvas.fill(ellipse(0.02, 0.6 + 0.5 * full, 0.07, 0.14 * full), mix(red, WHITE, 0.22))
    canvas.line(middle, mix(red, (40, 10, 10), 0.75), 0.018)
    canvas.draw.circle(canvas.place([corner])[0], 0.014 * canvas.unit, fill=dark)


def _draw_beard(canvas: Canvas, body: Anatomy) -> None:
    if canvas.person.beard == "none":
        return
    outline = body.outline()
    edge = outline[(outline[:, 1] > 0.12)] * (0.985, 1.01)
    right = edge[edge[:, 0] > 0]
    inner = [(body.width - 0.14, 0.22), (0.45, 0.45), (0.24, 0.4), (0, 0.385)]
    beard, draw = canvas.stencil()
    shape = np.concatenate([right, mirrored(right[::-1]), mirrored(inner), inner[::-1]])
    full = canvas.person.beard == "full"
    draw.polygon(canvas.place(shape, on_face=False), fill=225 if full else 70)
    draw.polygon(canvas.place(ellipse(0, 0.6, 0.25, 0.1)), fill=0)
    canvas.lay(mix(body.hair, BLACK, 0.12), beard, blur=0.03)


def _draw_mask(canvas: Canvas, body: Anatomy, rng: np.random.Generator) -> None:
    face = canvas.face
    top, bottom = {"nose_out": (0.4, 1.06), "mouth_out": (0.74, 1.2), "chin_out": (0.1, 0.76)}[face.mask_fit] if face.mask == "incorrect" else (0.08, 1.07)
    top, bottom = top + rng.uniform(-0.03, 0.03), bottom + rng.uniform(-0.02, 0.03)
    high, low = top + 0.12, bottom - 0.16
    edge = body.outline()
    edge = edge[edge[:, 0] > 0]

    def reach(y: float, share: float) -> float:
        return float(np.interp(y, edge[:, 1], edge[:, 0])) * share

    beak = 0.08 if face.mask_style == "three_panel" else 0.0
    right = [(0.16, top + 0.03 - beak), (reach(high, 0.88), high), (reach((high + low) / 2, 0.96), (high + low) / 2), (reach(low, 0.97), low), (reach(bottom, 0.7) + 0.06, bottom)]
    shape = smooth([(0, top - 0.02 - beak), *right, (0, bottom + 0.05), *mirrored(right[::-1])], closed=True)
    for side in (-1, 1):
        ear = (side * (body.width + 0.03), -0.05)
        for corner, anchor in ((right[1], ear), (right[3], (ear[0], 0.2))):
            canvas.line([(side * corner[0], corner[1]), anchor], mix(face.mask_color, (235, 235, 235), 0.55), 0.026, on_face=False)
    shadow, draw = canvas.stencil()
    draw.polygon(canvas.place(shape + (0.0, 0.035)), fill=120)
    canvas.lay(mix(canvas.person.skin, BLACK, 0.75), shadow, blur=0.04)
    stencil, draw = canvas.stencil()
    draw.polygon(canvas.place(shape), fill=255)
    ground = canvas.image
    canvas.show(canvas.lit(face.mask_color, bulge=1.15, fading=0.95))
    dark, light = mix(face.mask_color, BLACK, 0.28), mix(face.mask_color, WHITE, 0.4)
    height = bottom - top
    if face.mask_style == "surgical":
        for share in (0.3, 0.48, 0.66):
            y = top + share * height
            canvas.line(smooth([(-0.75, y - 0.05), (0, y + 0.03), (0.75, y - 0.05)]), dark, 0.02)
            canvas.line(smooth([(-0.75, y - 0.025), (0, y + 0.055), (0.75, y - 0.025)]), light, 0.014)
    elif face.mask_style == "three_panel":
        for y, bend in ((top + 0.3 * height, -0.12), (top + 0.7 * height, 0.12)):
            canvas.line(smooth([(-0.7, y), (0, y + bend), (0.7, y)]), dark, 0.024)
    else:
        canvas.line([(0, top - 0.1), (0.02, (top + bottom) / 2), (0, bottom + 0.1)], dark, 0.022)
        for x, y in rng.uniform((-0.7, top), (0.7, bottom), (int(rng.integers(0, 2)) * 40, 2)):
            canvas.disc(x, y, 0.022, light)
    canvas.line(shape[:12], light, 0.03)
    canvas.line(np.concatenate([shape, shape[:1]]), dark, 0.026)
    cloth = canvas.image
    canvas.show(ground)
    canvas.lay(cloth, stencil)


# style: volume over the head, how far down the sides reach, how far the fringe comes down, curls or not
HAIR = {
    "bald": (0.0, 0.0, 0.0, False), "buzz": (0.015, -0.08, 0.0, False), "short": (0.08, 0.0, 0.1, False),
    "swept": (0.13, -0.02, 0.03, False), "curly": (0.15, 0.1, 0.08, True), "bob": (0.13, 0.72, 0.16, False),
    "long": (0.11, 1.6, 0.05, False), "bun": (0.05, -0.02, 0.02, False),
}  # fmt: skip


def _draw_hair(canvas: Canvas, body: Anatomy) -> None:
    """The hair over the forehead and beside the face, in strands, some of them gray."""
    person = canvas.person
    rng = np.random.default_rng([person.seed, 1])
    volume, length, fringe, curl = HAIR[person.hair_style]
    stencil, draw = canvas.stencil()
    if person.hair_style == "bald" or body.recession > 0.8:
        for side in (-1, 1):
            patch = [(body.width - 0.07, -0.5), (body.width + 0.04, -0.4), (body.width + 0.05, -0.05), (body.width - 0.05, -0.02)]
            draw.polygon(canvas.place(smooth(np.array(patch) * (side, 1), closed=True), on_face=False), fill=210)
        canvas.lay(canvas.lit(body.hair), stencil, blur=0.015)
        return
    edge, part = body.width + volume, rng.uniform(-0.3, 0.3)
    back = 0.28 * body.recession
    line = -0.66 + fringe * (1 - body.recession) - 0.6 * back
    outer = [(edge - 0.01, length), (edge + 0.02, length * 0.5 - 0.15), (edge - 0.02, -0.48), (0.48, -0.95 - 0.8 * volume), (0, -1.05 - volume)]
    inner = [(body.width - 0.035, max(-0.12, length * 0.6)), (body.width - 0.05, -0.2), (0.6, -0.46 - back), (0.4, line - 1.1 * back)]
    low = np.array([(edge - 0.06, length + 0.03)])
    hairline = np.array([*inner, (part, line - 0.08), *mirrored(inner[::-1])])
    hairline[len(inner) - 1 : len(inner) + 2, 1] += rng.uniform(-0.04, 0.04, 3)
    shape = np.concatenate([smooth([*mirrored(outer), *outer[-2::-1]]), smooth([*low, *hairline, *mirrored(low)])])
    draw.polygon(canvas.place(shape, on_face=False), fill=255)
    if curl:
        for x, y in smooth([*mirrored(outer), *outer[-2::-1]])[::2]:
            draw.circle(canvas.place([(x, y)], on_face=False)[0], rng.uniform(0.08, 0.14) * canvas.unit, fill=255)
    ground = canvas.image
    canvas.show(canvas.lit(body.hair, bulge=0.9, fading=0.95))
    for angle in np.linspace(-1.5, 1.5, 44) + rng.normal(0, 0.03, 44):
        far = np.array((np.sin(angle) * (edge + 0.02), -0.35 - 0.75 * np.cos(angle)))
        tone = mix(person.hair_color, GRAY_HAIR, 0.9) if rng.random() < body.gray else person.hair_color
        tone = mix(tone, WHITE if rng.random() < 0.5 else BLACK, rng.uniform(0.0, 0.3))
        sway = rng.uniform(-0.05, 0.05, 2)
        points = [(part, -1.06 - volume), (0.5 * (part + far[0]) + sway[0], -0.95 + 0.2 * abs(angle)), far]
        points += [(far[0] * 1.02 + sway[1], 0.3), (far[0] * 0.98, 1.6)] if abs(angle) > 1.0 else []
        canvas.line(smooth(points), tone, rng.uniform(0.014, 0.035), on_face=False)
    hair = canvas.image
    canvas.show(ground)
    canvas.lay(hair, stencil, blur=0.02 if person.hair_style == "buzz" else 0.0)


def _draw_eyewear(canvas: Canvas) -> None:
    if canvas.face.eyewear == "none":
        return
    dark = canvas.face.eyewear == "sunglasses"
    frame = mix((30, 28, 30), (120, 76, 44), canvas.person.seed % 7 / 7)
    for side in (-1, 1):
        rim = ellipse(side * 0.325, -0.04, 0.215, 0.175)
        if dark:
            canvas.fill(rim, (34, 32, 38))
            canvas.line([(side * 0.25, -0.12), (side * 0.36, -0.16)], (90, 92, 104), 0.035)
        canvas.line(np.concatenate([rim, rim[:2]]), frame, 0.03)
        canvas.line([(side * 0.535, -0.08), (side * 0.78, -0.1)], frame, 0.03)
    canvas.line(smooth([(-0.11, -0.06), (0, -0.09), (0.11, -0.06)]), frame, 0.03)


def _draw_occlusion(canvas: Canvas, body: Anatomy, rng: np.random.Generator) -> None:
    occlusion, side = canvas.face.occlusion, 1 if rng.random() < 0.5 else -1
    if occlusion == "hat":
        color = tuple(int(level) for level in rng.integers(30, 190, 3))
        cloth = (color[0], color[1], color[2])
        edge = body.width + 0.1
        dome = smooth([(-edge, -0.42), (-edge + 0.04, -0.8), (-0.45, -1.2), (0, -1.3), (0.45, -1.2), (edge - 0.04, -0.8), (edge, -0.42)])
        stencil, draw = canvas.stencil()
        draw.polygon(canvas.place(np.concatenate([dome, smooth([(edge, -0.42), (0, -0.6), (-edge, -0.42)])]), on_face=False), fill=255)
        canvas.lay(canvas.lit(cloth, bulge=0.85), stencil)
        canvas.line(smooth([(-edge, -0.44), (0, -0.62), (edge, -0.44)]), mix(cloth, BLACK, 0.35), 0.09, on_face=False)
    elif occlusion == "strand":
        for _ in range(5):
            x, end = rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.65)
            lock = np.array([(x * 0.5, -0.85), (x + 0.1, -0.4), (end, 0.0), (end + rng.uniform(-0.2, 0.1), 0.5)])
            canvas.line(smooth(lock * (side, 1)), mix(body.hair, BLACK, rng.uniform(0, 0.3)), 0.035, on_face=False)
    elif occlusion == "hand":
        wrist = np.array((side * 0.75, 1.35))
        for finger in range(4):
            tip = np.array((side * (0.1 + 0.16 * finger), 0.62 - 0.06 * finger + rng.uniform(-0.04, 0.04)))
            for color, width in ((mix(canvas.person.skin, (80, 36, 26), 0.4), 0.17), (mix(canvas.person.skin, BLACK, 0.06), 0.145)):
                canvas.line([tip, tip * 0.4 + wrist * 0.6], color, width, on_face=False)
                canvas.disc(*tip, width / 2, color, on_face=False)
        canvas.fill(ellipse(*(wrist - (side * 0.16, 0.1)), 0.34, 0.38), mix(canvas.person.skin, BLACK, 0.06), on_face=False)


def _photograph(canvas: Canvas, rng: np.random.Generator, size: int) -> Image.Image:
    """Blur, shrink, and lay on the light's warmth, a falling-off of the light, and the sensor's noise."""
    face, light = canvas.face, canvas.face.light
    image = canvas.image.filter(ImageFilter.GaussianBlur(face.blur * canvas.side)) if face.blur * size > 0.15 else canvas.image
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32)
    place = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    falloff = light.gain * (1 + 0.22 * (light.x * place[None, :] + light.y * place[:, None]))
    pixels = pixels * falloff[..., None] * np.array([1 + light.warmth, 1, 1 - light.warmth], dtype=np.float32)
    pixels += rng.normal(0, face.noise, (size, size, 1)) + rng.normal(0, face.noise / 2, (size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def ellipse(x: float, y: float, half_width: float, half_height: float) -> FloatArray:
    """Points around an ellipse, [24, 2]."""
    angle = np.linspace(0, 2 * pi, 24, endpoint=False)
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1)
