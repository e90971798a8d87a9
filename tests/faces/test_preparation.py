"""Preparation: counts add up, splits share no person, no leak into the pool, equal bytes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.leakage import persons_known, remove_overlap
from ssl_pipeline.faces.pixels import decode_into, open_pixels
from ssl_pipeline.faces.preparation import OUTPUT_NAMES, prepare_faces
from ssl_pipeline.faces.table import face_columns, read_faces, write_faces

LABELS = LabelsConfig.model_validate({"attributes": [{"name": "gender", "values": ["male", "female"]}]})


def picture(path: Path, number: int, *, size: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, size=(size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make_set(root: Path, name: str, rows: list[tuple[str, str, str, int]]) -> None:
    """Write a CSV source of (file, person, gender, picture number)."""
    for file, _, _, number in rows:
        picture(root / name / file, number)
    with open(root / name / "labels.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("image_path", "person_id", "gender"), *(row[:3] for row in rows)])


def people(num_people: int, *, first: int = 0, each: int = 2) -> list[tuple[str, str, str, int]]:
    return [
        (f"{person}-{shot}.png", f"p{person}", ("male", "female")[person % 2], 10 * person + shot)
        for person in range(first, first + num_people)
        for shot in range(each)
    ]


def config(root: Path, *, hide_labels: bool = False, **labeled: Any) -> FacesConfig:
    return FacesConfig.model_validate(
        {
            "root": str(root),
            "image_size": 24,
            "labeled": {
                "sources": [{"type": "csv", "name": "ours", "path": "ours", "table": "labels.csv"}],
                **({"test_fraction": 0.25} | labeled),
            },
            "unlabeled": {
                "hide_labels": hide_labels,
                "sources": [{"type": "csv", "name": "pool", "path": "pool", "table": "labels.csv"}],
            },
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_set(tmp_path / "raw", "ours", people(20))
    # pictures 0, 10, … of the pool are those of ours; 1000 is there twice
    pool = [(f"{n}.png", f"q{n}", "male", n) for n in (*range(0, 200, 10), 1000, 1001, 1002)]
    make_set(tmp_path / "raw", "pool", [*pool, ("again.png", "q9", "female", 1000)])
    return tmp_path / "raw"


def prepare(root: Path, directory: Path, *, seed: int = 0, **labeled: Any) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    return prepare_faces(config(root, **labeled), LABELS, seed=seed, directory=directory)


def tables(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_faces(directory / "labeled.parquet"), read_faces(directory / "unlabeled.parquet")


def test_no_person_and_no_picture_is_in_two_splits(root: Path, tmp_path: Path) -> None:
    counts = prepare(root, tmp_path / "faces")
    labeled, _ = tables(tmp_path / "faces")
    assert counts["labeled"] == labeled["split"].value_counts().to_dict() | {"guarantee": 0, "unused": 0}
    assert counts["labeled"]["test"] in (10, 12)  # whole persons of two pictures each
    for column in ("person_id", "content_hash"):
        assert labeled.groupby(column)["split"].nunique().max() == 1
    assert set(labeled["split"]) == {"train", "validation", "test"}


def test_a_labeled_picture_never_stays_in_the_pool(root: Path, tmp_path: Path) -> None:
    counts = prepare(root, tmp_path / "faces")
    labeled, pool = tables(tmp_path / "faces")
    assert not set(pool["content_hash"]) & set(labeled["content_hash"])
    assert sum(counts["leakage"].values()) == 21
    assert counts["leakage"]["pool"] == 1
    assert sorted(pool["image_id"]) == ["pool:1000.png", "pool:1001.png", "pool:1002.png"]


def test_the_pixels_of_a_picture_are_in_its_row(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "faces")
    pixels = open_pixels(tmp_path / "faces/pixels.npy")
    for faces in tables(tmp_path / "faces"):
        for row in faces.itertuples():
            expected = np.asarray(Image.open(row.image_path).resize((24, 24), Image.Resampling.BICUBIC))
            assert np.abs(pixels[row.pixel_row].astype(int) - expected).max() <= 1


def test_found_equals_used_plus_rejected_plus_filtered_plus_beyond_the_limit(root: Path, tmp_path: Path) -> None:
    (root / "ours/0-0.png").write_bytes(b"broken")
    (root / "pool/1001.png").unlink()
    counts = prepare(root, tmp_path / "faces")
    for source in counts["sources"].values():
        parts = ("used", "rejected", "passed_over", "filtered", "beyond_limit")
        assert source["found"] == sum(source[name] for name in parts)
    rejected = pd.read_parquet(tmp_path / "faces/rejected.parquet")
    assert set(rejected["image_id"]) == {"ours:0-0.png", "pool:1001.png"}
    assert rejected["reason"].str.len().min() > 5
    labeled, pool = tables(tmp_path / "faces")
    assert len(labeled) == 39 == counts["sources"]["ours"]["used"]
    assert counts["sources"]["pool"]["used"] == len(pool) + sum(counts["leakage"].values())


def test_the_same_sources_and_seed_give_the_same_bytes_and_another_seed_another_split(
    root: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(root, tmp_path / name, seed=seed)
    for output in OUTPUT_NAMES:
        assert (tmp_path / "a" / output).read_bytes() == (tmp_path / "b" / output).read_bytes(), output
    assert tables(tmp_path / "a")[0]["split"].tolist() != tables(tmp_path / "c")[0]["split"].tolist()


def test_hidden_labels_are_stored_only_in_the_truth_table(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "faces", hide_labels=True)
    prepare(root, tmp_path / "known")
    truth = pd.read_parquet(tmp_path / "faces/unlabeled_truth.parquet")
    assert truth["gender"].tolist() == ["male"] * 3
    assert tables(tmp_path / "faces")[1]["gender"].isna().all()
    assert len(pd.read_parquet(tmp_path / "known/unlabeled_truth.parquet")) == 0
    assert tables(tmp_path / "known")[1]["gender"].tolist() == ["male"] * 3


def test_labels_of_one_attribute_of_one_source_may_be_hidden(tmp_path: Path) -> None:
    labels = LabelsConfig.model_validate(
        {
            "attributes": [
                {"name": "mask", "values": ["wear", "normal"]},
                {"name": "gender", "values": ["male", "female"]},
                {"name": "age", "values": ["<30", ">=30"], "from_column": "age_years", "bin_edges": [30]},
            ]
        }
    )
    root = tmp_path / "raw"
    for name, first in (("ours", 0), ("one", 100), ("other", 200)):
        rows = [(f"{n}.png", ("wear", "normal")[n % 2], ("male", "female")[n // 2 % 2], n % 60) for n in range(48)]
        for number, (file, *_) in enumerate(rows):
            picture(root / name / file, first + number)
        header = ("image_path", "mask", "gender", "age_years")
        with open(root / name / "labels.csv", "w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows([header, *rows])
    source = {"type": "csv", "table": "labels.csv", "derived": ["mask"]}
    faces = FacesConfig.model_validate(
        {
            "root": str(root),
            "image_size": 24,
            "labeled": {"sources": [source | {"name": "ours", "path": "ours"}], "test_fraction": 0.25},
            "unlabeled": {
                "hide_labels": {"one": ["gender", "age"], "other": ["mask", "gender", "age"]},
                "sources": [source | {"name": name, "path": name} for name in ("one", "other")],
            },
        }
    )
    prepare_faces(faces, labels, seed=0, directory=tmp_path)
    pool, truth = tables(tmp_path)[1], pd.read_parquet(tmp_path / "unlabeled_truth.parquet")
    one, other = (pool[pool["source"] == name] for name in ("one", "other"))
    assert one["mask"].notna().all()
    assert (one["derived"] == "mask").all()
    assert one[["gender", "age", "age_years"]].isna().all().all()
    assert other[["mask", "gender", "age", "age_years", "derived"]].isna().all().all()
    assert len(truth) == 96
    assert truth.notna().all().all()


def test_sources_may_share_their_people(root: Path, tmp_path: Path) -> None:
    """A picture of a test person is a leak in another source too."""
    make_set(root, "pool", [(f"{n}.png", f"p{n}", "male", 7000 + n) for n in range(20)])
    sections = {"type": "csv", "table": "labels.csv", "people": "everyone"}
    faces = config(root).model_dump(mode="json")
    faces["labeled"]["sources"] = [sections | {"name": "ours", "path": "ours"}]
    faces["unlabeled"]["sources"] = [sections | {"name": "pool", "path": "pool"}]
    counts = prepare_faces(FacesConfig.model_validate(faces), LABELS, seed=0, directory=tmp_path)
    labeled, pool = tables(tmp_path)
    held_out = labeled.loc[labeled["split"] != "train", "person_id"]
    assert len(held_out) > 0
    assert not set(pool["person_id"]) & set(held_out)
    assert counts["leakage"]["test"] + counts["leakage"]["validation"] == held_out.nunique()
    assert set(pool["person_id"]) == {f"everyone:p{n}" for n in range(20)} - set(held_out)


def test_a_near_duplicate_stays_in_one_split_and_out_of_the_pool(root: Path, tmp_path: Path) -> None:
    """The pool repeats twenty people under other names and as JPEG: equal pictures in different bytes."""
    for name in ("ours", "pool"):
        rows = [(f"{n}.jpg", f"{name}-{n}", ("male", "female")[n % 2], 0) for n in range(20)]
        for number, (file, *_) in enumerate(rows):
            smooth = np.random.default_rng(number).integers(0, 255, size=(6, 6, 3), dtype=np.uint8)
            Image.fromarray(smooth).resize((60, 60), Image.Resampling.BICUBIC).save(root / name / file, quality=95)
        if name == "ours":
            for n in range(20):
                Image.open(root / "ours" / f"{n}.jpg").resize((50, 50)).save(
                    root / "ours" / f"{n}-again.jpg", quality=60
                )
            rows += [(f"{n}-again.jpg", f"again-{n}", ("male", "female")[n % 2], 0) for n in range(20)]
        else:
            for n in range(20):
                Image.open(root / "pool" / f"{n}.jpg").save(root / "pool" / f"{n}.jpg", quality=70)
            rows.append(("1000.png", "somebody", "male", 1000))
        with open(root / name / "labels.csv", "w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows([("image_path", "person_id", "gender"), *(row[:3] for row in rows)])
    faces = config(root).model_dump(mode="json") | {"image_size": 32, "near_duplicates": {"max_distance": 12}}
    counts = prepare_faces(FacesConfig.model_validate(faces), LABELS, seed=0, directory=tmp_path)
    labeled, pool = tables(tmp_path)
    sides = labeled.assign(number=labeled["image_id"].str.extract(r":(\d+)")[0]).groupby("number")["split"].nunique()
    assert (sides == 1).all()
    assert pool["image_id"].tolist() == ["pool:1000.png"]
    assert sum(counts["leakage"].values()) == 20
    pairs = json.loads((tmp_path / "leakage.json").read_text())["pairs"]
    assert {pair["why"] for pair in pairs} == {"near"}
    listed = pd.read_csv(tmp_path / "leakage.csv")
    assert listed["image_id"].tolist() == [pair["image_id"] for pair in pairs]
    assert all((root / path).is_file() for path in [*listed["image_path"], *listed["same_as_path"]])


def test_the_limit_holds_for_training_and_validation_and_the_rest_may_join_the_pool(root: Path, tmp_path: Path) -> None:
    counts = prepare(root, tmp_path / "faces", limit=16)
    labeled, pool = tables(tmp_path / "faces")
    assert counts["labeled"]["train"] + counts["labeled"]["validation"] == 16
    assert counts["labeled"]["test"] == (labeled["split"] == "test").sum()
    assert counts["labeled"]["unused"] == 40 - len(labeled) > 0
    assert len(pool) > 3  # unused pictures that the pool lists too are not leaks


def test_the_persons_of_a_separate_test_set_leave_training(root: Path, tmp_path: Path) -> None:
    make_set(root, "exam", [("x.png", "a", "male", 0), ("y.png", "b", "female", 5000), ("z.png", "c", "", 5001)])
    prepare(
        root,
        tmp_path / "faces",
        test_fraction=None,
        test_sources=[{"type": "csv", "name": "exam", "path": "exam", "table": "labels.csv"}],
    )
    labeled, _ = tables(tmp_path / "faces")
    assert labeled.loc[labeled["split"] == "test", "image_id"].tolist() == ["exam:x.png", "exam:y.png"]
    assert "ours:p0" not in set(labeled["person_id"])  # picture 0 is in the exam
    rejected = pd.read_parquet(tmp_path / "faces/rejected.parquet").set_index("image_id")
    assert rejected.loc["exam:z.png", "reason"] == "a test face needs all attributes known"


def test_a_partly_known_face_is_trained_on_and_never_held_out(root: Path, tmp_path: Path) -> None:
    make_set(root, "ours", [*people(20), *((f"u{n}.png", f"u{n}", "", 7000 + n) for n in range(10))])
    prepare(root, tmp_path / "faces")
    labeled, _ = tables(tmp_path / "faces")
    assert set(labeled.loc[labeled["gender"].isna(), "split"]) == {"train"}


def test_the_same_picture_with_different_labels_is_rejected_on_both_sides(root: Path, tmp_path: Path) -> None:
    make_set(root, "ours", [*people(20), ("contradicting.png", "p99", "female", 0)])  # 0-0.png is male
    prepare(root, tmp_path / "faces")
    rejected = pd.read_parquet(tmp_path / "faces/rejected.parquet").set_index("image_id")
    assert set(rejected.index) == {"ours:0-0.png", "ours:contradicting.png"}
    assert "ours:0-0.png, ours:contradicting.png" in rejected["reason"].iloc[0]


def test_a_class_without_a_validation_face_is_reported_with_its_counts(root: Path, tmp_path: Path) -> None:
    make_set(root, "ours", [row for row in people(20) if row[2] == "male" or row[1] == "p1"])
    with pytest.raises(FaceTableError) as error:
        prepare(root, tmp_path / "faces")
    assert str(error.value) == (
        "1 of 2 classes have no validation face; add labeled faces, raise faces.labeled.validation_fraction (or "
        "limit), or define fewer classes\n  female: 2 labeled, 2 train, 0 validation"
    )


def test_sources_without_a_readable_face_are_reported_with_the_reasons(root: Path, tmp_path: Path) -> None:
    for path in (root / "pool").glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(FaceTableError, match="none of the 24 faces in 'pool' can be read: 24 × "):
        prepare(root, tmp_path / "faces")
    rejected = pd.read_parquet(tmp_path / "faces/rejected.parquet")
    assert len(rejected) == 24 and set(rejected["reason"]) == {"the file is empty"}


def test_whether_people_are_known_is_recorded_and_their_absence_is_logged(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert prepare(root, tmp_path / "faces")["persons_known"] is True
    assert persons_known(tmp_path / "faces") is True
    assert "people unknown" not in caplog.text
    table = root / "ours/labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1].replace("p0", ""), *lines[2:]]))  # one person is unknown
    assert prepare(root, tmp_path / "faces")["persons_known"] is False
    assert "people unknown" not in caplog.text
    table.write_text(table.read_text().replace("person_id", "someone"))
    assert prepare(root, tmp_path / "faces")["persons_known"] is False
    assert persons_known(tmp_path / "faces") is False
    assert "people unknown: no labeled source gives person_id" in caplog.text


def test_an_attribute_that_no_labeled_face_knows_is_refused_before_decoding(root: Path, tmp_path: Path) -> None:
    table = root / "ours/labels.csv"
    table.write_text(table.read_text().replace("gender", "sex"))
    with pytest.raises(FaceTableError) as refusal:
        prepare(root, tmp_path / "faces")
    assert str(refusal.value) == (
        "no labeled face has a known 'gender'; name what the folders give (levels: [gender]), or the column that holds "
        "it (columns: {gender: …})\n  'ours' gives 'person_id', 'sex'"
    )
    assert not (tmp_path / "faces/pixels.npy").exists()


def test_a_pool_of_leaks_only_is_refused(root: Path, tmp_path: Path) -> None:
    make_set(root, "pool", [(f"{n}.png", f"q{n}", "male", n) for n in range(0, 200, 10)])
    with pytest.raises(FaceTableError, match="no face is left in the pool"):
        prepare(root, tmp_path / "faces")


def test_a_leak_is_counted_by_the_strictest_split_and_held_out_persons_leave_the_pool() -> None:
    labeled = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "content_hash": ["h1", "h1", "h2"],
            "person_id": ["p1", "p2", "p3"],
            "split": ["train", "test", "validation"],
        }
    )
    pool = pd.DataFrame(
        {
            "image_id": ["w", "x", "y", "z"],
            "content_hash": ["h1", "h9", "h8", "h7"],
            "person_id": ["q", "p3", "p1", "r"],
        }
    )
    labeled["picture_id"], pool["picture_id"] = labeled["content_hash"], pool["content_hash"]
    left, leakage = remove_overlap(pool, labeled)
    assert left["image_id"].tolist() == ["y", "z"]  # p1 is trained on, so may be learned from again
    assert leakage == {
        "removed": {"test": 1, "guarantee": 0, "validation": 1, "train": 0, "pool": 0},
        "pairs": [
            {"image_id": "w", "same_as": "b", "split": "test", "why": "content"},
            {"image_id": "x", "same_as": "c", "split": "validation", "why": "person"},
        ],
    }


def test_an_image_that_cannot_be_read_has_a_reason_and_no_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "good.png", 1)
    (tmp_path / "bad.png").write_bytes(b"bad")
    paths = [str(tmp_path / name) for name in ("good.png", "bad.png", "absent.png")]
    decoded = decode_into(tmp_path / "pixels.npy", paths, size=16)
    assert [reason is None for reason in decoded.reason] == [True, False, False]
    assert decoded.reason[2] == "No such file or directory"
    assert decoded.content_hash[0] is not None and decoded.content_hash[2] is None
    pixels = open_pixels(tmp_path / "pixels.npy")
    assert pixels.shape == (3, 16, 16, 3)
    assert pixels[0].any() and not pixels[1:].any()


def test_damaged_pixels_are_reported(tmp_path: Path) -> None:
    (tmp_path / "pixels.npy").write_bytes(b"nonsense")
    with pytest.raises(FaceTableError, match="cannot be read"):
        open_pixels(tmp_path / "pixels.npy")


EXAM = {"test_fraction": None, "test_sources": [{"type": "csv", "name": "exam", "path": "exam", "table": "labels.csv"}]}


def test_the_order_of_rows_in_a_table_changes_no_byte(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "before")
    header, *rows = (root / "ours/labels.csv").read_text().splitlines()
    (root / "ours/labels.csv").write_text("\n".join([header, *reversed(rows)]))
    prepare(root, tmp_path / "after")
    for output in OUTPUT_NAMES:
        assert (tmp_path / "before" / output).read_bytes() == (tmp_path / "after" / output).read_bytes(), output


def test_an_unknown_label_contradicts_nothing(root: Path, tmp_path: Path) -> None:
    make_set(root, "ours", [*people(20), ("unsure.png", "p98", "", 0)])  # 0-0.png is male
    counts = prepare(root, tmp_path / "faces")
    assert counts["rejected"] == 0
    labeled, _ = tables(tmp_path / "faces")
    linked = labeled[labeled["person_id"].isin(["ours:p0", "ours:p98"])]
    assert linked["split"].tolist() == ["train"] * 3  # one group, and one of its faces is not fully known


def test_a_contradicting_picture_is_rejected_with_a_few_of_its_faces_named(root: Path, tmp_path: Path) -> None:
    contradicting = [
        (f"contradicting{number}.png", f"l{number}", ("male", "female")[number % 2], 0) for number in range(4)
    ]
    make_set(root, "ours", [*people(20), *contradicting])
    prepare(root, tmp_path / "faces")
    reasons = pd.read_parquet(tmp_path / "faces/rejected.parquet")["reason"]
    assert (
        reasons.tolist()
        == [
            "the same picture with different labels: ours:0-0.png, ours:contradicting0.png, ours:contradicting1.png and 2 more"
        ]
        * 5
    )


def test_a_person_of_the_test_set_is_not_in_the_pool_under_another_name(root: Path, tmp_path: Path) -> None:
    make_set(root, "exam", [("x.png", "a", "male", 0), ("y.png", "b", "female", 5000)])  # picture 0 is of ours:p0
    make_set(
        root,
        "pool",
        [
            ("his.png", "q", "male", 1),
            ("also.png", "q", "male", 6000),
            ("hers.png", "r", "", 5000),
            ("z.png", "z", "", 7),
        ],
    )
    counts = prepare(root, tmp_path / "faces", **EXAM)
    assert tables(tmp_path / "faces")[1]["image_id"].tolist() == ["pool:z.png"]
    assert counts["leakage"] == {"test": 3, "guarantee": 0, "validation": 0, "train": 0, "pool": 0}
    leakage = json.loads((tmp_path / "faces/leakage.json").read_text())
    assert leakage["labeled_removed"] == 2
    assert [(pair["image_id"], pair["same_as"], pair["why"]) for pair in leakage["pairs"]] == [
        ("pool:also.png", "ours:0-1.png", "person"),
        ("pool:hers.png", "exam:y.png", "content"),
        ("pool:his.png", "ours:0-1.png", "content"),
    ]


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [("ours", {}, "labeled.sources"), ("pool", {}, "unlabeled.sources"), ("exam", EXAM, "labeled.test_sources")],
)
def test_a_role_without_a_single_face_is_reported_with_the_reasons(
    root: Path, tmp_path: Path, name: str, settings: dict[str, Any], key: str
) -> None:
    make_set(root, "exam", [("x.png", "a", "male", 8000), ("y.png", "b", "female", 8001)])
    rows = [("x.png", "a", "man", 9000), ("x.png", "a", "man", 9000), ("y.png", "a", "man", 9001)]
    make_set(root, name, rows)
    with pytest.raises(FaceTableError) as error:
        prepare(root, tmp_path / "faces", **settings)
    message = str(error.value)
    assert message.startswith(f"faces.{key}: none of the 3 faces found can be used: 2 × column ")
    assert "column 'gender': expected one of 'male', 'female', got 'man'" in message
    assert message.endswith("correct the files, widen the filter or add sources")
    rejected = pd.read_parquet(tmp_path / "faces/rejected.parquet")
    assert (rejected["source"] == name).sum() == 3


def test_the_rejections_of_each_source_are_logged_once(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        (root / f"ours/{number}-0.png").write_bytes(b"")
    (root / "pool/1001.png").write_bytes(b"broken")
    with caplog.at_level("WARNING"):
        prepare(root, tmp_path / "faces")
    assert [record.getMessage() for record in caplog.records] == [
        "ours: 5 faces rejected: 5 × the file is empty",
        "pool: 1 faces rejected: 1 × not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM)",
    ]


def test_a_face_table_keeps_all_values_and_nulls_and_refuses_unknown_values(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "faces")
    labeled = read_faces(tmp_path / "faces/labeled.parquet")
    assert list(labeled.columns) == face_columns(LABELS.space)
    males = labeled[labeled["gender"] == "male"]
    write_faces(tmp_path / "males.parquet", males, LABELS.space)
    again = read_faces(tmp_path / "males.parquet")
    assert list(again["gender"].cat.categories) == ["male", "female"]
    pd.testing.assert_frame_equal(again, males.reset_index(drop=True))
    with pytest.raises(ValueError, match="'Male' is not a value of attribute 'gender'"):
        write_faces(tmp_path / "males.parquet", males.assign(gender="Male"), LABELS.space)


@pytest.mark.parametrize("content", [None, b"no table"])
def test_a_missing_or_damaged_face_table_is_reported(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "labeled.parquet").write_bytes(content)
    with pytest.raises(FaceTableError, match=r"labeled\.parquet: .*run"):
        read_faces(tmp_path / "labeled.parquet")


def test_one_person_with_most_faces_does_not_empty_any_split(root: Path, tmp_path: Path) -> None:
    most = [(f"b{shot}.png", "big", "male", 4000 + shot) for shot in range(60)]
    make_set(root, "ours", [*people(20, each=1), *most])
    counts = prepare(root, tmp_path / "faces")
    labeled, _ = tables(tmp_path / "faces")
    assert set(labeled.loc[labeled["person_id"] == "ours:big", "split"]) == {"train"}
    assert counts["by_class"]["male"] == {"train": 60, "validation": 1, "guarantee": 0, "test": 9}
