"""CSV sources: values stay text, invalid rows are named by line, images stay inside the source."""

import pytest

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from tests.faces.sources_support import put, put_csv, read_csv, rows_of


def test_a_csv_value_stays_text(tmp_path):
    labels = LabelsConfig.model_validate({"attributes": [{"name": "glasses", "values": ["None", "1.0", "NA"]}]})
    put_csv(tmp_path, "image_path,person_id,glasses\na.jpg,000123,None\nb.jpg,123,NA\nc.jpg,,\n")
    faces = read_csv(tmp_path, labels=labels).faces
    assert rows_of(faces, "person_id", "glasses") == [("csv:000123", "None"), ("csv:123", "NA"), ("csv:c.jpg", None)]


def test_columns_and_values_are_mapped_to_the_configs(tmp_path):
    put_csv(tmp_path, "file,sex,age,who\na.jpg,M,29.9,1\nb.jpg,F,30,2\nc.jpg,F,more than 70,3\n")
    faces = read_csv(
        tmp_path,
        columns={"image_path": "file", "gender": "sex", "age_years": "age", "person_id": "who"},
        values={"gender": {"M": "male", "F": "female"}, "age_years": {"more than 70": "71"}},
    ).faces
    assert rows_of(faces, "person_id", "gender", "age", "age_years") == [
        ("csv:1", "male", "<30", 29.9),
        ("csv:2", "female", "30-59", 30.0),
        ("csv:3", "female", ">=60", 71.0),
    ]


def test_the_attributes_own_column_is_used_if_the_number_is_unknown(tmp_path):
    put_csv(tmp_path, "image_path,age,age_years\na.jpg,<30,\nb.jpg,<30,59.5\nc.jpg,,\n")
    assert rows_of(read_csv(tmp_path).faces, "age") == [("<30",), ("30-59",), (None,)]


def test_a_value_may_be_mapped_to_unknown(tmp_path):
    put_csv(tmp_path, "image_path,gender\na.jpg,unsure\nb.jpg,male\n")
    faces = read_csv(tmp_path, values={"gender": {"unsure": ""}}).faces
    assert rows_of(faces, "gender") == [(None,), ("male",)]


def test_a_faulty_row_is_rejected_with_its_line_and_every_reason(tmp_path):
    put_csv(
        tmp_path,
        "image_path,gender,age_years\n"
        "a.jpg,male,20\n"
        "b.jpg,boy,old\n"
        '"c.jpg",male\n'
        "absent.jpg,male,30\n"
        ",male,30\n"
        "\n"
        "d.jpg,male,nan\n"
        "e.jpg,male,-1\n"
        "f.jpg,male,30,extra\n",
        images=["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"],
    )
    result = read_csv(tmp_path)
    reasons = result.rejected["reason"].tolist()
    assert result.num_found == 8
    assert result.faces["image_id"].tolist() == ["csv:a.jpg"]
    assert sorted(reasons, key=lambda reason: int(reason.split()[1][:-1])) == [
        "row 3: column 'age_years': expected a number of at least 0, got 'old'; "
        "column 'gender': expected one of 'male', 'female', got 'boy'",
        "row 4: 2 fields where the header has 3",
        f"row 5: column 'image_path': no such file {tmp_path}/absent.jpg (paths are relative to {tmp_path})",
        "row 6: column 'image_path': expected the path of an image, got nothing",
        "row 8: column 'age_years': expected a number of at least 0, got 'nan'",
        "row 9: column 'age_years': expected a number of at least 0, got '-1'",
        "row 10: 4 fields where the header has 3",
    ]


def test_rows_are_counted_by_lines_even_when_a_field_spans_lines(tmp_path):
    put_csv(tmp_path, 'image_path,note,gender\na.jpg,"two\nlines",male\nb.jpg,,boy\n')
    assert read_csv(tmp_path).rejected["reason"].item().startswith("row 4: ")


def test_an_image_outside_the_source_is_rejected(tmp_path):
    put(tmp_path / "secret.jpg")
    put(tmp_path / "facesecret" / "s.jpg")
    faces = tmp_path / "faces"
    put_csv(
        faces,
        "image_path\n../secret.jpg\n"
        f"{tmp_path}/secret.jpg\n"
        "../facesecret/s.jpg\nlink.jpg\ninside/../a.jpg\n"
        f"{faces}/b.jpg\n",
    )
    (faces / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    result = read_csv(tmp_path, path="faces")
    assert result.faces["image_id"].tolist() == ["csv:a.jpg", "csv:b.jpg"]
    assert len(result.rejected) == 4
    assert result.rejected["reason"].str.contains("lies outside").all()


def test_an_image_listed_twice_is_used_once_and_never_with_two_labels(tmp_path):
    put_csv(tmp_path, "image_path,gender\na.jpg,male\n./a.jpg,male\nb.jpg,male\nb.jpg,female\nc.jpg,\n")
    result = read_csv(tmp_path)
    assert result.faces["image_id"].tolist() == ["csv:a.jpg", "csv:c.jpg"]
    assert result.rejected["reason"].tolist() == [
        "row 3: duplicate image id, equal to an earlier row",
        "row 4: duplicate image id, and its rows contradict each other",
        "row 5: duplicate image id, and its rows contradict each other",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,gender\na.jpg,male\n", r"no column 'image_path' .*\['path', 'gender'\].*columns\.image_path"),
        ("image_path,gender,gender\n", "more than once"),
        ("image_path\n", "no rows below the header"),
        ("", "no column 'image_path'"),
        ('image_path\n"a.jpg\n', "not readable as CSV from line 2"),
    ],
)
def test_an_unusable_table_is_reported_with_the_reason(tmp_path, text, message):
    put_csv(tmp_path, text)
    with pytest.raises(FaceTableError, match=message):
        read_csv(tmp_path)


def test_a_missing_table_and_a_wrong_encoding_are_reported(tmp_path):
    with pytest.raises(FaceTableError, match=r"labels\.csv: no such file; source 'csv'"):
        read_csv(tmp_path)
    put_csv(tmp_path, "image_path,name\na.jpg,Zoë\n", encoding="latin-1")
    with pytest.raises(FaceTableError, match="not UTF-8"):
        read_csv(tmp_path)


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path):
    put_csv(tmp_path, "image_path\na.jpg\n", encoding="utf-8-sig")
    assert len(read_csv(tmp_path).faces) == 1
