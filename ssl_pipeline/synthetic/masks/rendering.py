"""Putting a mask on a face: its sheet is laid over the head piece by piece, lit, blurred and grained like the picture."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from ssl_pipeline.synthetic.masks.head import HeadPose, Landmarks, fit_pose, half_width
from ssl_pipeline.synthetic.masks.host import LUMA, FloatImage, Host, look_at
from ssl_pipeline.synthetic.masks.parameters import MaskParameters
from ssl_pipeline.synthetic.masks.shapes import COLUMNS, ROWS, MaskShape, shape_mask
from ssl_pipeline.synthetic.masks.textures import WIDTH, draw_cloth, outline

_SUPERSAMPLING_SIDE = 200  # masks narrower than this are drawn at twice the size
_LIGHT_FROM = np.array([0.0, -0.45, 0.9])


@dataclass(frozen=True)
class _Layer:
    """What is laid over a part of the picture: color float32 [h, w, 3], cover float32 [h, w] from 0 to 1, where."""

    color: FloatImage
    cover: FloatImage
    left: int
    top: int


def put_mask(image: Image.Image, landmarks: Landmarks, mask: MaskParameters) -> Image.Image:
    """Put a mask on the face in a picture; the same picture, landmarks and parameters give the same pixels.

    Args:
        image: mode RGB.
        landmarks: in pixels of `image`.
        mask: what to draw.

    Returns:
        RGB, the same size. Pixels away from the mask, its loops and its shadow are unchanged.
    """
    rng = np.random.default_rng(mask.seed)
    pose, shape = fit_pose(landmarks), shape_mask(mask)
    pixels = np.asarray(image, dtype=np.float32)
    host = look_at(pixels, _skin(pose, pixels.shape[:2]), eyes=pose.origin, unit=pose.scale)
    layer = _draw(shape, pose, host, mask, rng, pixels)
    if layer is None:
        return image.copy()
    return _composited(image, pixels, layer, host, pose, rng)


def _skin(pose: HeadPose, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where the face's skin is surely to be found, from under the eyes to the chin."""
    y = np.linspace(0.15, 1.55, 8)
    x, z = half_width(y) * 0.72, np.full(8, -0.1)
    rim = np.concatenate([np.stack([x, y, z], axis=1), np.stack([-x, y, z], axis=1)[::-1]])
    stencil = Image.new("1", size[::-1])
    ImageDraw.Draw(stencil).polygon(pose.place(rim).ravel().tolist(), fill=1)
    face = np.array(stencil)
    if not face.any():
        face[:] = True
    return face


def _draw(
    shape: MaskShape,
    pose: HeadPose,
    host: Host,
    mask: MaskParameters,
    rng: np.random.Generator,
    pixels: FloatImage,
) -> _Layer | None:
    """Draw mask and loops for the part of the picture that they lie in; None if they lie outside of it."""
    corners, loops = pose.place(shape.sheet), pose.place(shape.loops)
    everything = np.concatenate([corners.reshape(-1, 2), loops.reshape(-1, 2)])
    margin = 0.35 * pose.scale + 4 * host.blur
    left, top = np.maximum(np.floor(everything.min(axis=0) - margin), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(everything.max(axis=0) + margin), pixels.shape[1::-1]).astype(int).tolist()
    if right - left < 2 or bottom - top < 2:
        return None
    factor = 2 if np.ptp(corners[..., 0]) < _SUPERSAMPLING_SIDE else 1
    window = (right - left) * factor, (bottom - top) * factor
    whole = _sheet_pixels(shape, (corners - (left, top)) * factor, pose, mask, rng, window)
    loops_cover = _loop_pixels(shape, (loops - (left, top)) * factor, pose, mask, window, pose.scale * factor)
    rows, columns = np.nonzero(loops_cover)
    shown = _not_under_hair(pixels[top:bottom, left:right], host)[rows // factor, columns // factor]
    under = (loops_cover[rows, columns] * shown * (1 - whole[rows, columns, 3]))[:, None]
    whole[rows, columns] += under * np.array([*(0.9 * band for band in mask.loop_color), 1], np.float32)
    if factor == 2:
        whole = 0.25 * (whole[::2, ::2] + whole[::2, 1::2] + whole[1::2, ::2] + whole[1::2, 1::2])
    blurred = np.asarray(ndimage.gaussian_filter(whole, (host.blur, host.blur, 0), truncate=3.0), dtype=np.float32)
    covered = np.clip(blurred[..., 3], 0, 1)
    color = blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-3)
    return _Layer(color.astype(np.float32), covered, left, top)


def _sheet_pixels(
    shape: MaskShape,
    corners: npt.NDArray[np.float64],
    pose: HeadPose,
    mask: MaskParameters,
    rng: np.random.Generator,
    window: tuple[int, int],
) -> FloatImage:
    """Lay the cloth over the sheet, triangle by triangle, each by its own affine map; what is nearer hides the rest.

    Returns:
        float32 [h, w, 4], the color times the cover, and the cover.
    """
    normals = _normals(shape.sheet)
    camera = np.vstack([pose.matrix / pose.scale, pose.toward])
    light = np.clip(normals @ (_LIGHT_FROM @ camera), 0, 1)
    u, v = np.meshgrid(np.linspace(0, 1, COLUMNS), np.linspace(0, 1, ROWS))
    values = np.stack([u, v, 0.6 + 0.42 * light], axis=-1).reshape(-1, 3)
    places = corners.reshape(-1, 2)
    depth, facing = (shape.sheet @ pose.toward).ravel(), (normals @ pose.toward).ravel()
    triangles = _TRIANGLES[facing[_TRIANGLES].mean(axis=1) > 0]
    triangles = triangles[np.argsort(depth[triangles].mean(axis=1), kind="stable")]
    matrix = np.concatenate([places[triangles], np.ones((len(triangles), 3, 1))], axis=-1)
    solid = np.abs(np.linalg.det(matrix)) > 1e-2
    triangles, matrix = triangles[solid], matrix[solid]
    maps = np.linalg.solve(matrix, values[triangles]).astype(np.float32)
    layer = Image.new("I", window)
    draw = ImageDraw.Draw(layer)
    for number, triangle in enumerate(places[triangles].reshape(-1, 6).tolist(), start=1):
        draw.polygon(triangle, fill=number)
    numbers = np.asarray(layer).ravel()
    filled = np.flatnonzero(numbers)
    own, x, y = numbers[filled] - 1, (filled % window[0]).astype(np.float32), (filled // window[0]).astype(np.float32)
    # planes[0..2, k]: how value k (u, v, light) of each triangle changes along x and along y, and its offset
    planes = np.ascontiguousarray(maps.transpose(1, 2, 0))
    u_at, v_at, lit = (planes[0, k][own] * x + planes[1, k][own] * y + planes[2, k][own] for k in range(3))
    cloth = _cloth(mask, rng, width=float(np.ptp(places[:, 0])))
    height, width = cloth.shape[:2]
    row, column = (v_at * height).astype(np.int32), (u_at * width).astype(np.int32)
    texel = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
    picked = cloth.reshape(-1, 4)[texel]
    picked[:, :3] *= (lit * picked[:, 3])[:, None]
    pixels = np.zeros((window[1] * window[0], 4), np.float32)
    pixels[filled] = picked
    return pixels.reshape(window[1], window[0], 4)


def _cloth(mask: MaskParameters, rng: np.random.Generator, *, width: float) -> FloatImage:
    """Color, lit, and cover of the cloth, float32 [h, w, 4]; enlarged where the picture is larger than the texture."""
    cloth = np.dstack([draw_cloth(mask, rng), outline(mask.kind)])
    if width > 2 * WIDTH:
        cloth = ndimage.zoom(cloth, (width / WIDTH, width / WIDTH, 1), order=1)
    return cloth


def _loop_pixels(
    shape: MaskShape,
    loops: npt.NDArray[np.float64],
    pose: HeadPose,
    mask: MaskParameters,
    window: tuple[int, int],
    unit: float,
) -> FloatImage:
    """Draw the ear loops, as far as the head does not hide them."""
    outward = shape.loops * (1, 0, 1) - (0, 0, -0.95)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    hidden = outward @ pose.toward < 0.08
    layer = Image.new("L", window)
    draw = ImageDraw.Draw(layer)
    width = max(1, round(mask.loop_width * unit))
    for line, gone in zip(loops, hidden, strict=True):
        last = int(np.argmax(gone)) if gone.any() else len(line)
        for start in range(last - 1):  # fading where it goes behind the ear
            shown = min(235, 90 * (last - 1 - start))
            draw.line(line[start : start + 2].ravel().tolist(), fill=shown, width=width)
    return np.asarray(layer, dtype=np.float32) * np.float32(1 / 255)


def _not_under_hair(pixels: FloatImage, host: Host) -> FloatImage:
    """How far loops show, 0 to 1: what is much darker than the skin is taken for hair that hangs over them."""
    luma = ndimage.uniform_filter(pixels @ LUMA, 3)
    return np.asarray(np.clip((luma / host.skin_luma - 0.3) / 0.25, 0.15, 1), dtype=np.float32)


def _composited(
    image: Image.Image, pixels: FloatImage, layer: _Layer, host: Host, pose: HeadPose, rng: np.random.Generator
) -> Image.Image:
    """Lay the mask on, under the picture's light and colors, with its shadow and the picture's noise."""
    height, width = layer.cover.shape
    part = np.s_[layer.top : layer.top + height, layer.left : layer.left + width]
    below, cover = pixels[part], layer.cover[..., None]
    lit = layer.color * host.exposure.astype(np.float32) * host.shade[part][..., None]
    lit += host.gray * (lit @ LUMA[:, None] - lit)
    bright = lit > 225  # a camera compresses the brightest tones
    lit[bright] = 225 + 30 * np.tanh((lit[bright] - 225) / 30)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)).astype(np.float32), 0.5) * 1.6 * host.noise
    lit += grain[..., None]
    flat = Image.fromarray((layer.cover * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.07 * pose.scale))
    drop = round(0.04 * pose.scale)
    shadow = np.zeros((height, width, 1), np.float32)
    shadow[drop:, :, 0] = np.asarray(flat, dtype=np.float32)[: height - drop] / 255
    shaded = below * (1 - 0.38 * shadow * (1 - cover))
    result = np.array(image)
    result[part] = np.clip(shaded * (1 - cover) + lit * cover + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(result)


def _normals(sheet: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Unit normals [ROWS, COLUMNS, 3] that point away from the face."""
    normals = np.cross(np.gradient(sheet, axis=1), np.gradient(sheet, axis=0))
    return np.asarray(normals / np.linalg.norm(normals, axis=-1, keepdims=True))


def _triangulated() -> npt.NDArray[np.int64]:
    """The vertices of the sheet's triangles, [2 · (ROWS - 1) · (COLUMNS - 1), 3]."""
    number = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = number[:-1, :-1].ravel(), number[:-1, 1:].ravel(), number[1:, :-1].ravel(), number[1:, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])


_TRIANGLES = _triangulated()
