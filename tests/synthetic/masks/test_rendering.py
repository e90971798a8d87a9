"""Rendered masks: what they cover, and how they match the photograph."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ssl_pipeline.synthetic.masks import rendering
from ssl_pipeline.synthetic.masks.head_pose import Landmarks, fit_pose
from ssl_pipeline.synthetic.masks.parameters import KINDS, WAYS, picture_rng, sample_mask
from ssl_pipeline.synthetic.masks.rendering import NoMask, render_mask
from ssl_pipeline.synthetic.masks.textures import cover
from tests.synthetic.masks.support import PLAIN, SIZE, bare_face

NOSE, MOUTH, CHIN, BROW, CHEEKS = (0.0, 0.24), (0.0, 0.57), (0.0, 0.9), (0.0, -0.3), ((-0.4, 0.45), (0.4, 0.45))
COVERED = {
    "right": {"nose": True, "mouth": True, "chin": True},
    "nose_out": {"nose": False, "mouth": True, "chin": True},
    "chin_out": {"nose": True, "mouth": True, "chin": False},
    "on_chin": {"nose": False, "mouth": False, "chin": True},
}


def difference(before, after):
    return np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int)).max(axis=2)


def is_covered(before, after, to_pixels, point):
    (x, y) = np.round(to_pixels(point)[0]).astype(int)
    return bool(np.median(difference(before, after)[y - 1 : y + 2, x - 1 : x + 2]) > 25)


@pytest.mark.parametrize("roll", [0.0, 14.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", COVERED)
@pytest.mark.parametrize("height", [-1.0, 1.0])
def test_each_way_of_wearing_covers_what_its_name_says(way, kind, roll, height) -> None:
    picture, landmarks, to_pixels = bare_face(roll=roll)
    masked = render_mask(picture, landmarks, replace(PLAIN, way=way, kind=kind, color=(70, 110, 190), height=height))
    covered = {
        name: is_covered(picture, masked, to_pixels, point)
        for name, point in (("nose", NOSE), ("mouth", MOUTH), ("chin", CHIN))
    }
    assert covered == COVERED[way]
    assert not is_covered(picture, masked, to_pixels, BROW)


def test_the_mask_stays_near_the_face() -> None:
    picture, landmarks, to_pixels = bare_face()
    changed = difference(picture, render_mask(picture, landmarks, PLAIN)) > 0
    rows, columns = np.nonzero(changed)
    left, top, right, bottom = *to_pixels((-1.0, -0.12))[0], *to_pixels((1.0, 1.35))[0]
    assert left <= columns.min() and columns.max() <= right
    assert top <= rows.min() and rows.max() <= bottom


def test_the_same_parameters_give_the_same_pixels_and_another_seed_others() -> None:
    picture, landmarks, _ = bare_face()
    once, again = (np.asarray(render_mask(picture, landmarks, PLAIN)) for _ in range(2))
    other = np.asarray(render_mask(picture, landmarks, replace(PLAIN, seed=6)))
    assert (once == again).all()
    assert (once != other).any()


def test_a_darker_photograph_gives_a_darker_mask() -> None:
    picture, landmarks, to_pixels = bare_face()
    means = []
    for factor in (1.0, 0.6, 0.3):
        dimmed = picture.point(lambda value, factor=factor: round(value * factor))
        masked = np.asarray(render_mask(dimmed, landmarks, PLAIN), dtype=float)
        means.append(np.mean([masked[tuple(np.round(to_pixels(point)[0]).astype(int)[::-1])] for point in CHEEKS]))
    assert all(darker < 0.8 * brighter for brighter, darker in pairwise(means))


def test_light_from_the_side_falls_on_the_mask() -> None:
    picture, landmarks, to_pixels = bare_face()
    fading = np.linspace(1.0, 0.35, SIZE)[None, :, None]
    faded = Image.fromarray((np.asarray(picture) * fading).astype(np.uint8))
    (lx, ly), (rx, ry) = (np.round(to_pixels(point)[0]).astype(int) for point in CHEEKS)

    def left_to_right_ratio(photograph):
        masked = np.asarray(render_mask(photograph, landmarks, PLAIN), dtype=float)
        return masked[ly - 3 : ly + 4, lx - 3 : lx + 4].mean() / masked[ry - 3 : ry + 4, rx - 3 : rx + 4].mean()

    assert left_to_right_ratio(faded) > 1.12 * left_to_right_ratio(picture)


def test_a_gray_picture_stays_gray() -> None:
    picture, landmarks, _ = bare_face()
    masked = np.asarray(render_mask(picture.convert("L").convert("RGB"), landmarks, PLAIN), dtype=int)
    assert np.ptp(masked, axis=2).max() <= 2


def test_a_blurred_photograph_gives_a_softer_edge() -> None:
    picture, landmarks, _ = bare_face()
    dark = replace(PLAIN, color=(30, 30, 34))
    steepest = []
    for photograph in (picture, picture.filter(ImageFilter.GaussianBlur(2.5))):
        masked = np.asarray(render_mask(photograph, landmarks, dark).convert("L"), dtype=float)
        added = masked - np.asarray(photograph.convert("L"), dtype=float)
        steepest.append(np.abs(np.diff(added, axis=0)).max())
    assert steepest[1] < 0.7 * steepest[0]


def test_a_turned_head_shows_less_of_the_mask_on_the_far_side() -> None:
    picture, landmarks, _ = bare_face()
    middle = landmarks.points[:2].mean(axis=0)[0]
    widths = {}
    for shift in (-0.25, 0.0, 0.25):  # of the nose, in eye distances: to the picture's left, straight, right
        points = landmarks.points.copy()
        points[2, 0] += shift * (points[1, 0] - points[0, 0])
        columns = np.nonzero(difference(picture, render_mask(picture, Landmarks(points), PLAIN)).max(axis=0) > 25)[0]
        widths[shift] = (middle - columns.min(), columns.max() - middle)
    assert widths[-0.25][0] < widths[0.0][0] < widths[0.25][0]
    assert widths[-0.25][1] > widths[0.0][1] > widths[0.25][1]


def test_a_nose_shifted_sideways_means_yaw() -> None:
    points = np.array([[60.0, 60], [140, 60], [100, 104], [68, 140], [132, 140]])
    assert abs(fit_pose(Landmarks(points)).yaw_degrees) < 0.5
    points[2, 0] += 16
    assert fit_pose(Landmarks(points)).yaw_degrees > 10


def test_a_face_at_the_picture_s_edge_is_masked_where_it_is_visible() -> None:
    picture, landmarks, _ = bare_face()
    half = picture.crop((0, 0, SIZE // 2, SIZE))
    masked = render_mask(half, landmarks, PLAIN)
    assert masked.size == half.size
    assert difference(half, masked).max() > 25


@pytest.mark.parametrize(
    ("way", "height", "message"),
    [
        ("on_chin", SIZE // 2 + 8, "the mask lies outside"),
        ("right", SIZE // 2 - 8, "the mask lies outside"),
        ("chin_out", SIZE * 2 // 3, "the chin .* lies outside"),
    ],
)
def test_a_mask_that_the_picture_does_not_show_is_refused(way, height, message) -> None:
    picture, landmarks, _ = bare_face()
    with pytest.raises(NoMask, match=message):
        render_mask(picture.crop((0, 0, SIZE, height)), landmarks, replace(PLAIN, way=way))


def test_a_transparent_mask_is_refused(monkeypatch) -> None:
    picture, landmarks, _ = bare_face()
    monkeypatch.setattr(rendering, "cover", lambda kind: np.zeros_like(cover(kind)))
    with pytest.raises(NoMask, match="nothing of the mask is visible"):
        render_mask(picture, landmarks, PLAIN)


def test_parameters_depend_on_seed_face_and_number_and_colors_have_their_documented_shares() -> None:
    def sample(*key, **shares):
        return sample_mask(picture_rng(*key), ways=dict.fromkeys(WAYS[1:], 1.0), **shares)

    assert sample(0, "a", 1) == sample(0, "a", 1)
    assert len({sample(0, "a", 1), sample(1, "a", 1), sample(0, "b", 1), sample(0, "a", 2)}) == 4
    masks = [sample(0, "a", number) for number in range(1500)]
    white = np.mean([min(mask.color) > 215 for mask in masks])
    black = np.mean([max(mask.color) < 90 for mask in masks])
    assert 0.42 < white < 0.58
    assert 0.18 < black < 0.33
    assert {mask.way for mask in masks} == set(WAYS[1:])
    assert {mask.kind for mask in (sample(0, "a", n, kinds={"cloth": 1, "surgical": 0}) for n in range(50))} == {
        "cloth"
    }
    assert all(mask.mask == "incorrect" for mask in masks)
