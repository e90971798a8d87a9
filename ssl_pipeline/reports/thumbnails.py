"""Thumbnails of faces as WebP in base64, blurred if asked."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 96
_QUALITY, _BLURRED_SIDE = 78, 8


def thumbnails(pixels: npt.NDArray[np.uint8], rows: Sequence[int], *, blur: bool) -> list[str]:
    """Encode the faces in these rows of uint8 [M, S, S, 3], at most 96 pixels a side; equal pixels give equal text.

    Args:
        pixels: usually a memory map.
        rows: of the faces.
        blur: keep 8 × 8 pixels of each face, from which nobody is recognized.
    """
    return [_encode(Image.fromarray(np.asarray(pixels[row])), blur=blur) for row in rows]


def _encode(image: Image.Image, *, blur: bool) -> str:
    side = min(SIDE, image.width)
    if blur:
        image = image.resize((_BLURRED_SIDE, _BLURRED_SIDE), Image.Resampling.BOX)
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    elif image.width > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(buffer.getvalue()).decode()
