"""Face detection: messages without OpenCV or the model; with a model, YuNet on drawn faces."""

import builtins
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.cropping import CANONICAL_POINTS, similarity_transform
from ssl_pipeline.faces.detection import FaceDetector, _overlap
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people

MODEL = os.environ.get("YUNET_MODEL", "")


def picture(size: int) -> np.ndarray:
    """Return a drawn face without a mask, looking ahead."""
    people = sample_people(12, population="home", seed=1)
    drawn = sample_faces(people, images_per_person=1, seed=1, mask_shares={"normal": 1.0})
    return np.asarray(draw_face(min(drawn, key=lambda face: abs(face.pose.yaw_degrees)), size=size))


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    pytest.importorskip("cv2", reason="OpenCV, of the extra [landmarks], is not installed")
    if not Path(MODEL).is_file():
        pytest.skip("no model: set YUNET_MODEL to YuNet's ONNX file")
    return FaceDetector(Path(MODEL))


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imported = builtins.__import__

    def without_opencv(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_opencv)
    (tmp_path / "yunet.onnx").touch()
    with pytest.raises(FaceTableError, match=r"pip install 'ssl-pipeline\[landmarks\]'"):
        FaceDetector(tmp_path / "yunet.onnx")


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match=r"yunet.onnx: no such face detection model; set it to YuNet's ONNX file"):
        FaceDetector(tmp_path / "yunet.onnx")


def test_a_file_that_is_not_a_model_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV, of the extra [landmarks], is not installed")
    (tmp_path / "yunet.onnx").write_bytes(b"no model")
    with pytest.raises(FaceTableError, match=r"yunet.onnx: not a YuNet model that OpenCV [0-9.]+ can run"):
        FaceDetector(tmp_path / "yunet.onnx")


def test_the_overlap_of_boxes_is_intersection_over_union() -> None:
    assert _overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert _overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert _overlap((0, 0, 10, 10), (20, 20, 10, 10)) == 0


def test_a_drawn_face_is_found_once_with_its_points_in_order(detector: FaceDetector) -> None:
    (face,) = detector.detect(picture(256))
    assert face.score > 0.5
    left, top, width, height = face.box
    assert ((face.points > (left, top)) & (face.points < (left + width, top + height))).all()
    matrix = similarity_transform(face.points, CANONICAL_POINTS)
    assert matrix[0, 0] > abs(matrix[1, 0])  # upright, with the person's right on the left
    assert face.points @ matrix[:, :2].T + matrix[:, 2] == pytest.approx(CANONICAL_POINTS, abs=0.08)


def test_a_face_is_found_at_the_same_place_in_a_larger_picture(detector: FaceDetector) -> None:
    small, large = picture(192), np.repeat(np.repeat(picture(192), 4, axis=0), 4, axis=1)
    (one,), (other,) = detector.detect(small), detector.detect(large)
    assert other.points / 4 == pytest.approx(one.points, abs=4)


def test_several_threads_detect_what_one_thread_detects(detector: FaceDetector) -> None:
    pictures = [picture(size) for size in range(64, 160, 8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, pictures))
    for alone, shared in zip(map(detector.detect, pictures), together, strict=True):
        assert [face.score for face in alone] == [face.score for face in shared]
        assert all((a.points == b.points).all() for a, b in zip(alone, shared, strict=True))


def test_a_picture_without_a_face_has_none(detector: FaceDetector) -> None:
    assert detector.detect(np.full((80, 300, 3), 90, np.uint8)) == []
