"""Canonical crops: geometry, choice of the face, refusals."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from ssl_pipeline.config.cropping import FaceSettings
from ssl_pipeline.faces.cropping import (
    CANONICAL_POINTS,
    NoFace,
    canonical_points,
    choose_face,
    crop_face,
    crop_whole,
    similarity_transform,
    warp,
)
from ssl_pipeline.faces.decoding import square_pixels
from ssl_pipeline.faces.detection import DetectedFace


def scene(width: int, height: int, *, seed: int = 0, sigma: float = 4) -> Image.Image:
    """Return a smooth picture, which changes little if resampled twice."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, (sigma, sigma, 0), mode="nearest")
    return Image.fromarray(np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8))


def turn(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def face(left: float = 0, top: float = 0, side: float = 20, score: float = 0.9) -> DetectedFace:
    return DetectedFace((left, top, side, side), score, CANONICAL_POINTS * side + (left, top))


@pytest.mark.parametrize("seed", range(5))
def test_the_transform_is_the_least_squares_solution(seed: int) -> None:
    """In two dimensions a similarity is linear in a, b, x, y: [[a, -b, x], [b, a, y]]."""
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(5, 2)) * 30 + 100
    target = apply(turn(rng.uniform(-180, 180), rng.uniform(0.1, 5), (7, -3)), source) + rng.normal(size=(5, 2)) * 4
    rows = [row for x, y in source for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    a, b, x, y = np.linalg.lstsq(np.array(rows), target.ravel(), rcond=None)[0]
    assert similarity_transform(source, target) == pytest.approx(np.array([[a, -b, x], [b, a, y]]), abs=1e-9)


def test_the_transform_has_no_reflection() -> None:
    matrix = similarity_transform(CANONICAL_POINTS, CANONICAL_POINTS * (-1, 1))
    assert np.linalg.det(matrix[:, :2]) > 0


def test_equal_points_have_no_transform() -> None:
    with pytest.raises(ValueError, match="all points are equal"):
        similarity_transform(np.ones((5, 2)), CANONICAL_POINTS)


def test_a_margin_moves_the_points_toward_the_center() -> None:
    assert canonical_points(0.0) == pytest.approx(CANONICAL_POINTS)
    assert canonical_points(0.5) - 0.5 == pytest.approx((CANONICAL_POINTS - 0.5) / 2)


def test_the_canonical_face_is_upright_and_its_own_mirror_image() -> None:
    mirrored = CANONICAL_POINTS[[1, 0, 2, 4, 3]] * (-1, 1) + (1, 0)
    assert mirrored == pytest.approx(CANONICAL_POINTS)
    right_eye, left_eye, nose, mouth, _ = CANONICAL_POINTS
    assert right_eye[0] < left_eye[0]
    assert right_eye[1] < nose[1] < mouth[1]


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 1), (-40, 2), (160, 3.3), (12, 0.9)])
def test_a_rotated_and_scaled_picture_gives_the_original_crop(degrees: float, scale: float) -> None:
    original = scene(96, 96)
    placed = turn(degrees, scale, (230, 200))
    placed[:, 2] -= placed[:, :2] @ (48, 48)
    photograph = Image.fromarray(warp(original, placed, size=460))
    crop = crop_face(photograph, apply(placed, CANONICAL_POINTS * 96), size=96)
    difference = np.abs(crop.astype(int) - np.asarray(original).astype(int))[3:-3, 3:-3]
    assert difference.mean() < 2
    assert difference.max() < 16


def test_a_crop_by_the_identity_is_the_picture_itself() -> None:
    image = scene(64, 64, sigma=1)
    crop = crop_face(image, CANONICAL_POINTS * 64, size=64)
    assert np.abs(crop.astype(int) - np.asarray(image)).max() <= 1  # Pillow rounds down


def test_a_margin_shows_the_area_around_the_face() -> None:
    image = scene(200, 200)
    points = CANONICAL_POINTS * 100 + 50
    assert np.abs(crop_face(image, points, size=200, margin=0.5).astype(int) - np.asarray(image)).max() <= 1
    inner = np.asarray(image.crop((50, 50, 150, 150))).astype(int)
    assert np.abs(crop_face(image, points, size=100).astype(int) - inner).max() <= 1


def test_a_face_that_shrinks_is_antialiased() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(512, 512, 3), dtype=np.uint8)
    crop = crop_face(Image.fromarray(noise), CANONICAL_POINTS * 512, size=32)
    assert crop.std() < 10  # the noise has 74; a pixel of the crop averages 256


def test_the_edges_of_a_picture_are_repeated_beyond_it() -> None:
    image = Image.new("RGB", (40, 40), (10, 200, 90))
    crop = crop_face(image, CANONICAL_POINTS * 40 + (30, -25), size=48, margin=0.3)
    assert np.unique(crop.reshape(-1, 3), axis=0).tolist() == [[10, 200, 90]]


def test_a_face_outside_its_picture_still_gives_a_crop() -> None:
    assert crop_face(scene(40, 40), CANONICAL_POINTS * 20 + 500, size=16).shape == (16, 16, 3)


def test_a_whole_picture_lies_in_the_center_of_its_square() -> None:
    image = scene(60, 30)
    square = crop_whole(image, size=60)
    assert np.abs(square[15:45].astype(int) - np.asarray(image)).max() <= 1
    assert np.abs(square[:12].astype(int) - np.asarray(image)[0]).max() <= 1
    square_picture = scene(64, 64)
    difference = crop_whole(square_picture, size=64).astype(int) - square_pixels(square_picture, size=64)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("which", "chosen"), [("largest", 1), ("most_central", 2), ("surest", 0)])
def test_the_configured_face_is_chosen(which: str, chosen: int) -> None:
    faces = [face(0, 0, 20, 0.95), face(60, 60, 30, 0.8), face(42, 40, 18, 0.7)]
    settings = FaceSettings.model_validate({"which": which})
    assert choose_face(faces, width=100, height=100, settings=settings) is faces[chosen]


def test_a_face_with_a_low_score_or_a_small_box_is_not_accepted() -> None:
    faces = [face(side=12, score=0.9), face(side=40, score=0.45)]
    small = FaceSettings(min_score=0.5, min_face_pixels=12)
    assert choose_face(faces, width=50, height=50, settings=small) is faces[0]
    with pytest.raises(NoFace, match=r"^no face of 13 px or more$"):
        choose_face(faces, width=50, height=50, settings=FaceSettings(min_score=0.5, min_face_pixels=13))
    with pytest.raises(NoFace, match=r"^no face found \(min_score 0.95\)$"):
        choose_face(faces, width=50, height=50, settings=FaceSettings(min_score=0.95))
