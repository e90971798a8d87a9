"""Face detection with five landmarks: YuNet (Wu et al. 2023, doi 10.1007/s11633-023-1423-y) through OpenCV.

OpenCV is the extra ``[landmarks]``, imported by the first detector. The user provides the model file; nothing is
downloaded.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssl_pipeline.config.cropping import MIN_SCORE
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.runs.files import digest_file

POINT_NAMES = ("right_eye", "left_eye", "nose_tip", "right_mouth_corner", "left_mouth_corner")
"""Rows of `DetectedFace.points`; right and left from the person's view."""
_MAX_OVERLAP, _MAX_FACES = 0.3, 5000


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture, in pixels of the picture; parts may lie outside the picture.

    Attributes:
        box: left, top, width, height.
        score: confidence of the detector, `config.cropping.MIN_SCORE` to 1.
        points: x and y in the order of `POINT_NAMES`, float64 [5, 2]; a picture of width W spans x from 0 to W.
    """

    box: tuple[float, float, float, float]
    score: float
    points: npt.NDArray[np.float64]


class FaceDetector:
    """YuNet. Thread-safe: each thread has its own OpenCV detector.

    Each picture is searched at several sizes: YuNet misses faces that fill a large picture (above all masked ones), and
    small faces in a small picture. Of overlapping detections, the one with the highest score is kept.
    """

    def __init__(self, model: Path, *, longest_sides: Sequence[int] = (192, 640)) -> None:
        """Load the model.

        Args:
            model: YuNet's ONNX file from OpenCV's model zoo (face_detection_yunet_*.onnx).
            longest_sides: longest sides, in pixels, to which a picture is resized before detection. Only the smallest
                of them enlarges a picture.

        Raises:
            FaceTableError: if OpenCV is not installed, or the model does not exist or is not YuNet.
        """
        if not model.is_file():
            raise FaceTableError(
                f"{model}: no such face detection model; set it to YuNet's ONNX file "
                "(face_detection_yunet_*.onnx of OpenCV's model zoo), or remove the section that needs it"
            )
        self._cv2 = _import_opencv()
        self._model = model
        self._longest_sides = sorted(longest_sides)
        self._thread_local = threading.local()
        self.identity: dict[str, Any] = {
            "model": digest_file(model),
            "opencv": str(self._cv2.__version__),
            "longest_sides": self._longest_sides,
        }
        """What detections depend on, besides the picture and this module."""
        self.detect(np.zeros((32, 32, 3), np.uint8))  # fails here if the file is not YuNet

    def detect(self, pixels: npt.NDArray[np.uint8]) -> list[DetectedFace]:
        """Detect the faces of a picture with a score of at least `MIN_SCORE`, highest score first.

        Args:
            pixels: uint8 [H, W, 3], RGB.
        """
        longest = max(pixels.shape[:2])
        smallest, *larger = self._longest_sides
        sides = {smallest, *(min(side, longest) for side in larger if longest > smallest)}
        candidates = [face for side in sorted(sides) for face in self._detect_at(pixels, side)]
        faces: list[DetectedFace] = []
        for face in sorted(candidates, key=lambda face: (-face.score, face.box)):
            if all(_overlap(face.box, other.box) < _MAX_OVERLAP for other in faces):
                faces.append(face)
        return faces

    def _detect_at(self, pixels: npt.NDArray[np.uint8], longest_side: int) -> list[DetectedFace]:
        height, width = pixels.shape[:2]
        scale = longest_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        resized = pixels if size == (width, height) else _resize(pixels, size)
        ratio = np.array([width / size[0], height / size[1]])
        return [_parse_face(row, ratio) for row in self._run(np.ascontiguousarray(resized[:, :, ::-1]))]

    def _run(self, blue_green_red: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network. Returns box, five points and score, float32 [N, 15]."""
        height, width = blue_green_red.shape[:2]
        try:
            if not hasattr(self._thread_local, "detector"):
                self._thread_local.detector = self._cv2.FaceDetectorYN.create(
                    str(self._model), "", (width, height), MIN_SCORE, _MAX_OVERLAP, _MAX_FACES
                )
            self._thread_local.detector.setInputSize((width, height))
            rows = self._thread_local.detector.detect(blue_green_red)[1]
        except self._cv2.error as error:
            raise FaceTableError(
                f"{self._model}: not a YuNet model that OpenCV {self._cv2.__version__} can run "
                f"({' '.join(str(error).split())[:200]}); use face_detection_yunet_*.onnx of OpenCV's model zoo"
            ) from None
        return np.empty((0, 15), np.float32) if rows is None else rows


def _import_opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise FaceTableError(
            "face detection needs OpenCV, which is not installed; pip install 'ssl-pipeline[landmarks]'"
        ) from None
    cv2.setNumThreads(1)  # callers use several threads already
    # Version 5 logs a warning about devices for every detector; errors are still logged.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2


def _resize(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize to (width, height), antialiased, so that faces in a large picture stay recognizable."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(one[2] * one[3] + other[2] * other[3] - shared, 1e-9)


def _parse_face(row: npt.NDArray[np.float32], ratio: npt.NDArray[np.float64]) -> DetectedFace:
    """Convert one row of the network's output to pixels of the picture."""
    left, top, width, height = (row[:4].astype(np.float64).reshape(2, 2) * ratio).ravel().tolist()
    points = row[4:14].astype(np.float64).reshape(5, 2) * ratio
    return DetectedFace((left, top, width, height), float(min(row[14], 1.0)), points)
