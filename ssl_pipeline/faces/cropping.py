"""Choose a face of a picture and cut it out upright, at one size and place: the canonical crop.

The geometry is UTKFace's: a similarity transform (turn, scale, shift; no shear, no mirror) takes a face's five points
as near as can be to where they lie in UTKFace's aligned chips. So a model trained on those chips meets faces of
photographs framed as it knows them. Nothing here reads files or finds faces.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssl_pipeline.config.cropping import FaceSettings
from ssl_pipeline.faces.decoding import UnreadableFace
from ssl_pipeline.faces.detection import DetectedFace

FloatArray = npt.NDArray[np.float64]

CANONICAL_POINTS: FloatArray = np.array(
    [
        [0.312, 0.291],
        [0.688, 0.291],
        [0.5, 0.507],
        [0.336, 0.674],
        [0.664, 0.674],
    ]
)
"""float64 [5, 2]: x and y of right eye, left eye, nose tip, right and left mouth corner, in a crop without margin that
spans 0 to 1 from left to right and from top to bottom. Right is the person's own: it lies on the left. The means over
11,993 of UTKFace's aligned chips, as YuNet sees them (spread 0.02 to 0.04), averaged with their mirror image."""


class NoFace(UnreadableFace):
    """A picture without a face that counts; its message is the reason (short, no path)."""


def canonical_points(margin: float) -> FloatArray:
    """Give the canonical five points in a crop that has `margin` of its face's side added on each side.

    >>> float(canonical_points(0.5)[2, 0]), canonical_points(0.0).shape
    (0.5, (5, 2))
    """
    return (CANONICAL_POINTS + margin) / (1 + 2 * margin)


def similarity_transform(source: FloatArray, target: FloatArray) -> FloatArray:
    """Find the turn, scale and shift that take points nearest to others, by least squares (Umeyama 1991, eq. 39–43).

    Args:
        source: [N, 2], N ≥ 2, not all in one place.
        target: [N, 2].

    Returns:
        float64 [2, 3], A and b side by side, with ``A @ source[i] + b ≈ target[i]``; A turns and scales, never mirrors.

    Raises:
        ValueError: if the points of `source` all lie in one place.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered = source - source_mean
    variance = (centered**2).sum()
    if variance < 1e-12:
        raise ValueError("the points lie in one place: no transform follows from them")
    left, singular, right = np.linalg.svd((target - target_mean).T @ centered)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    linear = (singular * signs).sum() / variance * (left * signs) @ right
    return np.column_stack([linear, target_mean - linear @ source_mean])


def choose_face(faces: Sequence[DetectedFace], *, width: int, height: int, settings: FaceSettings) -> DetectedFace:
    """Choose the face to crop among those sure and large enough; of equals the surest.

    Args:
        faces: those found, the surest first.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        settings: which one.

    Raises:
        NoFace: if none is sure enough, or none of the sure ones is large enough.
    """
    sure = [face for face in faces if face.score >= settings.min_score]
    if not sure:
        raise NoFace(f"no face found (min_score {settings.min_score:g})")
    large = [face for face in sure if min(face.box[2:]) >= settings.min_face_pixels]
    if not large:
        raise NoFace(f"no face of {settings.min_face_pixels} px or more")
    match settings.which:
        case "largest":
            return max(large, key=lambda face: face.box[2] * face.box[3])
        case "most_central":
            return min(large, key=lambda face: _distance(face, width / 2, height / 2))
        case "surest":
            return max(large, key=lambda face: face.score)


def _distance(face: DetectedFace, x: float, y: float) -> float:
    left, top, width, height = face.box
    return math.hypot(left + width / 2 - x, top + height / 2 - y)


def crop_face(image: Image.Image, points: FloatArray, *, size: int, margin: float = 0.0) -> npt.NDArray[np.uint8]:
    """Cut a face out of a picture, its five points brought nearest to the canonical ones.

    Args:
        image: mode RGB.
        points: [5, 2], in pixels of the picture; see `detection.DetectedFace`.
        size: side of the crop in pixels.
        margin: share of the crop's side without margin that is added on each side.

    Returns:
        uint8 [size, size, 3].
    """
    return warp(image, similarity_transform(points, canonical_points(margin) * size), size=size)


def crop_whole(image: Image.Image, *, size: int) -> npt.NDArray[np.uint8]:
    """Put a whole picture on the middle of a square, which repeats the picture's edges where it is longer.

    Args:
        image: mode RGB.
        size: side of the square in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    scale = size / max(image.size)
    width, height = image.size
    matrix = np.array([[scale, 0, (size - scale * width) / 2], [0, scale, (size - scale * height) / 2]])
    return warp(image, matrix, size=size)


def warp(image: Image.Image, matrix: FloatArray, *, size: int) -> npt.NDArray[np.uint8]:
    """Draw the square that a similarity transform sees of a picture; beyond its edges the picture repeats them.

    Bicubic. A picture that shrinks is first resized antialiased, so that no detail turns into noise; only the part of
    it that is seen is worked on.

    Args:
        image: mode RGB.
        matrix: [2, 3], from pixels of the picture to pixels of the square; see `similarity_transform`.
        size: side of the square in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    back = np.linalg.inv(linear)
    corners = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - shift) @ back.T
    shrink = min(1.0, math.sqrt(abs(np.linalg.det(linear))))
    around = 3 / shrink  # what bicubic interpolation reaches beyond a pixel, and one more
    low, high = corners.min(axis=0) - around, corners.max(axis=0) + around
    limit = np.array(image.size)
    left_top = np.clip(np.floor(low), 0, limit - 1).astype(int)
    right_bottom = np.clip(np.ceil(high), left_top + 1, limit).astype(int)
    part_size = np.maximum(1, np.ceil((right_bottom - left_top) * shrink)).astype(int)
    box = (*left_top.tolist(), *right_bottom.tolist())
    part = image.resize(tuple(part_size.tolist()), Image.Resampling.BICUBIC, box=box)
    to_part = part_size / (right_bottom - left_top)
    # how far the square looks beyond the part, in the part's pixels: left, top, right, bottom
    before = np.ceil(np.maximum(0, (left_top - low) * to_part)).astype(int)
    after = np.ceil(np.maximum(0, (high - right_bottom) * to_part)).astype(int)
    padding = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(part), padding, mode="edge"))
    # Pillow asks where in the padded part each pixel of the square comes from
    coefficients = np.column_stack([back, -back @ shift - left_top]) * to_part[:, None]
    coefficients[:, 2] += before
    square = padded.transform(
        (size, size), Image.Transform.AFFINE, coefficients.ravel().tolist(), Image.Resampling.BICUBIC
    )
    return np.array(square, dtype=np.uint8)
