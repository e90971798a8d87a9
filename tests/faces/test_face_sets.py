"""Readers of published face sets. The images are gray squares in the sets' layouts."""

from datetime import date

import numpy as np
import pytest
from scipy.io import savemat

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.reading import fingerprint
from tests.faces.sources_support import LABELS, put, read, rows_of, source_of


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rejections(result):
    """Return {path inside the source: reason}."""
    return {image_id.partition(":")[2]: reason for image_id, reason in rows_of(result.rejected, "image_id", "reason")}


# FairFace


def put_fairface(root):
    write(
        root / "fairface_label_train.csv",
        "file,age,gender,race,service_test",
        "train/1.jpg,50-59,Male,East Asian,True",
        "train/2.jpg,0-2,Female,Latino_Hispanic,False",
        "train/3.jpg,more than 70,Female,Middle Eastern,False",
        "train/4.jpg,25-35,Female,White,False",
        "train/5.jpg,20-29,F,White,False",
        "train/6.jpg,twenty,Male,White,False",
        "train/7.jpg,20-29,Male,White,False",
        "../outside.jpg,20-29,Male,White,False",
        "train/1.jpg,50-59,Male",
    )
    write(root / "fairface_label_val.csv", "file,age,gender,race,service_test", "val/1.jpg,60-69,Male,Black,True")
    for name in ("train/1.jpg", "train/2.jpg", "train/3.jpg", "train/4.jpg", "train/._1.jpg", "val/1.jpg"):
        put(root / name)
    put(root.parent / "outside.jpg")


def test_fairface_ranges_give_the_value_that_contains_them_and_no_age_in_years(tmp_path):
    put_fairface(tmp_path / "ff")
    result = read(tmp_path, type="fairface", path="ff")
    assert rows_of(result.faces, "image_id", "gender", "age", "age_years", "origin") == [
        ("fairface:train/1.jpg", "male", "30-59", None, "east_asian"),
        ("fairface:train/2.jpg", "female", "<30", None, "latino_hispanic"),
        ("fairface:train/3.jpg", "female", ">=60", None, "middle_eastern"),
        ("fairface:train/4.jpg", "female", None, None, "white"),  # 25-35 spans the bin edge at 30
        ("fairface:val/1.jpg", "male", ">=60", None, "black"),
    ]


def test_fairface_tables_may_name_files_without_their_folder(tmp_path):
    put_fairface(tmp_path)
    table = tmp_path / "fairface_label_val.csv"
    table.write_text(table.read_text().replace("val/1.jpg", "1.jpg"))
    assert rows_of(read(tmp_path, type="fairface", subsets=["val"]).faces, "image_id") == [("fairface:val/1.jpg",)]


def test_unusable_fairface_rows_are_rejected_with_table_and_line(tmp_path):
    put_fairface(tmp_path / "ff")
    result = read(tmp_path, type="fairface", path="ff")
    assert (result.num_found, len(result.rejected)) == (10, 5)
    reasons = sorted(result.rejected["reason"])
    for reason, part in zip(
        reasons, ["row 10: 3 fields", "got 'F'", "got 'twenty'", "no such file", "lies outside"], strict=True
    ):
        assert reason.startswith("fairface_label_train.csv row ") and part in reason


def test_a_filter_by_age_accepts_ranges_that_lie_entirely_inside_it(tmp_path):
    put_fairface(tmp_path / "ff")
    result = read(tmp_path, type="fairface", path="ff", filter={"min_age_years": 25, "max_age_years": 60})
    assert result.faces["image_id"].tolist() == ["fairface:train/1.jpg", "fairface:train/4.jpg"]
    assert result.num_filtered == 3  # 60-69 and 'more than 70' may be older


def test_a_subset_may_be_chosen_and_its_table_must_exist(tmp_path):
    put_fairface(tmp_path / "ff")
    assert read(tmp_path, type="fairface", path="ff", subsets=["val"]).num_found == 1
    (tmp_path / "ff/fairface_label_train.csv").unlink()
    with pytest.raises(FaceTableError, match=r"fairface_label_train\.csv: no such file; source 'fairface' \(subsets"):
        read(tmp_path, type="fairface", path="ff")


# AFAD


def test_afad_folders_give_age_and_gender_and_small_images_may_be_filtered(tmp_path):
    for name in ("AFAD-Full/15/111/1-0.jpg", "AFAD-Full/75/112/2-0.jpg", "AFAD-Full/75/112/._2-0.jpg"):
        put(tmp_path / name, side=30)
    put(tmp_path / "AFAD-Full/20/111/tiny.jpg", side=20)
    put(tmp_path / "AFAD-Full/20/113/x.jpg")
    put(tmp_path / "AFAD-Full/stray.jpg")
    (tmp_path / "AFAD-Full/15/111/Thumbs.db").write_text("")
    result = read(tmp_path, type="afad", filter={"min_side_pixels": 24})
    assert rows_of(result.faces, "gender", "age", "age_years", "origin") == [
        ("male", "<30", 15.0, "asian"),
        ("female", ">=60", 75.0, "asian"),
    ]
    assert (result.num_found, result.num_filtered, len(result.passed_over)) == (7, 1, 2)
    reasons = rejections(result)
    assert "got 'AFAD-Full/20/113/x.jpg'" in reasons["AFAD-Full/20/113/x.jpg"]
    assert "expected folders {age}/" in reasons["AFAD-Full/stray.jpg"]


# All-Age-Faces


def put_all_age_faces(root):
    for folder in ("aligned faces", "original images"):
        for name in ("00000A02", "07380A80", "07381A60", "13321A33", "13322A33", "0001A20"):
            put(root / folder / f"{name}.jpg")
    put(root / "aligned faces" / "00005A30.jpg")
    write(root / "image sets/train.txt", "00000A02 0", "07381A60 1", "00005A30 1")  # 0 is female
    write(root / "image sets/val.txt", "07380A80.jpg 0")


def test_all_age_faces_serial_numbers_give_the_gender_and_the_lists_have_the_opposite_codes(tmp_path):
    put_all_age_faces(tmp_path)
    result = read(tmp_path, type="all_age_faces")
    assert rows_of(result.faces, "image_id", "gender", "age", "age_years", "origin") == [
        ("all_age_faces:aligned faces/00000A02.jpg", "female", "<30", 2.0, None),
        ("all_age_faces:aligned faces/07380A80.jpg", "female", ">=60", 80.0, None),
        ("all_age_faces:aligned faces/07381A60.jpg", "male", ">=60", 60.0, None),
        ("all_age_faces:aligned faces/13321A33.jpg", "male", "30-59", 33.0, None),
    ]
    reasons = rejections(result)
    assert result.num_found == 7
    assert "female by serial number, male by the image sets" in reasons["aligned faces/00005A30.jpg"]
    assert "exceeds the set's last" in reasons["aligned faces/13322A33.jpg"]
    assert "malformed name" in reasons["aligned faces/0001A20.jpg"]


def test_all_age_faces_lists_each_person_once_from_the_configured_folder(tmp_path):
    put_all_age_faces(tmp_path)
    result = read(tmp_path, type="all_age_faces", images="original")
    assert result.num_found == 6
    assert result.faces["image_id"].str.startswith("all_age_faces:original images/").all()


# APPA-REAL


def test_appa_real_has_ages_but_no_gender_and_its_crops_are_used(tmp_path):
    header = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age"
    write(tmp_path / "gt_avg_train.csv", header, "0.jpg,36,61.5,4.3,58", "1.jpg,40,30,2,x", "2.jpg,9,20,2,21")
    write(tmp_path / "gt_avg_valid.csv", header, "0.jpg,36,5.47,1.3,4")
    for name in ("train/0.jpg", "train/0.jpg_face.jpg", "train/1.jpg_face.jpg", "train/2.jpg", "valid/0.jpg_face.jpg"):
        put(tmp_path / name)
    section = {"type": "appa_real", "subsets": ["train", "valid"]}
    result = read(tmp_path, **section)
    assert rows_of(result.faces, "image_id", "gender", "age", "age_years") == [
        ("appa_real:train/0.jpg_face.jpg", None, "30-59", 58.0),
        ("appa_real:valid/0.jpg_face.jpg", None, "<30", 4.0),
    ]
    assert result.num_found == 4
    reasons = rejections(result)
    assert reasons["train/1.jpg_face.jpg"] == (
        "gt_avg_train.csv row 3: column 'age_years': expected a number of at least 0, got 'x'"
    )
    assert "no such file" in reasons["train/2.jpg_face.jpg"]
    assert read(tmp_path, **section, age="apparent").faces["age_years"].tolist() == [61.5, 30.0, 5.47]


# MegaAge-Asian


def put_megaage(root, ages=("20", "64", "?")):
    write(root / "list/train_name.txt", "1.jpg", "2.jpg", "3.jpg", "", "")
    write(root / "list/train_age.txt", *ages)
    write(root / "list/test_name.txt", "1.jpg\r", "9.jpg\r")
    write(root / "list/test_age.txt", "70\r", "5\r")
    for name in ("train/1.jpg", "train/2.jpg", "train/3.jpg", "test/1.jpg"):
        put(root / name)


def test_megaage_lists_are_aligned_by_line_and_subsets_share_file_names(tmp_path):
    put_megaage(tmp_path)
    result = read(tmp_path, type="megaage_asian")
    assert rows_of(result.faces, "image_id", "gender", "age_years", "origin") == [
        ("megaage_asian:test/1.jpg", None, 70.0, "asian"),
        ("megaage_asian:train/1.jpg", None, 20.0, "asian"),
        ("megaage_asian:train/2.jpg", None, 64.0, "asian"),
    ]
    assert result.num_found == 5
    reasons = rejections(result)
    assert reasons["train/3.jpg"].startswith("list/train_name.txt line 3: column 'age_years'")
    assert "no such file" in reasons["test/9.jpg"]


def test_megaage_lists_of_different_lengths_are_refused(tmp_path):
    put_megaage(tmp_path, ages=("20", "64"))
    with pytest.raises(FaceTableError, match=r"2 ages for the 3 names of list/train_name\.txt"):
        read(tmp_path, type="megaage_asian")


# CelebA


def put_celeba(root):
    write(
        root / "Anno/list_attr_celeba.txt",
        "6",
        "Eyeglasses Male Young ",
        "000001.jpg -1  1 -1",
        "000002.jpg  1 -1  1",
        "000003.jpg  0 -1  1",
        "000004.jpg  1 -1",
        "000005.jpg  1 -1 -1",
        "000006.jpg  1 -1 -1",
    )
    write(root / "Anno/identity_CelebA.txt", "000001.jpg 7", "000002.jpg 8", "000006.jpg 7")
    write(root / "Eval/list_eval_partition.txt", "000001.jpg 0", "000002.jpg 2", "000006.jpg 0")
    for number in (1, 2, 3, 4, 6):
        put(root / f"Img/img_align_celeba/{number:06d}.jpg")


def test_celeba_gives_gender_person_and_any_mapped_attribute(tmp_path):
    put_celeba(tmp_path)
    labels = LABELS.model_validate(
        {"attributes": [*LABELS.model_dump()["attributes"], {"name": "glasses", "values": ["yes", "no"]}]}
    )
    result = read(tmp_path, type="celeba", labels=labels, columns={"glasses": "Eyeglasses"})
    assert rows_of(result.faces, "person_id", "gender", "age", "age_years", "glasses") == [
        ("celeba:7", "male", None, None, "no"),
        ("celeba:8", "female", None, None, "yes"),
        ("celeba:7", "female", None, None, "yes"),
    ]
    assert result.num_found == 6
    reasons = rejections(result)
    folder = "Img/img_align_celeba"
    assert "expected 1 or -1 for each attribute, got ['0']" in reasons[f"{folder}/000003.jpg"]
    assert "line 6: 2 values for 3 attributes" in reasons[f"{folder}/000004.jpg"]
    assert "no such file" in reasons[f"{folder}/000005.jpg"]


def test_celeba_is_read_from_csv_copies_of_its_tables(tmp_path):
    put_celeba(tmp_path)
    text = [read(tmp_path, type="celeba", subsets=["train", "test"])]
    for name, header in (
        ("Anno/list_attr_celeba", "image_id,Eyeglasses,Male,Young"),
        ("Anno/identity_CelebA", "image_id,identity"),
        ("Eval/list_eval_partition", "image_id,partition"),
    ):
        path = tmp_path / f"{name}.txt"
        lines = [",".join(line.split()) for line in path.read_text().splitlines() if ".jpg" in line]
        write(tmp_path / f"{path.stem}.csv", header, *lines)
        path.unlink()
    text.append(read(tmp_path, type="celeba", subsets=["train", "test"]))
    columns = ("image_id", "person_id", "gender")
    assert rows_of(text[0].faces, *columns) == rows_of(text[1].faces, *columns)
    assert len(text[1].faces) == 3


def test_celeba_subsets_follow_the_partition(tmp_path):
    put_celeba(tmp_path)
    result = read(tmp_path, type="celeba", subsets=["test"])
    assert result.faces["person_id"].tolist() == ["celeba:8"]


def test_celeba_without_identities_warns_that_splits_may_share_people(tmp_path, caplog):
    put_celeba(tmp_path)
    (tmp_path / "Anno/identity_CelebA.txt").unlink()
    result = read(tmp_path, type="celeba")
    assert result.faces["person_id"].nunique() == 3
    assert "no identity_CelebA.txt" in caplog.text


# IMDB-WIKI


def matlab_day(year, month, day):
    return date(year, month, day).toordinal() + 366


PEOPLE = [  # path, dob, photo_taken, gender, face_score, second_face_score
    ("01/nm01_rm1_1980-7-1_2010.jpg", matlab_day(1980, 7, 1), 2010, 1.0, 3.0, np.nan),
    ("01/nm01_rm2_1980-7-1_2009.jpg", matlab_day(1980, 7, 2), 2010, 0.0, 3.0, np.nan),
    ("01/nm02.jpg", matlab_day(1940, 1, 1), 2010, np.nan, 0.5, np.nan),
    ("01/second.jpg", matlab_day(1980, 1, 1), 2010, 1.0, 3.0, 2.25),
    ("01/noface.jpg", matlab_day(1980, 1, 1), 2010, 1.0, -np.inf, np.nan),
    ("01/unborn.jpg", matlab_day(2012, 1, 1), 2010, 1.0, 3.0, np.nan),
    ("01/nodate.jpg", 0, 2010, 1.0, 3.0, np.nan),
    ("01/absent.jpg", matlab_day(1980, 1, 1), 2010, 1.0, 3.0, np.nan),
    ("../outside.jpg", matlab_day(1980, 1, 1), 2010, 1.0, 3.0, np.nan),
]


def put_imdb(root, name="imdb"):
    columns = list(zip(*PEOPLE, strict=True))
    record = {
        key: np.asarray(column, dtype=float).reshape(1, -1)
        for key, column in zip(
            ["dob", "photo_taken", "gender", "face_score", "second_face_score"], columns[1:], strict=True
        )
    }
    record["full_path"] = np.array(columns[0], dtype=object).reshape(1, -1)
    root.mkdir(exist_ok=True)
    savemat(root / f"{name}.mat", {name: record})
    for path in columns[0]:
        if path != "01/absent.jpg":
            put(root / path)


@pytest.mark.parametrize("name", ["imdb", "wiki"])
def test_imdb_wiki_ages_are_those_of_1_july_and_an_unknown_gender_stays_unknown(tmp_path, name):
    put_imdb(tmp_path / "set", name)
    result = read(tmp_path, type="imdb_wiki", path="set")
    assert rows_of(result.faces, "person_id", "gender", "age", "age_years") == [
        ("imdb_wiki:nm01", "male", "30-59", 30.0),
        ("imdb_wiki:nm01", "female", "<30", 29.0),
        ("imdb_wiki:nm02.jpg", None, ">=60", 70.0),
    ]


def test_imdb_wiki_rejects_second_faces_missing_faces_impossible_ages_and_outside_paths(tmp_path):
    put_imdb(tmp_path / "set")
    result = read(tmp_path, type="imdb_wiki", path="set", min_face_score=1)
    assert (result.num_found, len(result.faces)) == (9, 2)
    everything = "\n".join(rejections(result).values())
    for part in (
        "imdb.mat entry 3: face_score 0.50 is below min_face_score 1",
        "imdb.mat entry 4: a second face was detected (second_face_score 2.25)",
        "imdb.mat entry 5: no face was detected (face_score -inf)",
        "imdb.mat entry 6: impossible age -2",
        "imdb.mat entry 7: impossible age None",
        "no such file",
        "lies outside",
    ):
        assert part in everything


@pytest.mark.parametrize("content", [b"", b"no matlab", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_an_invalid_mat_file_is_refused_with_a_message(tmp_path, content):
    (tmp_path / "wiki.mat").write_bytes(content)
    with pytest.raises(FaceTableError, match=r"wiki\.mat: not the Matlab 5 file of IMDB-WIKI"):
        read(tmp_path, type="imdb_wiki")


# LFW


def test_lfw_folders_give_the_person_and_nothing_else(tmp_path):
    for name in ("lfw/Ann_Lee/Ann_Lee_0001.jpg", "lfw/Ann_Lee/Ann_Lee_0002.jpg", "lfw/Bo/Bo_0001.jpg"):
        put(tmp_path / name)
    put(tmp_path / "lfw/Bo/Ann_Lee_0003.jpg")
    put(tmp_path / "stray.jpg")
    result = read(tmp_path, type="lfw")
    assert result.faces["person_id"].tolist() == ["lfw:Ann_Lee", "lfw:Ann_Lee", "lfw:Bo"]
    assert result.faces[["mask", "gender", "age", "age_years", "origin"]].isna().all(axis=None)
    assert set(rejections(result)) == {"lfw/Bo/Ann_Lee_0003.jpg", "stray.jpg"}


# MaskedFace-Net


def test_maskedface_net_names_give_the_mask_and_a_number_is_one_person_in_both_parts(tmp_path):
    for name in ("CMFD/00000/00001_Mask", "IMFD/0/00001_Mask_Chin", "IMFD/0/00002_Mask_Mouth_Chin"):
        put(tmp_path / f"{name}.jpg")
    put(tmp_path / "IMFD/0/00003_Mask_Nose_Mouth.jpg")
    put(tmp_path / "IMFD/0/00004_Mask_Nose.jpg")
    put(tmp_path / "IMFD/0/00005.jpg")
    labels = LABELS.model_validate(
        {
            "attributes": [
                LABELS.model_dump()["attributes"][0],
                {"name": "mask_covers", "values": ["nose, mouth, chin", "nose, mouth", "mouth, chin", "chin"]},
            ]
        }
    )
    result = read(tmp_path, type="maskedface_net", labels=labels)
    assert rows_of(result.faces, "person_id", "mask", "mask_covers") == [
        ("maskedface_net:00001", "wear", "nose, mouth, chin"),
        ("maskedface_net:00001", "incorrect", "chin"),
        ("maskedface_net:00002", "incorrect", "mouth, chin"),
        ("maskedface_net:00003", "incorrect", "nose, mouth"),
    ]
    assert set(rejections(result)) == {"IMFD/0/00004_Mask_Nose.jpg", "IMFD/0/00005.jpg"}


# RMFD


def test_rmfd_parts_give_the_mask_and_share_their_people(tmp_path):
    put(tmp_path / "set/AFDB_masked_face_dataset/liu/1.jpg")
    put(tmp_path / "set/AFDB_face_dataset/liu/0_1.jpg")
    put(tmp_path / "set/AFDB_face_dataset/stray.jpg")
    put(tmp_path / "set/other/liu/2.jpg")
    result = read(tmp_path, type="rmfd")
    assert rows_of(result.faces, "person_id", "mask", "gender") == [
        ("rmfd:liu", "normal", None),
        ("rmfd:liu", "wear", None),
    ]
    assert len(result.rejected) == 2


# All of them


SETS = "fairface afad all_age_faces appa_real megaage_asian celeba imdb_wiki lfw maskedface_net rmfd"


@pytest.mark.parametrize("kind", SETS.split())
def test_a_missing_set_is_reported_with_its_folder(tmp_path, kind):
    with pytest.raises(FaceTableError, match=r"gone: no such folder; source 'x'"):
        read(tmp_path, type=kind, name="x", path="gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceTableError, match=r"empty.* source 'x'"):
        read(tmp_path, type=kind, name="x", path="empty")


def test_a_link_to_itself_is_rejected_with_a_reason(tmp_path):
    put(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    result = read(tmp_path, type="folder", filter={"min_side_pixels": 1})
    assert result.faces["image_id"].tolist() == ["folder:a.jpg"]
    assert "symbolic links" in result.rejected["reason"].item()
    fingerprint(source_of(type="folder"), root=tmp_path)
