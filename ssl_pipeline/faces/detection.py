"""Find faces and their five points in a picture: YuNet (Wu et al. 2023, doi 10.1007/s11633-023-1423-y) by OpenCV.

OpenCV is the extra ``[landmarks]``, imported when the first detector is made. The model is a file that the user names;
nothing is downloaded.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.runs import digest_file

POINT_NAMES = ("right_eye", "left_eye", "nose_tip", "right_mouth_corner", "left_mouth_corner")
"""In the order of the rows of `DetectedFace.points`; right and left are the person's own."""
MIN_SCORE = 0.3
"""Below this, a detection is not reported at all."""
_OVERLAP, _MAX_FACES = 0.3, 5000


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture; lengths in pixels of the picture, which a face may overhang.

    Attributes:
        box: left, top, width, height.
        score: how sure the detector is, `MIN_SCORE` to 1.
        points: float64 [5, 2], x and y in the order of `POINT_NAMES`; pixel centers lie at whole numbers.
    """

    box: tuple[float, float, float, float]
    score: float
    points: npt.NDArray[np.float64]


class FaceDetector:
    """YuNet with its settings. May be called from several threads at once: each has an OpenCV detector of its own."""

    def __init__(self, model: Path, *, longest_side: int = 640) -> None:
        """Load the model.

        Args:
            model: YuNet's ONNX file, as OpenCV's model zoo has it (face_detection_yunet_*.onnx).
            longest_side: a picture is resized to this longest side, in pixels, before faces are looked for.

        Raises:
            FaceTableError: if OpenCV is not installed, or the model is not there or no YuNet.
        """
        self._cv2 = _import_opencv()
        if not model.is_file():
            raise FaceTableError(
                f"{model}: no such face detection model; name YuNet's ONNX file "
                "(face_detection_yunet_*.onnx of OpenCV's model zoo), or remove the section that asks for it"
            )
        self.longest_side = longest_side
        self._model = model
        self._of_thread = threading.local()
        self.identity = {
            "model": digest_file(model),
            "opencv": str(self._cv2.__version__),
            "longest_side": longest_side,
            "min_score": MIN_SCORE,
        }
        """What the faces found depend on besides the picture."""
        self.detect(np.zeros((32, 32, 3), np.uint8))  # a file that is no YuNet shows here

    def detect(self, pixels: npt.NDArray[np.uint8]) -> list[DetectedFace]:
        """Find the faces of a picture, the surest first.

        Args:
            pixels: uint8 [H, W, 3], red, green, blue.
        """
        height, width = pixels.shape[:2]
        scale = self.longest_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        resized = pixels if size == (width, height) else _resize(pixels, size)
        rows = self._rows(np.ascontiguousarray(resized[:, :, ::-1]))
        ratio = np.array([width / size[0], height / size[1]])
        faces = [_face(row, ratio) for row in rows]
        return sorted(faces, key=lambda face: (-face.score, face.box))

    def _rows(self, blue_green_red: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network: float32 [N, 15], box, five points, score."""
        height, width = blue_green_red.shape[:2]
        try:
            if not hasattr(self._of_thread, "detector"):
                self._of_thread.detector = self._cv2.FaceDetectorYN.create(
                    str(self._model), "", (width, height), MIN_SCORE, _OVERLAP, _MAX_FACES
                )
            self._of_thread.detector.setInputSize((width, height))
            rows = self._of_thread.detector.detect(blue_green_red)[1]
        except self._cv2.error as error:
            raise FaceTableError(
                f"{self._model}: not a YuNet model that OpenCV {self._cv2.__version__} can run "
                f"({' '.join(str(error).split())[:200]}); name face_detection_yunet_*.onnx of OpenCV's model zoo"
            ) from None
        return np.empty((0, 15), np.float32) if rows is None else rows


def _import_opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise FaceTableError(
            "face detection needs OpenCV, which is not installed here; pip install 'ssl-pipeline[landmarks]'"
        ) from None
    cv2.setNumThreads(1)  # the callers' threads share the work; more of them inside each would only get in their way
    # Version 5 warns of each detector that it cannot choose a device; errors still come through.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2


def _resize(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize to (width, height), antialiased, so that a face in a large picture stays a face."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _face(row: npt.NDArray[np.float32], ratio: npt.NDArray[np.float64]) -> DetectedFace:
    """Read one row of the network's answer, back in pixels of the picture (whose pixel centers are whole numbers)."""
    left, top, width, height = (row[:4].astype(np.float64).reshape(2, 2) * ratio).ravel().tolist()
    points = (row[4:14].astype(np.float64).reshape(5, 2) + 0.5) * ratio - 0.5
    return DetectedFace((left, top, width, height), float(min(row[14], 1.0)), points)
