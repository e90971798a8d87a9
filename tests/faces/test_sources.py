"""Readers of UTKFace, MaskBase and folders. The images are gray squares with every quirk in their names."""

import os
from collections import Counter
from pathlib import Path

import pytest

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.reading import fingerprint
from tests.faces.sources_support import TIME, put, read, rows_of, source_of

REAL_UTKFACE = Path(__file__).parents[2].parent / "shared" / "data" / "utkface"


# UTKFace


def test_utkface_names_give_age_gender_and_origin(tmp_path):
    for name in (f"25_0_2_{TIME}.jpg.chip.jpg", f"61_1_4_{TIME}.jpg", f"1_1_0_{TIME}.jpg.chip.jpg"):
        put(tmp_path / name)
    faces = read(tmp_path, type="utkface").faces
    assert rows_of(faces, "mask", "gender", "age", "age_years", "origin") == [
        (None, "female", "<30", 1.0, "white"),
        (None, "male", "<30", 25.0, "asian"),
        (None, "female", ">=60", 61.0, "other"),
    ]
    assert faces["age_years"].dtype == float
    assert set(faces["source"]) == {"utkface"}


@pytest.mark.parametrize(
    "name",
    [
        f"61_1_{TIME}.jpg.chip.jpg",
        f"55_0_0_{TIME}jpg.chip.jpg",
        f"24_0_1_{TIME} .jpg.chip.jpg",
        f"28_1_2_{TIME}8.jpg.chip.jpg",
        f"28_2_2_{TIME}.jpg.chip.jpg",
        f"28_1_5_{TIME}.jpg.chip.jpg",
        f"-28_1_2_{TIME}.jpg.chip.jpg",
        f"_1_2_{TIME}.jpg.chip.jpg",
    ],
)
def test_a_malformed_name_is_rejected_with_its_reason(tmp_path, name):
    put(tmp_path / name)
    put(tmp_path / f"30_0_2_{TIME}.jpg.chip.jpg")
    result = read(tmp_path, type="utkface", name="utk")
    assert len(result.faces) == 1
    (rejected,) = result.rejected.to_dict("records")
    assert rejected["source"] == "utk"
    assert rejected["image_id"] == f"utk:{name}"
    assert rejected["image_path"] == str(tmp_path / name)
    assert rejected["reason"].startswith("expected files named {age}_")
    assert name in rejected["reason"]


def test_without_a_named_person_every_image_is_a_different_person(tmp_path):
    for hour in "01", "02", "03":
        put(tmp_path / f"30_0_2_201701{hour}174525125.jpg.chip.jpg")
    faces = read(tmp_path, type="utkface").faces
    assert faces["person_id"].nunique() == 3


def test_the_real_utkface_has_three_malformed_names():
    if not REAL_UTKFACE.is_dir():
        pytest.skip(f"no UTKFace at {REAL_UTKFACE}; it is not part of the project")
    result = read(REAL_UTKFACE.parent, type="utkface", path="utkface")
    assert result.num_found == 11_994
    assert len(result.rejected) == 3
    assert (result.faces["origin"] == "asian").sum() == 1_726


# MaskBase


def put_maskbase(images):
    for number, suffix in enumerate([".jpg", ".png", ".jpeg", ".JPG", ".jpg"], start=1):
        put(images / "000001_female_Asian_45" / f"mask{number}{suffix}")
    put(images / "000001_female_Asian_45" / "incorrect_mask.jpeg")
    put(images / "000001_female_Asian_45" / "normal.png")
    put(images / "000001_female_Asian_45" / "._normal.png")
    put(images / "003397_female_Asian_22" / "normal.jpg")
    put(images / "003397_male_Asian_19" / "normal.jpg")
    put(images / "001498-1_male_Asian_60" / "normal.jpg")


@pytest.mark.parametrize("inside", ["train/images", "images", "."])
def test_maskbase_is_found_from_each_of_its_parent_folders(tmp_path, inside):
    put_maskbase(tmp_path / inside)
    result = read(tmp_path, type="maskbase")
    assert (result.num_found, len(result.faces), len(result.passed_over)) == (11, 10, 1)
    assert (tmp_path / inside / "000001_female_Asian_45" / "normal.png").samefile(result.faces["image_path"].iloc[6])


def test_maskbase_stems_give_the_mask_for_any_extension(tmp_path):
    put_maskbase(tmp_path)
    faces = read(tmp_path, type="maskbase").faces
    first = faces[faces["person_id"] == "maskbase:000001_female_Asian_45"]
    assert Counter(first["mask"]) == {"wear": 5, "incorrect": 1, "normal": 1}
    assert set(rows_of(first, "gender", "age", "age_years", "origin")) == {("female", "30-59", 45.0, "asian")}


def test_a_repeated_id_is_two_people(tmp_path):
    put_maskbase(tmp_path)
    faces = read(tmp_path, type="maskbase").faces
    people = set(faces["person_id"])
    assert {"maskbase:003397_female_Asian_22", "maskbase:003397_male_Asian_19"} < people
    assert len(people) == 4


def test_maskbase_rejects_malformed_folders_stems_and_depths_and_passes_over_other_files(tmp_path):
    put_maskbase(tmp_path)
    put(tmp_path / "000002_femlae_Asian_30" / "mask1.jpg")
    put(tmp_path / "000003_male_Asian" / "normal.jpg")
    put(tmp_path / "000004_male_Asian_30" / "mask6.jpg")
    put(tmp_path / "stray.jpg")
    (tmp_path / "000001_female_Asian_45" / "notes.txt").write_text("")
    result = read(tmp_path, type="maskbase")
    reasons = dict(rows_of(result.rejected, "image_id", "reason"))
    assert len(result.faces) == 10
    assert len(reasons) == 4
    assert result.passed_over == ["000001_female_Asian_45/._normal.png", "000001_female_Asian_45/notes.txt"]
    assert "malformed folder name" in reasons["maskbase:000002_femlae_Asian_30/mask1.jpg"]
    assert "malformed folder name" in reasons["maskbase:000003_male_Asian/normal.jpg"]
    assert "got 'mask6'" in reasons["maskbase:000004_male_Asian_30/mask6.jpg"]
    assert "expected the file in a folder" in reasons["maskbase:stray.jpg"]


# Folders


def test_levels_name_the_columns_of_the_leading_folders(tmp_path):
    put(tmp_path / "male" / "<30" / "a.png")
    put(tmp_path / "female" / ">=60" / "deeper" / "b.JPG")
    faces = read(tmp_path, type="folder", levels=["gender", "age"]).faces
    assert rows_of(faces, "image_id", "mask", "gender", "age") == [
        ("folder:female/>=60/deeper/b.JPG", None, "female", ">=60"),
        ("folder:male/<30/a.png", None, "male", "<30"),
    ]


def test_a_file_with_fewer_folders_than_levels_is_rejected(tmp_path):
    put(tmp_path / "male" / "<30" / "a.png")
    put(tmp_path / "male" / "b.png")
    result = read(tmp_path, type="folder", levels=["gender", "age"])
    assert rows_of(result.rejected, "image_id") == [("folder:male/b.png",)]
    assert "<gender>/<age>/" in result.rejected["reason"].item()


def test_a_level_of_the_underscore_names_nothing_and_may_repeat(tmp_path):
    put(tmp_path / "batch 1" / "male" / "camera" / "a.png")
    faces = read(tmp_path, type="folder", levels=["_", "gender", "_"]).faces
    assert rows_of(faces, "gender") == [("male",)]


def test_a_level_may_name_the_person(tmp_path):
    for name in ("Ann_Lee/1.jpg", "Ann_Lee/2.jpg", "Bo_Ek/1.jpg"):
        put(tmp_path / name)
    faces = read(tmp_path, type="folder", levels=["person_id"]).faces
    assert faces["person_id"].tolist() == ["folder:Ann_Lee", "folder:Ann_Lee", "folder:Bo_Ek"]


def test_images_are_found_by_content_and_all_other_files_are_passed_over_and_counted(tmp_path):
    names = ["a.jpg", "b.JPEG", "c.Png", "d.webp", "e", "f.jfif", "g.jpe", "h.mpo", "i.ppm", "j.dat", "text.jpg"]
    for name in [*names, "._a.jpg", ".hidden.jpg", ".cache/x.jpg"]:
        put(tmp_path / name)
    (tmp_path / "text.jpg").write_text("named like an image: decoding gives the reason")
    others = ["labels.csv", "README", "a.jpg.txt", ".DS_Store", "Thumbs.db"]
    for name in others:
        (tmp_path / name).write_text("P1")
    result = read(tmp_path, type="folder")
    assert [name.split(":")[1] for name in result.faces["image_id"]] == names
    assert result.passed_over == sorted([*others, "._a.jpg", ".hidden.jpg", ".cache/"])
    assert result.num_found == len(names) + len(others) + 3


def test_a_linked_folder_is_read_and_circular_links_are_ignored(tmp_path):
    put(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "faces")
    assert read(tmp_path, type="folder", path="faces").faces["image_id"].tolist() == ["folder:linked/a.jpg"]


def test_a_file_name_that_is_not_utf8_is_rejected(tmp_path):
    put(tmp_path / "good.jpg")
    try:
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    result = read(tmp_path, type="folder")
    assert len(result.faces) == 1
    assert rows_of(result.rejected, "image_id", "reason") == [("folder:bad\\udcff.jpg", "the file's name is not UTF-8")]
    fingerprint(source_of(type="folder"), root=tmp_path)


def test_a_root_below_the_home_folder_is_refused_with_the_reason():
    with pytest.raises(FaceTableError, match="'~' is not expanded: write the whole path"):
        read(Path("~/absent"), type="folder", path="labeled")


@pytest.mark.parametrize("kind", ["folder", "utkface", "maskbase"])
def test_a_missing_or_empty_folder_is_reported_with_its_path_and_the_cure(tmp_path, kind):
    with pytest.raises(FaceTableError, match=r"gone: no such folder; source 'x' .*faces\.root"):
        read(tmp_path, type=kind, name="x", path="gone")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_text("")
    with pytest.raises(FaceTableError, match=r"empty: no image found for source 'x', expected .*faces\.root"):
        read(tmp_path, type=kind, name="x", path="empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(FaceTableError, match="file: neither a folder nor an archive"):
        read(tmp_path, type=kind, name="x", path="file")


def test_an_absolute_path_needs_no_root(tmp_path):
    put(tmp_path / "faces" / "a.jpg")
    result = read(Path("elsewhere"), type="folder", path=str(tmp_path / "faces"))
    assert result.faces["image_path"].tolist() == [str(tmp_path / "faces" / "a.jpg")]
