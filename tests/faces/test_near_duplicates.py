"""Near duplicates: pairs against brute force, robustness to saving again, merging."""

import io

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.faces.near_duplicates import merge_pictures, near_pairs, perceptual_hashes
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people


def brute_force(hashes: np.ndarray, max_distance: int) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if int(np.bitwise_count(hashes[i] ^ hashes[j]).sum()) <= max_distance
    }


def flipped(hashes: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    for row in bits:
        row[rng.choice(256, number, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


@pytest.mark.parametrize("max_distance", [0, 3, 12])
def test_every_near_pair_is_found_and_no_other(max_distance: int) -> None:
    rng = np.random.default_rng(max_distance)
    base = rng.integers(0, 2**63, size=(40, 4), dtype=np.uint64)
    hashes = np.concatenate([base, *(flipped(base, number, rng) for number in (1, 3, 4, 11, 12, 13)), base[:5]])
    found = {tuple(pair) for pair in near_pairs(hashes, max_distance=max_distance).tolist()}
    expected = brute_force(hashes, max_distance)
    components = [
        merge_pictures([str(n) for n in range(len(hashes))], np.array(sorted(p)).reshape(-1, 2))
        for p in (found, expected)
    ]
    assert found <= expected
    assert components[0] == components[1]
    distinct = hashes[: 40 * 7]
    assert {p for p in found if max(p) < len(distinct)} == brute_force(distinct, max_distance)


def test_many_equal_pictures_give_linearly_many_pairs() -> None:
    pairs = near_pairs(np.full((50_000, 4), 2**63 - 1, dtype=np.uint64), max_distance=12)
    assert pairs.tolist()[:2] == [[0, 1], [0, 2]]
    assert len(pairs) == 49_999


def test_pictures_without_texture_are_no_near_duplicates() -> None:
    """All uniform pictures, of any color, have the hash 0."""
    hashes = np.zeros((3, 4), dtype=np.uint64)
    hashes[2, 0] = 2**12 - 1  # twelve bits set
    assert len(near_pairs(hashes, max_distance=12)) == 0
    assert near_pairs(hashes, max_distance=0).tolist() == []


def squares(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image.convert("RGB").resize((48, 48), Image.Resampling.BILINEAR)) for image in images])


def test_a_picture_saved_again_is_near_and_another_person_is_not() -> None:
    people = sample_people(30, population="home", seed=4)
    faces = [draw_face(face, size=96) for face in sample_faces(people, images_per_person=1, seed=4)]

    def saved(image: Image.Image, quality: int) -> Image.Image:
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=quality)
        return Image.open(file)

    hashes = perceptual_hashes(squares(faces), np.arange(30))
    for anew in (
        [saved(face, 80) for face in faces],
        [face.resize((60, 60)) for face in faces],
        [face.convert("L") for face in faces],
    ):
        distances = np.bitwise_count(hashes ^ perceptual_hashes(squares(anew), np.arange(30))).sum(axis=1)
        assert (distances <= 12).mean() >= 0.9
    assert len(near_pairs(hashes, max_distance=12)) == 0
    assert (perceptual_hashes(squares(faces), np.array([7, 3])) == hashes[[7, 3]]).all()


def test_pictures_linked_through_others_get_the_same_id() -> None:
    assert merge_pictures(["d", "b", "c", "a", "b"], np.array([[0, 2], [2, 3]])) == ["a", "b", "a", "a", "b"]
    assert merge_pictures(["x", "y"], np.zeros((0, 2), dtype=np.int64)) == ["x", "y"]
