"""What a picture tells of how it was taken, so that what is laid on looks taken with it: light, colors, blur, noise."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

FloatImage = npt.NDArray[np.float32]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_USUAL_SKIN = np.array([203.0, 156.0, 134.0])
_MIN_SHADE, _MAX_SHADE = 0.5, 1.35


@dataclass(frozen=True)
class Host:
    """How the picture was taken.

    Attributes:
        exposure: float [3], the factor on the color of a thing in even white light, for red, green and blue.
        skin_luma: how bright the lit part of the skin is, 0 to 255.
        gray: 0 (in color) to 1 (a gray picture).
        shade: float32 [H, W], the light's slow change over the face, about 1 in the mean.
        blur: standard deviation in pixels of the blur that edges have.
        noise: standard deviation in gray levels.
    """

    exposure: npt.NDArray[np.float64]
    skin_luma: float
    gray: float
    shade: FloatImage
    blur: float
    noise: float


def look_at(pixels: FloatImage, face: npt.NDArray[np.bool_], *, eyes: npt.NDArray[np.float64], unit: float) -> Host:
    """Measure a picture.

    Args:
        pixels: float32 [H, W, 3], 0 to 255.
        face: bool [H, W], where the skin between the eyes and the chin is.
        eyes: float [2], the pixel x, y midway between the eyes, where sharpness and noise are looked for.
        unit: the distance between the eyes in pixels.
    """
    luma = pixels @ LUMA
    skin = pixels[face]
    lit = skin[skin @ LUMA >= np.quantile(luma[face], 0.5)].mean(axis=0).astype(np.float64) + 1e-3
    brightness = float(lit @ LUMA)
    # Dark skin in good light and light skin in the dark look alike; what is brightest around the face decides between.
    white = float(np.quantile(luma[::2, ::2], 0.97))
    level = np.clip((0.55 * brightness / 166 + 0.45 * white / 235) ** 0.9, 0.08, 1.1)
    chroma = float((skin.max(axis=1) - skin.min(axis=1)).mean()) / max(brightness, 1.0)
    cast = (lit / brightness) / (_USUAL_SKIN / (_USUAL_SKIN @ LUMA))
    gray = float(np.clip(1 - (chroma - 0.03) / 0.12, 0, 1))
    exposure = level * cast ** (0.22 * (1 - gray))
    around = _around(luma, eyes, unit)
    return Host(exposure, brightness, gray, _slow_light(luma, face, unit), _edge_blur(around), _noise(around))


def _around(luma: FloatImage, eyes: npt.NDArray[np.float64], unit: float) -> FloatImage:
    """Cut out the eyes with brows and nose; the whole picture where they lie outside of it."""
    reach = np.array([unit, 0.6 * unit])
    left, top = np.maximum(eyes - reach, 0).astype(int)
    right, bottom = np.maximum(eyes + reach, 0).astype(int)
    part = luma[top:bottom, left:right]
    return part if min(part.shape) >= 8 else luma


def _slow_light(luma: FloatImage, face: npt.NDArray[np.bool_], unit: float) -> FloatImage:
    """The face's own light and shade, smoothed so that nose, mouth and beard leave no trace; skin alone counts."""
    shrink = max(1, int(unit / 12))
    small, weight = luma[::shrink, ::shrink], face[::shrink, ::shrink].astype(np.float32)
    spread = 0.33 * unit / shrink
    total = ndimage.gaussian_filter(weight, spread, mode="nearest", truncate=3.0) + 1e-3
    mean = float((small * weight).sum() / max(weight.sum(), 1))
    smooth = (ndimage.gaussian_filter(small * weight, spread, mode="nearest", truncate=3.0) + 1e-3 * mean) / total
    shade = np.clip((smooth / max(mean, 1.0)) ** 0.8, _MIN_SHADE, _MAX_SHADE)
    height, width = luma.shape
    grown = Image.fromarray(shade.astype(np.float32)).resize((shade.shape[1] * shrink, shade.shape[0] * shrink))
    return np.asarray(grown)[:height, :width]


def _edge_blur(luma: FloatImage) -> float:
    """How wide the sharpest edges are: blurring once more weakens a sharp edge more than a soft one.

    An edge of spread s, blurred by 1, keeps s / √(s² + 1) of its slope.
    """
    first = np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))
    again = ndimage.gaussian_filter(luma, 1.0, truncate=3.0)
    second = np.hypot(ndimage.sobel(again, 0), ndimage.sobel(again, 1))
    strong = first >= np.quantile(first, 0.97)
    kept = float(np.median(second[strong] / np.maximum(first[strong], 1e-3)))
    kept = min(max(kept, 0.05), 0.97)
    return float(np.clip(kept / np.sqrt(1 - kept**2) - 0.45, 0.3, 4.0))


def _noise(luma: FloatImage) -> float:
    """Noise where the picture is flattest (Immerkær 1996, of the flatter half)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    residual = np.abs(ndimage.convolve(luma, kernel))
    flat = residual[residual <= np.quantile(residual, 0.6)]
    return float(np.clip(np.sqrt(np.pi / 2) * flat.mean() / 6 * 1.9, 0, 8))
