"""Properties of all sources: mapping, derived attributes, filter, limit, fingerprint."""

import os
from collections import Counter

import pandas as pd
import pytest

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.reading import fingerprint, source_name
from tests.faces.sources_support import put, put_csv, read, read_csv, rows_of, source_of


def test_a_derived_attribute_is_listed_if_it_is_known(tmp_path):
    put_csv(tmp_path, "image_path,mask,gender\na.jpg,wear,male\nb.jpg,,female\nc.jpg,normal,\n")
    result = read_csv(tmp_path, derived=["mask", "gender"])
    assert rows_of(result.faces, "image_id", "derived") == [
        ("csv:a.jpg", "mask,gender"),
        ("csv:b.jpg", "gender"),
        ("csv:c.jpg", "mask"),
    ]
    assert rows_of(read_csv(tmp_path).faces, "derived") == [(None,)] * 3


def test_a_mapping_of_missing_columns_is_refused(tmp_path):
    put_csv(tmp_path, "image_path,sex\na.jpg,male\n")
    with pytest.raises(FaceTableError, match=r"columns\.gender: no column 'gendre'; the source's columns: 'sex'"):
        read_csv(tmp_path, columns={"gender": "gendre"})
    with pytest.raises(FaceTableError, match=r"columns\.gendre: expected one of 'person_id', .*'gender'"):
        read_csv(tmp_path, columns={"gendre": "sex"})
    with pytest.raises(FaceTableError, match=r"values\.gender: the source has no column 'gender'"):
        read_csv(tmp_path, values={"gender": {"m": "male"}})


def test_an_attribute_may_be_binned_from_any_number(tmp_path):
    labels = LabelsConfig.model_validate(
        {"attributes": [{"name": "blur", "values": ["sharp", "soft"], "from_column": "sigma", "bin_edges": [0.5]}]}
    )
    put_csv(tmp_path, "image_path,sigma\na.jpg,-0.2\nb.jpg,0.5\nc.jpg,thick\n")
    result = read_csv(tmp_path, labels=labels)
    assert rows_of(result.faces, "blur") == [("sharp",), ("soft",)]
    assert result.rejected["reason"].tolist() == ["row 4: column 'sigma': expected a number, got 'thick'"]


@pytest.mark.parametrize(
    ("years", "age"), [(0, "<30"), (29.9, "<30"), (30, "30-59"), (59.999, "30-59"), (60, ">=60"), (116, ">=60")]
)
def test_a_value_begins_at_its_bin_edge(tmp_path, years, age):
    put_csv(tmp_path, f"image_path,age_years\na.jpg,{years}\n")
    assert read_csv(tmp_path).faces["age"].item() == age


def test_the_filter_accepts_known_and_selected_faces(tmp_path):
    put_csv(
        tmp_path,
        "image_path,origin,age_years\na.jpg,asian,20\nb.jpg,asian,40\nc.jpg,white,20\nd.jpg,,20\ne.jpg,asian,\n",
        images=["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"],
    )
    result = read_csv(tmp_path, filter={"origin": ["asian"], "min_age_years": 20, "max_age_years": 39})
    assert result.faces["image_id"].tolist() == ["csv:a.jpg"]
    assert result.num_filtered == 4


@pytest.mark.parametrize(("key", "value"), [("origin", ["asian"]), ("min_age_years", 20), ("max_age_years", 60)])
def test_a_filter_on_an_unknown_column_is_refused(tmp_path, key, value):
    put(tmp_path / "a.jpg")
    column = "origin" if key == "origin" else "age_years"
    with pytest.raises(
        FaceTableError, match=f"source 'x' has no known '{column}', so filter.{key} would exclude every face"
    ):
        read(tmp_path, type="folder", name="x", filter={key: value})


def test_images_below_the_smallest_side_are_filtered_and_headerless_ones_rejected(tmp_path):
    put(tmp_path / "small.png", side=19)
    put(tmp_path / "large.png", side=20)
    (tmp_path / "torn.png").write_bytes(b"no image")
    result = read(tmp_path, type="folder", filter={"min_side_pixels": 20})
    assert result.faces["image_id"].tolist() == ["folder:large.png"]
    assert result.num_filtered == 1
    assert result.rejected["reason"].tolist() == [
        "not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM)"
    ]


def put_uneven(folder):
    rows = ["a,male,20"] * 60 + ["b,female,20"] * 30 + ["c,female,70"] * 8 + ["d,,"] * 2
    images = [f"{row[0]}{number:02d}.jpg" for number, row in enumerate(rows)]
    lines = [image + row[1:] for image, row in zip(images, rows, strict=True)]
    put_csv(folder, "\n".join(["image_path,gender,age_years", *lines]) + "\n", images=images)
    return lines


def test_the_limit_keeps_the_proportions_of_known_labels(tmp_path):
    put_uneven(tmp_path)
    result = read_csv(tmp_path, limit=10)
    assert Counter(result.faces["image_id"].str[4]) == {"a": 5, "b": 3, "c": 1, "d": 1}
    assert result.num_beyond_limit == 90


def test_a_limit_above_the_number_of_faces_keeps_all(tmp_path):
    put_uneven(tmp_path)
    result = read_csv(tmp_path, limit=1000)
    assert (len(result.faces), result.num_beyond_limit) == (100, 0)


def test_the_limit_depends_on_the_seed_and_the_name_and_not_on_the_order_of_rows(tmp_path):
    lines = put_uneven(tmp_path)
    first = read_csv(tmp_path, limit=20, seed=3).faces
    put_csv(tmp_path, "\n".join(["image_path,gender,age_years", *reversed(lines)]) + "\n", images=())
    pd.testing.assert_frame_equal(read_csv(tmp_path, limit=20, seed=3).faces, first)
    ids = {name[4:] for name in first["image_id"]}
    assert {name[4:] for name in read_csv(tmp_path, limit=20, seed=4).faces["image_id"]} != ids
    assert {name[4:] for name in read_csv(tmp_path, limit=20, seed=3, name="csw").faces["image_id"]} != ids


def test_the_name_of_a_source_is_its_type_by_default():
    assert source_name(source_of(type="utkface")) == "utkface"
    assert source_name(source_of(type="utkface", name="elders")) == "elders"


def test_the_fingerprint_changes_with_the_files_and_only_with_them(tmp_path):
    put(tmp_path / "a.jpg")
    source = source_of(type="folder")
    first = fingerprint(source, root=tmp_path)
    put(tmp_path / "._b.jpg")
    assert fingerprint(source, root=tmp_path) == first
    put(tmp_path / "b.jpg")
    second = fingerprint(source, root=tmp_path)
    os.utime(tmp_path / "b.jpg", ns=(1, 1))
    third = fingerprint(source, root=tmp_path)
    (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
    assert len({first, second, third, fingerprint(source, root=tmp_path)}) == 4


def test_the_fingerprint_of_a_csv_covers_its_table(tmp_path):
    put_csv(tmp_path / "faces", "image_path\na.jpg\n")
    (tmp_path / "labels.csv").write_text("image_path\na.jpg\n")
    source = source_of(type="csv", path="faces", table="../labels.csv")
    first = fingerprint(source, root=tmp_path)
    (tmp_path / "labels.csv").write_text("image_path\na.jpg\nb.jpg\n")
    assert fingerprint(source, root=tmp_path) != first


def test_a_renamed_column_no_longer_counts_under_its_old_name(tmp_path):
    put_csv(tmp_path, "image_path,age\na.jpg,25\nb.jpg,?\n")
    faces = read_csv(tmp_path, columns={"age_years": "age"}, values={"age_years": {"?": ""}}).faces
    assert rows_of(faces, "age", "age_years") == [("<30", 25.0), (None, None)]
