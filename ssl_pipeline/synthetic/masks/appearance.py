"""Estimate how a photograph was taken (light, colors, blur, noise), so that a drawn mask matches it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

FloatImage = npt.NDArray[np.float32]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MEAN_SKIN = np.array([203.0, 156.0, 134.0])
_MIN_SHADE, _MAX_SHADE = 0.5, 1.35


@dataclass(frozen=True)
class Appearance:
    """Light, colors, blur and noise of a photograph.

    Attributes:
        exposure: float [3], factor on an object's color in even white light, for red, green and blue.
        skin_luma: brightness of the lit part of the skin, 0 to 255.
        gray: 0 (color picture) to 1 (gray picture).
        shade: float32 [H, W], slow variation of the light over the face, mean about 1.
        blur: standard deviation of the edges' blur, in pixels.
        noise: standard deviation, in gray levels.
    """

    exposure: npt.NDArray[np.float64]
    skin_luma: float
    gray: float
    shade: FloatImage
    blur: float
    noise: float


def estimate_appearance(
    pixels: FloatImage, face: npt.NDArray[np.bool_], *, eyes: npt.NDArray[np.float64], eye_distance: float
) -> Appearance:
    """Estimate the appearance of a photograph.

    Args:
        pixels: float32 [H, W, 3], 0 to 255.
        face: bool [H, W], skin between the eyes and the chin.
        eyes: float [2], pixel x, y midway between the eyes; blur and noise are measured around it.
        eye_distance: in pixels.
    """
    luma = pixels @ LUMA
    skin = pixels[face]
    lit = skin[skin @ LUMA >= np.quantile(luma[face], 0.5)].mean(axis=0).astype(np.float64) + 1e-3
    brightness = float(lit @ LUMA)
    # Dark skin in good light and light skin in the dark look alike; the picture's brightest parts tell them apart.
    white = float(np.quantile(luma[::2, ::2], 0.97))
    level = np.clip((0.55 * brightness / 166 + 0.45 * white / 235) ** 0.9, 0.08, 1.1)
    chroma = float((skin.max(axis=1) - skin.min(axis=1)).mean()) / max(brightness, 1.0)
    cast = (lit / brightness) / (_MEAN_SKIN / (_MEAN_SKIN @ LUMA))
    gray = float(np.clip(1 - (chroma - 0.03) / 0.12, 0, 1))
    exposure = level * cast ** (0.22 * (1 - gray))
    eye_region = _eye_region(luma, eyes, eye_distance)
    shade = _shade(luma, face, eye_distance)
    return Appearance(exposure, brightness, gray, shade, _edge_blur(eye_region), _noise(eye_region))


def _eye_region(luma: FloatImage, eyes: npt.NDArray[np.float64], eye_distance: float) -> FloatImage:
    """Crop the eyes with brows and nose; return the whole picture if they lie outside of it."""
    reach = np.array([eye_distance, 0.6 * eye_distance])
    left, top = np.maximum(eyes - reach, 0).astype(int)
    right, bottom = np.maximum(eyes + reach, 0).astype(int)
    region = luma[top:bottom, left:right]
    return region if min(region.shape) >= 8 else luma


def _shade(luma: FloatImage, face: npt.NDArray[np.bool_], eye_distance: float) -> FloatImage:
    """Smooth the brightness of the skin so far that nose, mouth and beard leave no trace."""
    shrink = max(1, int(eye_distance / 12))
    small, weight = luma[::shrink, ::shrink], face[::shrink, ::shrink].astype(np.float32)
    spread = 0.33 * eye_distance / shrink
    total = ndimage.gaussian_filter(weight, spread, mode="nearest", truncate=3.0) + 1e-3
    mean = float((small * weight).sum() / max(weight.sum(), 1))
    smooth = (ndimage.gaussian_filter(small * weight, spread, mode="nearest", truncate=3.0) + 1e-3 * mean) / total
    shade = np.clip((smooth / max(mean, 1.0)) ** 0.8, _MIN_SHADE, _MAX_SHADE)
    height, width = luma.shape
    enlarged = Image.fromarray(shade.astype(np.float32)).resize((shade.shape[1] * shrink, shade.shape[0] * shrink))
    return np.asarray(enlarged)[:height, :width]


def _edge_blur(luma: FloatImage) -> float:
    """Estimate the blur of the sharpest edges from a second blur, which weakens sharp edges more than soft ones.

    An edge of blur s, blurred by 1, keeps s / √(s² + 1) of its slope.
    """
    slope = np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))
    blurred = ndimage.gaussian_filter(luma, 1.0, truncate=3.0)
    blurred_slope = np.hypot(ndimage.sobel(blurred, 0), ndimage.sobel(blurred, 1))
    strong = slope >= np.quantile(slope, 0.97)
    kept = float(np.median(blurred_slope[strong] / np.maximum(slope[strong], 1e-3)))
    kept = min(max(kept, 0.05), 0.97)
    return float(np.clip(kept / np.sqrt(1 - kept**2) - 0.45, 0.3, 4.0))


def _noise(luma: FloatImage) -> float:
    """Estimate the noise by Immerkær's method (1996), over the flattest 60 % of the pixels."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    residual = np.abs(ndimage.convolve(luma, kernel))
    flat = residual[residual <= np.quantile(residual, 0.6)]
    return float(np.clip(np.sqrt(np.pi / 2) * flat.mean() / 6 * 1.9, 0, 8))
