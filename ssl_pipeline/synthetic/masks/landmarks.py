"""Landmarks of a face: canonical ones of aligned crops, from a file, or from YuNet."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, assert_never

import numpy as np
from PIL import Image

from ssl_pipeline.config.masking import CanonicalLandmarks, FileLandmarks, LandmarksConfig, YuNetLandmarks
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.cropping import CANONICAL_POINTS
from ssl_pipeline.faces.detection import FaceDetector
from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.synthetic.masks.head_pose import FloatArray, Landmarks

MIN_EYE_DISTANCE = 8.0
"""In pixels; on a smaller face a mask would be a blot."""
_SEPARATORS = re.compile(r"[,;\s]+")


class NoLandmarks(Exception):  # noqa: N818 - callers count such faces; it is no fault of the program
    """A face has no usable landmarks; the message is the reason."""


class LandmarkFinder(Protocol):
    """Finds the landmarks of a picture."""

    @property
    def identity(self) -> Any:
        """What the landmarks depend on apart from the picture, as JSON data."""

    def find(self, image: Image.Image, path: str) -> Landmarks:
        """Find the landmarks of the face in `image`; `path` is the image's path within its source.

        Raises:
            NoLandmarks: if there are none, or no face can have them.
        """
        ...


def landmark_finder(config: LandmarksConfig, *, root: Path) -> LandmarkFinder:
    """Open the landmark finder of a config; the path of a landmark file is relative to `root`.

    Raises:
        FaceTableError: if a file or model cannot be read.
    """
    match config:
        case CanonicalLandmarks():
            return _Canonical(CANONICAL_POINTS.tolist() if config.points is None else config.points)
        case FileLandmarks():
            return _LandmarkFile(root / config.path)
        case YuNetLandmarks():
            return _YuNet(config.model, min_score=config.min_score)
        case _:
            assert_never(config)


def validate_landmarks(landmarks: Landmarks, size: tuple[int, int]) -> Landmarks:
    """Return the landmarks, or refuse points that no face can have.

    Raises:
        NoLandmarks: if they are not finite, the eyes are too close or swapped, or the nose lies outside of the picture.
    """
    left, right, nose, *mouth = landmarks.points
    if not np.isfinite(landmarks.points).all():
        raise NoLandmarks("landmarks are not finite numbers")
    if float(np.hypot(*(right - left))) < MIN_EYE_DISTANCE:
        raise NoLandmarks(f"the eyes lie less than {MIN_EYE_DISTANCE:.0f} px apart")
    down = np.mean(mouth, axis=0) - (left + right) / 2
    across = right - left
    if across[0] * down[1] - across[1] * down[0] <= 0.2 * float(across @ across):
        raise NoLandmarks("landmarks do not form a face: expected left and right as seen in the picture")
    if not ((nose >= 0) & (nose < size)).all():
        raise NoLandmarks("the nose lies outside of the picture")
    return landmarks


class _Canonical:
    def __init__(self, shares: Sequence[tuple[float, float]]) -> None:
        self._shares = np.array(shares)
        self.identity = [list(point) for point in shares]

    def find(self, image: Image.Image, path: str) -> Landmarks:
        return validate_landmarks(Landmarks(self._shares * image.size), image.size)


class _LandmarkFile:
    def __init__(self, path: Path) -> None:
        self._landmarks = read_landmark_file(path)
        self.identity = digest_file(path)

    def find(self, image: Image.Image, path: str) -> Landmarks:
        name = PurePosixPath(path).name
        for key in (path, name, name.removesuffix(".chip.jpg")):
            if key in self._landmarks:
                return validate_landmarks(self._landmarks[key], image.size)
        raise NoLandmarks("not in the landmark file")


class _YuNet:
    def __init__(self, model: Path, *, min_score: float) -> None:
        self._detector, self._min_score = FaceDetector(model), min_score
        self.identity = {**self._detector.identity, "min_score": min_score}

    def find(self, image: Image.Image, path: str) -> Landmarks:
        faces = [face for face in self._detector.detect(np.asarray(image)) if face.score >= self._min_score]
        if not faces:
            raise NoLandmarks("no face found")
        largest = max(faces, key=lambda face: face.box[2] * face.box[3])
        # YuNet has the same order: the person's right eye is the picture's left one.
        return validate_landmarks(Landmarks(largest.points), image.size)


def read_landmark_file(path: Path) -> Mapping[str, Landmarks]:
    """Read the landmarks per picture; `config.masking.FileLandmarks` describes the format.

    Raises:
        FaceTableError: if the file is missing or not text, or a line has neither 5 nor 68 points.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise FaceTableError(f"{path}: cannot be read ({reason}); landmarks.path names a text file") from None
    landmarks: dict[str, Landmarks] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, numbers = _fields(line)
        if len(numbers) in (10, 136) and name:
            landmarks[unicodedata.normalize("NFC", name)] = _from_numbers(np.array(numbers))
        elif number > 1 or numbers:
            faults.append(f"line {number}: expected a path and 10 or 136 numbers, got {len(numbers)} numbers")
    if faults:
        raise FaceTableError(list_of_faults(f"{path}: {len(faults)} lines cannot be used; fix or remove them", faults))
    if not landmarks:
        raise FaceTableError(f"{path}: no landmarks; expected one line per picture: its path and 5 or 68 points x y")
    return landmarks


def _fields(line: str) -> tuple[str, list[float]]:
    """Split a line into its path, which may contain spaces, and the numbers after it."""
    separator = next((mark for mark in (",", ";", "\t") if mark in line), None)
    if separator is None:
        words = _SEPARATORS.split(line.strip())
        num_values = 136 if len(words) > 136 else 10
        name, values = line.strip().rsplit(None, num_values)[0] if len(words) > num_values else "", words[-num_values:]
    else:
        name, *values = [field.strip().strip('"') for field in line.strip().split(separator)]
    try:
        return name, [float(value) for value in values if value]
    except ValueError:
        return name, []


def _from_numbers(numbers: FloatArray) -> Landmarks:
    """Return five points as they are; pick eyes, nose, mouth and chin from the 68 points of dlib and iBUG."""
    points = numbers.reshape(-1, 2)
    if len(points) == 5:
        return Landmarks(points)
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    return Landmarks(np.stack([*eyes, points[30], points[48], points[54]]), chin=points[8])
