"""Canonical crops: one face of a picture, upright, at a fixed size and position.

The geometry is UTKFace's: a similarity transform (rotation, scale, translation; no shear, no reflection) maps a face's
five points to their positions in UTKFace's aligned chips, by least squares. A model trained on those chips thus sees
photographs in the same geometry. This module neither reads files nor detects faces.
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
"""x and y of right eye, left eye, nose tip, right and left mouth corner, float64 [5, 2], in a crop without margin that
spans 0 to 1 from left to right and from top to bottom. Right is the person's right, on the left of the picture. Means of
YuNet's points over 11,993 of UTKFace's aligned chips (standard deviation 0.02 to 0.04), averaged with their mirror
image."""


class NoFace(UnreadableFace):
    """A picture without an accepted face; the message is the reason (short, no path)."""


def canonical_points(margin: float) -> FloatArray:
    """Return the five canonical points in a crop with a margin, given as a fraction of the side without margin.

    >>> float(canonical_points(0.5)[2, 0]), canonical_points(0.0).shape
    (0.5, (5, 2))
    """
    return (CANONICAL_POINTS + margin) / (1 + 2 * margin)


def similarity_transform(source: FloatArray, target: FloatArray) -> FloatArray:
    """Fit the least-squares similarity transform between two sets of points (Umeyama 1991, eq. 39–43).

    Args:
        source: [N, 2], N ≥ 2, not all equal.
        target: [N, 2].

    Returns:
        A and b side by side, float64 [2, 3], with ``A @ source[i] + b ≈ target[i]``; A has no reflection.

    Raises:
        ValueError: if all points of `source` are equal.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered = source - source_mean
    variance = (centered**2).sum()
    if variance < 1e-12:
        raise ValueError("all points are equal: the transform is undefined")
    left, singular, right = np.linalg.svd((target - target_mean).T @ centered)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    linear = (singular * signs).sum() / variance * (left * signs) @ right
    return np.column_stack([linear, target_mean - linear @ source_mean])


def choose_face(faces: Sequence[DetectedFace], *, width: int, height: int, settings: FaceSettings) -> DetectedFace:
    """Choose the face to crop among those with a sufficient score and size; ties go to the highest score.

    Args:
        faces: detected faces, highest score first.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        settings: minimum score and size, and the criterion.

    Raises:
        NoFace: if no face has a sufficient score and size.
    """
    confident = [face for face in faces if face.score >= settings.min_score]
    if not confident:
        raise NoFace(f"no face found (min_score {settings.min_score:g})")
    large = [face for face in confident if min(face.box[2:]) >= settings.min_face_pixels]
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
    """Return the distance from the center of a face's box, in pixels."""
    left, top, width, height = face.box
    return math.hypot(left + width / 2 - x, top + height / 2 - y)


def crop_face(image: Image.Image, points: FloatArray, *, size: int, margin: float = 0.0) -> npt.NDArray[np.uint8]:
    """Crop a face so that its five points lie at the canonical ones, by least squares.

    Args:
        image: mode RGB.
        points: [5, 2], in pixels of the picture; see `detection.DetectedFace`.
        size: side of the crop in pixels.
        margin: added on each side, as a fraction of the side without margin.

    Returns:
        uint8 [size, size, 3].
    """
    return warp(image, similarity_transform(points, canonical_points(margin) * size), size=size)


def crop_whole(image: Image.Image, *, size: int) -> npt.NDArray[np.uint8]:
    """Fit a whole picture into the center of a square; its edges are repeated to fill the square.

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
    """Warp a picture by a similarity transform into a square; beyond its edges the picture's edges are repeated.

    Bicubic. If the picture shrinks, it is first resized with antialiasing. Only the visible part is processed.

    Args:
        image: mode RGB.
        matrix: [2, 3], from pixels of the picture to pixels of the square; see `similarity_transform`.
        size: side of the square in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    inverse = np.linalg.inv(linear)
    corners = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - shift) @ inverse.T
    shrink = min(1.0, math.sqrt(abs(np.linalg.det(linear))))
    reach = 3 / shrink  # of bicubic interpolation, plus one pixel
    low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
    limit = np.array(image.size)
    left_top = np.clip(np.floor(low), 0, limit - 1).astype(int)
    right_bottom = np.clip(np.ceil(high), left_top + 1, limit).astype(int)
    part_size = np.maximum(1, np.ceil((right_bottom - left_top) * shrink)).astype(int)
    box = (*left_top.tolist(), *right_bottom.tolist())
    part = image.resize(tuple(part_size.tolist()), Image.Resampling.BICUBIC, box=box)
    to_part = part_size / (right_bottom - left_top)
    # Padding, in pixels of the part: left and top, right and bottom.
    before = np.ceil(np.maximum(0, (left_top - low) * to_part)).astype(int)
    after = np.ceil(np.maximum(0, (high - right_bottom) * to_part)).astype(int)
    padding = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(part), padding, mode="edge"))
    # Pillow needs the inverse: from pixels of the square to pixels of the padded part.
    coefficients = np.column_stack([inverse, -inverse @ shift - left_top]) * to_part[:, None]
    coefficients[:, 2] += before
    square = padded.transform(
        (size, size), Image.Transform.AFFINE, coefficients.ravel().tolist(), Image.Resampling.BICUBIC
    )
    return np.array(square, dtype=np.uint8)
