"""Render a mask onto a face, with the light, blur and noise of the photograph."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from ssl_pipeline.synthetic.masks.appearance import LUMA, Appearance, FloatImage, estimate_appearance
from ssl_pipeline.synthetic.masks.head_pose import CHIN, HeadPose, Landmarks, fit_pose, half_width
from ssl_pipeline.synthetic.masks.parameters import MaskParameters
from ssl_pipeline.synthetic.masks.shapes import COLUMNS, ROWS, MaskShape, shape_mask
from ssl_pipeline.synthetic.masks.textures import WIDTH, cover, draw_cloth

_SUPERSAMPLING_SIDE = 200  # masks narrower than this are drawn at twice the size
_LIGHT_DIRECTION = np.array([0.0, -0.45, 0.9])
MIN_VISIBLE_SHARE = 1 / 3
"""Smallest share of a mask's sheet that must lie inside the picture; with less, the mask's label would be wrong."""


class NoMask(Exception):  # noqa: N818 - callers count such pictures; it is no fault of the program
    """A picture shows nothing, or too little, of its mask; the message is the reason."""


@dataclass(frozen=True)
class _Layer:
    """A layer over a part of the picture: color float32 [h, w, 3], opacity float32 [h, w] from 0 to 1, position."""

    color: FloatImage
    opacity: FloatImage
    left: int
    top: int


def render_mask(image: Image.Image, landmarks: Landmarks, mask: MaskParameters) -> Image.Image:
    """Render a mask onto the face in a picture; the same inputs give the same pixels.

    Args:
        image: mode RGB.
        landmarks: in pixels of `image`.
        mask: its parameters.

    Returns:
        RGB, the same size. Pixels away from the mask, its loops and its shadow are unchanged.

    Raises:
        NoMask: if less than `MIN_VISIBLE_SHARE` of the mask lies inside the picture, if nothing opaque was drawn, or if
            the mask leaves the chin bare and the chin lies outside of the picture.
    """
    rng = np.random.default_rng(mask.seed)
    pose, shape = fit_pose(landmarks), shape_mask(mask)
    pixels = np.asarray(image, dtype=np.float32)
    skin = _skin_area(pose, pixels.shape[:2])
    appearance = estimate_appearance(pixels, skin, eyes=pose.origin, eye_distance=pose.scale)
    layer = _render_layer(shape, pose, appearance, mask, rng, pixels)
    return _composite(image, pixels, layer, appearance, pose, rng)


def _skin_area(pose: HeadPose, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the area that is certainly skin, from under the eyes to the chin; bool [H, W]."""
    y = np.linspace(0.15, 1.55, 8)
    x, z = half_width(y) * 0.72, np.full(8, -0.1)
    rim = np.concatenate([np.stack([x, y, z], axis=1), np.stack([-x, y, z], axis=1)[::-1]])
    stencil = Image.new("1", size[::-1])
    ImageDraw.Draw(stencil).polygon(pose.project(rim).ravel().tolist(), fill=1)
    face = np.array(stencil)
    if not face.any():
        face[:] = True
    return face


def _render_layer(
    shape: MaskShape,
    pose: HeadPose,
    appearance: Appearance,
    mask: MaskParameters,
    rng: np.random.Generator,
    pixels: FloatImage,
) -> _Layer:
    """Render mask and loops for the part of the picture that contains them.

    Raises:
        NoMask: see `render_mask`.
    """
    corners, loops = pose.project(shape.sheet), pose.project(shape.loops)
    is_inside = ((corners >= 0) & (corners < pixels.shape[1::-1])).all(axis=-1)
    if is_inside.mean() < MIN_VISIBLE_SHARE:
        raise NoMask("the mask lies outside of the picture")
    chin = pose.project(np.array(CHIN))
    if mask.way == "chin_out" and not ((chin >= 0) & (chin < pixels.shape[1::-1])).all():
        raise NoMask("the chin that the mask leaves bare lies outside of the picture")
    points = np.concatenate([corners.reshape(-1, 2), loops.reshape(-1, 2)])
    margin = 0.35 * pose.scale + 4 * appearance.blur
    left, top = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(points.max(axis=0) + margin), pixels.shape[1::-1]).astype(int).tolist()
    factor = 2 if np.ptp(corners[..., 0]) < _SUPERSAMPLING_SIDE else 1
    window = (right - left) * factor, (bottom - top) * factor
    rgba = _render_sheet(shape, (corners - (left, top)) * factor, pose, mask, rng, window)
    if not (rgba[..., 3] > 0.5).any():  # degenerate triangles, or the sheet turned away from the camera
        raise NoMask("nothing of the mask is visible")
    loops_opacity = _render_loops(shape, (loops - (left, top)) * factor, pose, mask, window, pose.scale * factor)
    rows, columns = np.nonzero(loops_opacity)
    visibility = _loop_visibility(pixels[top:bottom, left:right], appearance)[rows // factor, columns // factor]
    loop_share = (loops_opacity[rows, columns] * visibility * (1 - rgba[rows, columns, 3]))[:, None]
    rgba[rows, columns] += loop_share * np.array([*(0.9 * band for band in mask.loop_color), 1], np.float32)
    if factor == 2:
        rgba = 0.25 * (rgba[::2, ::2] + rgba[::2, 1::2] + rgba[1::2, ::2] + rgba[1::2, 1::2])
    blurred = np.asarray(
        ndimage.gaussian_filter(rgba, (appearance.blur, appearance.blur, 0), truncate=3.0), dtype=np.float32
    )
    opacity = np.clip(blurred[..., 3], 0, 1)
    color = blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-3)
    return _Layer(color.astype(np.float32), opacity, left, top)


def _render_sheet(
    shape: MaskShape,
    corners: npt.NDArray[np.float64],
    pose: HeadPose,
    mask: MaskParameters,
    rng: np.random.Generator,
    window: tuple[int, int],
) -> FloatImage:
    """Map the cloth onto the sheet, one affine map per triangle; nearer triangles hide farther ones.

    Returns:
        float32 [h, w, 4], color premultiplied by opacity, and opacity.
    """
    normals = _normals(shape.sheet)
    camera = np.vstack([pose.matrix / pose.scale, pose.view])
    light = np.clip(normals @ (_LIGHT_DIRECTION @ camera), 0, 1)
    u, v = np.meshgrid(np.linspace(0, 1, COLUMNS), np.linspace(0, 1, ROWS))
    values = np.stack([u, v, 0.6 + 0.42 * light], axis=-1).reshape(-1, 3)
    vertices = corners.reshape(-1, 2)
    depth, facing = (shape.sheet @ pose.view).ravel(), (normals @ pose.view).ravel()
    triangles = _TRIANGLES[facing[_TRIANGLES].mean(axis=1) > 0]
    triangles = triangles[np.argsort(depth[triangles].mean(axis=1), kind="stable")]
    matrix = np.concatenate([vertices[triangles], np.ones((len(triangles), 3, 1))], axis=-1)
    has_area = np.abs(np.linalg.det(matrix)) > 1e-2
    triangles, matrix = triangles[has_area], matrix[has_area]
    maps = np.linalg.solve(matrix, values[triangles]).astype(np.float32)
    layer = Image.new("I", window)
    draw = ImageDraw.Draw(layer)
    for number, triangle in enumerate(vertices[triangles].reshape(-1, 6).tolist(), start=1):
        draw.polygon(triangle, fill=number)
    numbers = np.asarray(layer).ravel()
    filled = np.flatnonzero(numbers)
    triangle_ids = numbers[filled] - 1
    x, y = (filled % window[0]).astype(np.float32), (filled // window[0]).astype(np.float32)
    # planes[0..2, k]: per triangle, the slopes of value k (u, v, light) along x and y, and its offset
    planes = np.ascontiguousarray(maps.transpose(1, 2, 0))
    u_at, v_at, light_at = (
        planes[0, k][triangle_ids] * x + planes[1, k][triangle_ids] * y + planes[2, k][triangle_ids] for k in range(3)
    )
    cloth = _cloth(mask, rng, width=float(np.ptp(vertices[:, 0])))
    height, width = cloth.shape[:2]
    row, column = (v_at * height).astype(np.int32), (u_at * width).astype(np.int32)
    indices = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
    texels = cloth.reshape(-1, 4)[indices]
    texels[:, :3] *= (light_at * texels[:, 3])[:, None]
    pixels = np.zeros((window[1] * window[0], 4), np.float32)
    pixels[filled] = texels
    return pixels.reshape(window[1], window[0], 4)


def _cloth(mask: MaskParameters, rng: np.random.Generator, *, width: float) -> FloatImage:
    """Return the lit color and the opacity of the cloth, float32 [h, w, 4], enlarged for pictures above its size."""
    cloth = np.dstack([draw_cloth(mask, rng), cover(mask.kind)])
    if width > 2 * WIDTH:
        cloth = ndimage.zoom(cloth, (width / WIDTH, width / WIDTH, 1), order=1)
    return cloth


def _render_loops(
    shape: MaskShape,
    loops: npt.NDArray[np.float64],
    pose: HeadPose,
    mask: MaskParameters,
    window: tuple[int, int],
    unit: float,
) -> FloatImage:
    """Render the opacity of the ear loops, up to where the head hides them; float32 [h, w], 0 to 1."""
    outward = shape.loops * (1, 0, 1) - (0, 0, -0.95)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    hidden = outward @ pose.view < 0.08
    layer = Image.new("L", window)
    draw = ImageDraw.Draw(layer)
    width = max(1, round(mask.loop_width * unit))
    for line, is_hidden in zip(loops, hidden, strict=True):
        end = int(np.argmax(is_hidden)) if is_hidden.any() else len(line)
        for start in range(end - 1):
            opacity = min(235, 90 * (end - 1 - start))  # fades out behind the ear
            draw.line(line[start : start + 2].ravel().tolist(), fill=opacity, width=width)
    return np.asarray(layer, dtype=np.float32) * np.float32(1 / 255)


def _loop_visibility(pixels: FloatImage, appearance: Appearance) -> FloatImage:
    """Return the visibility of loops, 0 to 1; pixels much darker than the skin count as hair in front of them."""
    luma = ndimage.uniform_filter(pixels @ LUMA, 3)
    return np.asarray(np.clip((luma / appearance.skin_luma - 0.3) / 0.25, 0.15, 1), dtype=np.float32)


def _composite(
    image: Image.Image,
    pixels: FloatImage,
    layer: _Layer,
    appearance: Appearance,
    pose: HeadPose,
    rng: np.random.Generator,
) -> Image.Image:
    """Composite the mask with the picture's light, colors and noise, and with its shadow."""
    height, width = layer.opacity.shape
    part = np.s_[layer.top : layer.top + height, layer.left : layer.left + width]
    background, opacity = pixels[part], layer.opacity[..., None]
    lit = layer.color * appearance.exposure.astype(np.float32) * appearance.shade[part][..., None]
    lit += appearance.gray * (lit @ LUMA[:, None] - lit)
    bright = lit > 225  # cameras compress the brightest tones
    lit[bright] = 225 + 30 * np.tanh((lit[bright] - 225) / 30)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)).astype(np.float32), 0.5) * 1.6 * appearance.noise
    lit += grain[..., None]
    blurred = Image.fromarray((layer.opacity * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(0.07 * pose.scale)
    )
    drop = round(0.04 * pose.scale)
    shadow = np.zeros((height, width, 1), np.float32)
    shadow[drop:, :, 0] = np.asarray(blurred, dtype=np.float32)[: height - drop] / 255
    shaded = background * (1 - 0.38 * shadow * (1 - opacity))
    result = np.array(image)
    result[part] = np.clip(shaded * (1 - opacity) + lit * opacity + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(result)


def _normals(sheet: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return unit normals [ROWS, COLUMNS, 3] that point away from the face."""
    normals = np.cross(np.gradient(sheet, axis=1), np.gradient(sheet, axis=0))
    return np.asarray(normals / np.linalg.norm(normals, axis=-1, keepdims=True))


def _triangulate() -> npt.NDArray[np.int64]:
    """Return the vertex numbers of the sheet's triangles, [2 · (ROWS - 1) · (COLUMNS - 1), 3]."""
    number = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = number[:-1, :-1].ravel(), number[:-1, 1:].ravel(), number[1:, :-1].ravel(), number[1:, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])


_TRIANGLES = _triangulate()
