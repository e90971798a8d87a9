"""Draw one face from its parameters with Pillow, part by part, in the head frame of `canvas`."""

import numpy as np
from PIL import Image

from ssl_pipeline.synthetic.people.anatomy import Anatomy
from ssl_pipeline.synthetic.people.canvas import (
    BLACK,
    WHITE,
    Canvas,
    draw_background,
    ellipse,
    mirrored,
    mix,
    photograph,
    smooth,
)
from ssl_pipeline.synthetic.people.occluders import draw_eyewear, draw_hair, draw_hair_behind, draw_mask, draw_occlusion
from ssl_pipeline.synthetic.people.parameters import DrawnFace

MIN_SIZE = 16

# Shades that give the face relief: x, y, half width, half height, depth of the shade (0 to 255), increase with age.
SHADES = (
    (0.3, -0.12, 0.19, 0.12, 80, 0), (0.58, 0.5, 0.12, 0.2, 20, 60), (0.31, 0.07, 0.12, 0.035, 20, 95),
    (0.0, 0.33, 0.13, 0.04, 80, 0), (0.0, 0.73, 0.13, 0.035, 70, 0),
)  # fmt: skip
# Wrinkles on one side of the face: points, depth, width.
FOLDS = (
    (((0.46, -0.13), (0.55, -0.19), (0.62, -0.21)), 0.8, 0.016),
    (((0.46, -0.08), (0.55, -0.09), (0.63, -0.07)), 0.8, 0.016),
    (((0.46, -0.03), (0.55, 0.01), (0.62, 0.07)), 0.8, 0.016),
    (((0.13, 0.28), (0.25, 0.4), (0.3, 0.55), (0.28, 0.66)), 1.1, 0.022),
    (((0.24, 0.66), (0.27, 0.76), (0.25, 0.84)), 0.7, 0.018),
    (((0.2, 0.08), (0.31, 0.12), (0.42, 0.07)), 0.9, 0.016),
    (((0.05, -0.36), (0.06, -0.28)), 0.7, 0.016),
)
EAR = np.array([(-0.03, -0.16), (0.07, -0.2), (0.1, -0.06), (0.06, 0.16), (0.0, 0.26), (-0.05, 0.2)])
UPPER_LID = np.array([(-1.1, 0.16), (-0.5, -0.5), (0.15, -0.62), (0.75, -0.3), (1.15, 0.05)])
LOWER_LID = np.array([(1.15, 0.05), (0.6, 0.42), (0, 0.5), (-0.6, 0.4), (-1.1, 0.16)])


def draw_face(face: DrawnFace, *, size: int = 128) -> Image.Image:
    """Draw one picture; the same face and size give the same pixels.

    Args:
        face: its parameters.
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
    anatomy = Anatomy.of(face.person)
    draw_background(canvas, rng)
    _draw_shoulders(canvas, anatomy)
    draw_hair_behind(canvas, anatomy)
    _draw_head(canvas, anatomy)
    _draw_skin_marks(canvas, anatomy)
    _draw_eyes(canvas, anatomy)
    _draw_nose_and_mouth(canvas, anatomy)
    _draw_beard(canvas, anatomy)
    if face.mask != "normal":
        draw_mask(canvas, anatomy, rng)
    draw_hair(canvas, anatomy)
    draw_eyewear(canvas)
    draw_occlusion(canvas, anatomy, rng)
    return photograph(canvas, rng, size)


def _draw_shoulders(canvas: Canvas, anatomy: Anatomy) -> None:
    wide = 0.75 + anatomy.jaw
    right = [(0.36, 1.14), (0.62, 1.28), (wide, 1.42), (wide + 0.25, 1.75), (wide + 0.35, 2.9)]
    stencil, _ = canvas.stencil(smooth([*mirrored(right[::-1]), *right]), on_face=False)
    canvas.paint_lit(canvas.face.clothes_color, stencil, bulge=0.45)


def _draw_head(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw the neck, its shade under the chin, the ears, and the face's skin."""
    skin = canvas.person.skin
    neck = anatomy.jaw - 0.1
    right = [(neck, 0.55), (neck - 0.01, 1.05), (neck + 0.07, 1.25), (0.16, 1.42)]
    stencil, _ = canvas.stencil([*right, *mirrored(right[::-1])], on_face=False)
    canvas.paint_lit(skin, stencil, bulge=0.5, fading=1.28)
    canvas.fill(anatomy.outline() * (0.85, 0.5) + (0, 0.6), mix(skin, (70, 34, 24), 0.42), on_face=False)
    for side in (-1, 1):
        ear = smooth(EAR, closed=True)
        stencil, _ = canvas.stencil((ear + np.array((anatomy.width, 0))) * (side, 1), on_face=False)
        canvas.paint_lit(skin, stencil, fading=0.85)
        shade = mix(skin, (90, 40, 30), 0.45)
        canvas.line((ear[6:22] * 0.6 + (anatomy.width, 0.02)) * (side, 1), shade, 0.022, on_face=False)
        if canvas.person.earrings:
            canvas.disc(side * (anatomy.width + 0.01), 0.3, 0.042, (226, 196, 112), on_face=False)
    stencil, _ = canvas.stencil(anatomy.outline(), on_face=False)
    canvas.paint_lit(skin, stencil)


def _draw_skin_marks(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw soft shades that give the face relief, blush, and signs of age: folds, bags under the eyes, spots."""
    rng = np.random.default_rng(canvas.person.seed)
    skin = canvas.person.skin
    (soft, draw_soft), (blush, draw_blush), (fine, draw_fine) = (canvas.stencil() for _ in range(3))
    forehead = np.linspace(-0.4, 0.4, 5)
    rows = [np.stack([forehead, y + rng.uniform(-0.03, 0.03, 5)], axis=1) for y in (-0.46, -0.55, -0.64)]
    folds = [(row, 0.8, 0.016) for row in rows]
    for side in (-1, 1):
        for x, y, half_width, half_height, depth, with_age in SHADES:
            shape = canvas.to_pixels(ellipse(side * x, y, half_width, half_height))
            draw_soft.polygon(shape, fill=int(depth + with_age * anatomy.old))
        beside_nose = 70 if side * canvas.face.light.x < 0 else 25
        draw_soft.polygon(canvas.to_pixels(ellipse(side * 0.1, 0.05, 0.04, 0.2)), fill=beside_nose)
        cheek = canvas.to_pixels(ellipse(side * 0.42, 0.25, 0.16, 0.12))
        draw_blush.polygon(cheek, fill=int(40 + 50 * canvas.person.makeup))
        folds += [(np.array(points) * (side, 1), strength, width) for points, strength, width in FOLDS]
    for points, strength, width in folds:
        depth = int(np.clip(150 * anatomy.wrinkles * strength * rng.uniform(0.6, 1.3), 0, 170))
        draw_fine.line(
            canvas.to_pixels(smooth(points)), fill=depth, width=max(1, round(width * canvas.unit)), joint="curve"
        )
    for _ in range(int(max(0.0, anatomy.old - 0.5) * 24)):
        spot = canvas.to_pixels([rng.uniform((-0.6, -0.75), (0.6, 0.5))])
        draw_fine.circle(spot, rng.uniform(0.012, 0.035) * canvas.unit, fill=45)
    canvas.paint(mix(skin, (90, 30, 20), 0.62), soft, blur=0.07)
    canvas.paint(mix(skin, (214, 70, 64), 0.55), blush, blur=0.1)
    canvas.paint(mix(skin, (60, 24, 16), 0.75), fine, blur=0.008)


def _draw_eyes(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw eyes and brows; in old age the upper lid droops over the iris."""
    person, size = canvas.person, anatomy.eye
    drop = np.array([0.0, 0.05, 0.15, 0.25, 0.1])[:, None] * (0, anatomy.old)
    light = 0.025 if canvas.face.light.x > 0 else -0.025
    for side in (-1, 1):
        center = np.array((side * 0.315, -0.08))
        upper = smooth(UPPER_LID + drop) * (side * size, size) + center
        lower = smooth(LOWER_LID + drop[4] * [[1], [0], [0], [0], [0]]) * (side * size, size) + center
        almond, _ = canvas.stencil(np.concatenate([upper, lower]))
        background = canvas.image
        canvas.draw_on(Image.new("RGB", background.size, mix((238, 234, 230), person.skin, 0.18)))
        iris_x, iris_y = center[0] + canvas.face.pose.yaw_degrees * 0.0012, center[1] - 0.01
        canvas.disc(iris_x, iris_y, size * 0.52, mix(person.eye_color, BLACK, 0.35))
        canvas.disc(iris_x, iris_y, size * 0.42, person.eye_color)
        canvas.disc(iris_x, iris_y, size * 0.23, BLACK)
        canvas.disc(iris_x + light, iris_y - 0.035, 0.018, WHITE)
        eye = canvas.image
        canvas.draw_on(background)
        canvas.paint(eye, almond)
        canvas.line(upper, mix(person.skin, BLACK, 0.8), 0.022 + 0.024 * person.makeup)
        canvas.line(lower, mix(person.skin, (80, 40, 30), 0.5), 0.012)
        canvas.line(upper[4:-4] - (0, 0.055), mix(person.skin, (70, 30, 20), 0.45), 0.014)
        _draw_brow(canvas, anatomy, side)


def _draw_brow(canvas: Canvas, anatomy: Anatomy, side: int) -> None:
    arch = 0.05 - 0.6 * (anatomy.brow - 0.04)
    middle = smooth([(0.14, 0.0), (0.27, -0.4 * arch), (0.41, -arch), (0.53, 0.03)]) + np.array((0, anatomy.brow_y))
    thick = max(anatomy.brow, 0.014) * np.linspace(0.9, 0.25, len(middle))[:, None] * (0, 1)
    brow, _ = canvas.stencil(np.concatenate([middle - thick, (middle + thick * 0.7)[::-1]]) * (side, 1))
    color = mix(mix(anatomy.hair, BLACK, 0.3 * (1 - anatomy.gray)), canvas.person.skin, 0.22)
    canvas.paint(color, brow, blur=0.008)


def _draw_nose_and_mouth(canvas: Canvas, anatomy: Anatomy) -> None:
    person, wide = canvas.person, anatomy.nose
    dark = mix(person.skin, (70, 24, 18), 0.68)
    shine, draw = canvas.stencil()
    draw.polygon(canvas.to_pixels(ellipse(0, 0.02, 0.025, 0.2)), fill=70)
    draw.polygon(canvas.to_pixels(ellipse(0, 0.24, 0.05, 0.04)), fill=110)
    canvas.paint(mix(person.skin, WHITE, 0.6), shine, blur=0.025)
    wing = smooth([(wide, 0.2), (wide + 0.035, 0.26), (wide + 0.01, 0.315), (wide - 0.03, 0.31)])
    for side in (-1, 1):
        canvas.line(wing * (side, 1), mix(person.skin, dark, 0.6), 0.018)
        canvas.fill(ellipse(side * wide * 0.52, 0.315, 0.036, 0.018), dark)
    full, half = max(anatomy.lips, 0.02), 0.225 + 0.03 * canvas.face.smile
    corner = np.array((half, 0.56 - 0.05 * canvas.face.smile))
    left = mirrored(corner)
    bow = [(0.11, 0.555 - 0.75 * full), (0.045, 0.555 - full)]
    middle = smooth([left, (-0.1, 0.565), (0, 0.575), (0.1, 0.565), corner])
    top = smooth([corner, *bow, (0, 0.565 - 0.8 * full), *mirrored(bow[::-1]), left])
    bottom = smooth([corner, (0.12, 0.58 + full), (0, 0.585 + 1.25 * full), (-0.12, 0.58 + full), left])
    red = mix(mix(person.skin, (168, 66, 66), 0.48 - 0.2 * anatomy.old), (186, 34, 58), 0.6 * person.makeup)
    canvas.fill(np.concatenate([middle, top]), mix(red, BLACK, 0.14))
    canvas.fill(np.concatenate([middle, bottom]), red)
    canvas.fill(ellipse(0.02, 0.6 + 0.5 * full, 0.07, 0.14 * full), mix(red, WHITE, 0.22))
    canvas.line(middle, mix(red, (40, 10, 10), 0.75), 0.018)


def _draw_beard(canvas: Canvas, anatomy: Anatomy) -> None:
    if canvas.person.beard == "none":
        return
    edge = anatomy.right_edge()
    edge = edge[edge[:, 1] > 0.12] * (0.985, 1.01)
    inner = [(anatomy.width - 0.14, 0.22), (0.45, 0.45), (0.24, 0.4), (0, 0.385)]
    shape = np.concatenate([edge, mirrored(edge[::-1]), mirrored(inner), inner[::-1]])
    beard, draw = canvas.stencil()
    draw.polygon(canvas.to_pixels(shape, on_face=False), fill=225 if canvas.person.beard == "full" else 70)
    draw.polygon(canvas.to_pixels(ellipse(0, 0.6, 0.25, 0.1)), fill=0)
    canvas.paint(mix(anatomy.hair, BLACK, 0.12), beard, blur=0.03)
