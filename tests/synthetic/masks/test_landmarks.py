"""Sources of landmarks, and landmarks that are refused."""

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from ssl_pipeline.config.masking import LandmarksConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.synthetic.masks.head_pose import Landmarks
from ssl_pipeline.synthetic.masks.landmarks import NoLandmarks, landmark_finder, read_landmark_file, validate_landmarks

FIVE = [60, 60, 140, 60, 100, 104, 68, 140, 132, 140]
PICTURE = Image.new("RGB", (200, 200))


def finder(root, **section):
    return landmark_finder(TypeAdapter(LandmarksConfig).validate_python(section), root=root)


def test_canonical_points_scale_with_the_picture(tmp_path) -> None:
    points = finder(tmp_path, type="canonical").find(PICTURE, "a.jpg").points
    half = finder(tmp_path, type="canonical").find(PICTURE.resize((100, 100)), "a.jpg").points
    assert np.allclose(points, 2 * half)
    custom = finder(tmp_path, type="canonical", points=[(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.4, 0.7), (0.6, 0.7)])
    assert np.allclose(custom.find(PICTURE, "a.jpg").points[2], (100, 100))


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_a_landmark_file_may_use_commas_semicolons_tabs_or_spaces(tmp_path, separator) -> None:
    line = separator.join(["folder/a b.jpg", *map(str, FIVE)])
    (tmp_path / "points.txt").write_text(f"image{separator}points\n\n{line}\n")
    landmarks = finder(tmp_path, type="file", path="points.txt").find(PICTURE, "folder/a b.jpg")
    assert landmarks.points.ravel().tolist() == FIVE
    assert landmarks.chin is None


def test_68_points_give_eyes_nose_mouth_and_chin_under_utkface_s_short_file_name(tmp_path) -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54], points[8] = (
        (60, 60), (140, 60), (100, 104), (68, 140), (132, 140), (100, 190),
    )  # fmt: skip
    (tmp_path / "list.txt").write_text("1_0_0_2.jpg " + " ".join(f"{value:g}" for value in points.ravel()) + "\n")
    landmarks = finder(tmp_path, type="file", path="list.txt").find(PICTURE, "part1/1_0_0_2.jpg.chip.jpg")
    assert landmarks.points.ravel().tolist() == FIVE
    assert landmarks.chin.tolist() == [100, 190]


def test_malformed_landmark_files_are_refused_with_the_line(tmp_path) -> None:
    (tmp_path / "points.csv").write_text("a.jpg,1,2,3\nb.jpg," + ",".join(map(str, FIVE)) + "\n")
    with pytest.raises(FaceTableError, match=r"line 1: expected a path and 10 or 136 numbers, got 3 numbers"):
        read_landmark_file(tmp_path / "points.csv")
    (tmp_path / "empty.csv").write_text("image,points\n")
    with pytest.raises(FaceTableError, match="no landmarks"):
        read_landmark_file(tmp_path / "empty.csv")
    with pytest.raises(FaceTableError, match="No such file"):
        read_landmark_file(tmp_path / "missing.csv")


def test_a_picture_that_is_not_in_the_file_has_no_landmarks(tmp_path) -> None:
    (tmp_path / "points.csv").write_text("a.jpg," + ",".join(map(str, FIVE)) + "\n")
    with pytest.raises(NoLandmarks, match="not in the landmark file"):
        finder(tmp_path, type="file", path="points.csv").find(PICTURE, "b.jpg")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[[1, 0, 2, 4, 3]], "do not form a face"),
        (lambda p: p * 0.05, "less than 8 px apart"),
        (lambda p: p + 300, "outside of the picture"),
        (lambda p: p * (np.nan, 1), "not finite numbers"),
        (lambda p: p * (1, -1) + (0, 200), "do not form a face"),
    ],
)
def test_landmarks_that_no_face_can_have_are_refused(change, reason) -> None:
    points = np.array(FIVE, dtype=float).reshape(5, 2)
    assert validate_landmarks(Landmarks(points), (200, 200)).points is points
    with pytest.raises(NoLandmarks, match=reason):
        validate_landmarks(Landmarks(change(points)), (200, 200))


def test_a_missing_yunet_model_is_refused_before_any_work(tmp_path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is the extra [landmarks]")
    with pytest.raises(FaceTableError, match="no such face detection model"):
        finder(tmp_path, type="yunet", model=str(tmp_path / "missing.onnx"))
