"""Drawn faces: the same seed gives the same pixels, and every label is visible in the picture."""

import dataclasses
import hashlib
from collections import Counter

import numpy as np
import pytest

from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people

SIZE = 32


def pixels(face, size=SIZE):
    return np.asarray(draw_face(face, size=size), dtype=float)


def digest(face):
    return hashlib.sha256(draw_face(face, size=SIZE).tobytes()).hexdigest()


def home_faces(num_people, *, seed=3, images_per_person=1, **options):
    people = sample_people(num_people, population="home", seed=seed)
    return sample_faces(people, images_per_person=images_per_person, seed=seed, **options)


def changed(face, **changes):
    """Return the same face with changes to the person (gender, age) or to the picture."""
    person = {key: value for key, value in changes.items() if key in {"gender", "age_years"}}
    picture = {key: value for key, value in changes.items() if key not in person}
    return dataclasses.replace(face, person=dataclasses.replace(face.person, **person), **picture)


def share_changed(face, other):
    """Return the share of pixels that differ by more than a twentieth of the range."""
    return (np.abs(pixels(face) - pixels(other)).max(axis=-1) > 13).mean()


def age_class(face):
    return "<30" if face.person.age_years < 30 else "30-59" if face.person.age_years < 60 else ">=60"


def test_the_same_seed_gives_the_same_pixels():
    assert [digest(face) for face in home_faces(4)] == [digest(face) for face in home_faces(4)]


def test_another_seed_gives_other_people_and_other_pixels():
    assert not {digest(face) for face in home_faces(4)} & {digest(face) for face in home_faces(4, seed=4)}


def test_all_pictures_of_a_person_differ():
    faces = home_faces(2, images_per_person=5)
    assert len({digest(face) for face in faces}) == 10
    assert len({face.person for face in faces}) == 2


def test_a_face_does_not_depend_on_the_number_of_other_faces():
    assert home_faces(3) == home_faces(30)[:3]
    assert home_faces(3, images_per_person=4)[::4] == home_faces(3)


def test_a_face_does_not_depend_on_the_order_of_drawing_or_of_people():
    people = sample_people(5, population="elsewhere", seed=8)
    forward = sample_faces(people, images_per_person=1, seed=8)
    backward = sample_faces(people[::-1], images_per_person=1, seed=8)
    assert backward == forward[::-1]
    assert [digest(face) for face in forward] == [digest(face) for face in backward][::-1]


def test_drawing_leaves_numpys_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator is under test
    pixels(home_faces(1)[0])
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_people_of_different_samples_have_different_ids():
    samples = [
        sample_people(5, population=population, seed=seed) for population in ("home", "elsewhere") for seed in (1, 2)
    ]
    assert len({person.person_id for people in samples for person in people}) == 20


@pytest.mark.parametrize(
    "change",
    [
        {"gender": "male"},
        {"gender": "female"},
        {"age_years": 20},
        {"age_years": 78},
        {"mask": "wear"},
        {"mask": "incorrect"},
        {"mask": "normal"},
    ],
    ids=str,
)
def test_mask_gender_and_age_each_change_the_drawing_when_all_else_is_fixed(change):
    opposite = {"male": "female", "female": "male", 20: 78, 78: 20}
    opposite |= {"wear": "normal", "incorrect": "wear", "normal": "incorrect"}
    (key, value), *_ = change.items()
    shares = [
        share_changed(changed(face, **{key: opposite[value]}), changed(face, **change))
        for face in home_faces(8)
        if face.occlusion == "none"
    ]
    assert min(shares) > 0.005
    assert np.mean(shares) > 0.02


@pytest.mark.parametrize("fit", ["nose_out", "mouth_out", "chin_out"])
def test_every_wrong_fit_looks_unlike_a_mask_worn_right(fit):
    for face in home_faces(4):
        wrong = changed(face, mask="incorrect", mask_fit=fit)
        assert share_changed(wrong, changed(face, mask="wear")) > 0.01
        assert share_changed(wrong, changed(face, mask="normal")) > 0.01


def test_one_year_changes_less_than_thirty():
    for face in home_faces(6):
        at_sixty = pixels(changed(face, age_years=60))
        next_year = np.abs(at_sixty - pixels(changed(face, age_years=61))).mean()
        youth = np.abs(at_sixty - pixels(changed(face, age_years=30))).mean()
        assert next_year < youth


def test_the_populations_differ_in_color_and_spread():
    means, rolls, skins = {}, {}, {}
    for population in ("home", "elsewhere"):
        faces = sample_faces(sample_people(60, population=population, seed=1), images_per_person=1, seed=1)
        means[population] = np.array([pixels(face, size=16).mean(axis=(0, 1)) for face in faces])
        rolls[population] = np.std([face.pose.roll_degrees for face in faces])
        skins[population] = np.std([face.person.skin for face in faces], axis=0)
    assert (means["home"].mean(axis=0) - means["elsewhere"].mean(axis=0) > 20).all()
    assert rolls["elsewhere"] > 1.2 * rolls["home"]
    assert (skins["elsewhere"] > 1.2 * skins["home"]).all()


@pytest.mark.parametrize(
    ("population", "age_shares"), [("home", (0.40, 0.35, 0.25)), ("elsewhere", (0.27, 0.38, 0.35))]
)
def test_ages_and_genders_have_the_shares_of_their_population(population, age_shares):
    people = sample_people(1500, population=population, seed=6)
    faces = sample_faces(people, images_per_person=1, seed=6)
    ages = Counter(age_class(face) for face in faces)
    assert [ages[name] / 1500 for name in ("<30", "30-59", ">=60")] == pytest.approx(age_shares, abs=0.04)
    assert Counter(person.gender for person in people)["male"] / 1500 == pytest.approx(0.5, abs=0.04)
    assert 18 <= min(person.age_years for person in people) <= max(person.age_years for person in people) <= 80


@pytest.mark.parametrize("population", ["home", "elsewhere"])
def test_every_class_occurs_in_three_hundred_faces(population):
    faces = sample_faces(sample_people(300, population=population, seed=2), images_per_person=1, seed=2)
    assert len({(face.mask, face.person.gender, age_class(face)) for face in faces}) == 18


def test_mask_shares_are_kept():
    faces = home_faces(300, images_per_person=4, mask_shares={"normal": 0.7, "wear": 0.3})
    counts = Counter(face.mask for face in faces)
    assert counts["incorrect"] == 0
    assert counts["normal"] / len(faces) == pytest.approx(0.7, abs=0.05)


def test_the_order_of_mask_shares_does_not_matter():
    shares = {"wear": 0.2, "incorrect": 0.5, "normal": 0.3}
    assert home_faces(5, mask_shares=shares) == home_faces(5, mask_shares=dict(reversed(shares.items())))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"wear": 0.5, "normal": 0.4}, "sum to 1"),
        ({"wear": 1.5, "normal": -0.5}, "0 or more"),
        ({"wear": float("nan"), "normal": 1.0}, "0 or more"),
        ({}, "sum to 1"),
        ({"wear": 0.5, "half": 0.5}, "got half"),
    ],
)
def test_wrong_mask_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        home_faces(1, mask_shares=shares)


def test_wrong_numbers_and_populations_are_refused():
    with pytest.raises(ValueError, match="num_people must be 1 or more, got 0"):
        sample_people(0, population="home", seed=1)
    with pytest.raises(ValueError, match="home, elsewhere"):
        sample_people(1, population="nowhere", seed=1)
    with pytest.raises(ValueError, match="non-negative"):
        sample_people(1, population="home", seed=-1)
    with pytest.raises(ValueError, match="images_per_person must be 1 or more, got 0"):
        home_faces(1, images_per_person=0)
    with pytest.raises(ValueError, match="16 or more, got 8"):
        draw_face(home_faces(1)[0], size=8)


@pytest.mark.parametrize("size", [16, 64, 97])
def test_a_picture_is_a_square_of_the_given_size(size):
    image = draw_face(home_faces(1)[0], size=size)
    assert (image.mode, image.size) == ("RGB", (size, size))


def test_a_face_looks_the_same_at_every_size_but_for_noise():
    face = dataclasses.replace(home_faces(1)[0], noise=0.0)
    small, large = draw_face(face, size=SIZE), draw_face(face, size=4 * SIZE).resize((SIZE, SIZE))
    assert np.abs(np.asarray(small, dtype=float) - np.asarray(large, dtype=float)).mean() < 6
