"""Tables of faces as people have them: delimiters, encodings, Excel, Parquet, near-miss names, macOS's and Windows's paths."""

import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
import yaml

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.encodings import guess_encoding
from ssl_pipeline.faces.table import FacesInOrder
from tests.faces.sources_support import put, put_csv, read, read_csv, rows_of, source_of

KOREAN = LabelsConfig.model_validate({"attributes": [{"name": "gender", "values": ["남자", "여자"]}]})
EXPECTED = [("csv:a.jpg", "male", 20.0), ("csv:b.jpg", "female", 70.0)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_delimiter_and_the_byte_order_mark_are_detected(tmp_path, delimiter, encoding):
    text = "image_path,gender,age_years\na.jpg,male,20\nb.jpg,female,70\n".replace(",", delimiter)
    put_csv(tmp_path, text, encoding=encoding)
    assert rows_of(read_csv(tmp_path).faces, "image_id", "gender", "age_years") == EXPECTED


def test_another_delimiter_is_set(tmp_path):
    put_csv(tmp_path, "image_path|gender\na.jpg|male\n")
    assert rows_of(read_csv(tmp_path, delimiter="|").faces, "gender") == [("male",)]
    with pytest.raises(ValueError, match="at most 1 char"):
        source_of(type="csv", table="x", delimiter="||")


@pytest.mark.parametrize("encoding", ["cp949", "cp932", "gb18030", "cp1252"])
def test_another_encoding_is_guessed_in_the_message_and_read_when_it_is_set(tmp_path, encoding):
    words = {
        "cp949": "남자 여자 사진 파일 경로 성별",
        "cp932": "写真のファイル、おとこ、おんな、メール",
        "gb18030": "照片文件路径性别男女年龄",
        "cp1252": "Größe, Zoë, café, mañana",
    }
    name = words[encoding]
    labels = LabelsConfig.model_validate({"attributes": [{"name": "word", "values": [name, "other"]}]})
    put_csv(tmp_path, f'image_path,word\na.jpg,"{name}"\n', encoding=encoding)
    with pytest.raises(FaceTableError, match=f"not UTF-8 .* set the source's encoding, probably {encoding}, or save"):
        read_csv(tmp_path, labels=labels)
    assert rows_of(read_csv(tmp_path, labels=labels, encoding=encoding).faces, "word") == [(name,)]
    assert guess_encoding(b"\xff\x81\x8d") is None
    with pytest.raises(ValueError, match="unknown encoding 'koreanish'"):
        source_of(type="csv", table="x", encoding="koreanish")


def test_a_parquet_table_is_read_by_content(tmp_path):
    put_csv(tmp_path, "")
    table = pd.DataFrame({"image_path": ["a.jpg", "b.jpg"], "age_years": [20.0, 70.0], "thumbnail": [b"x", b"y"]})
    table["gender"] = pd.Categorical(["male", "female"])
    table.to_parquet(tmp_path / "labels.csv")
    assert rows_of(read_csv(tmp_path).faces, "image_id", "gender", "age_years") == EXPECTED
    content = (tmp_path / "labels.csv").read_bytes()
    (tmp_path / "labels.csv").write_bytes(content[:-20])
    with pytest.raises(FaceTableError, match="not readable as Parquet"):
        read_csv(tmp_path)


def test_an_excel_workbook_is_read_with_the_extra(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="needs the extra [xlsx]")
    put_csv(tmp_path, "")
    book = openpyxl.Workbook()
    for row in (["image_path", "gender", "age_years"], ["a.jpg", "male", 20], [None] * 3, ["b.jpg", "female", 70.0]):
        book.active.append(row)
    book.save(tmp_path / "labels.csv")
    assert rows_of(read_csv(tmp_path).faces, "image_id", "gender", "age_years") == EXPECTED


def test_an_excel_workbook_without_the_extra_is_refused_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    put_csv(tmp_path, "")
    (tmp_path / "labels.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(FaceTableError, match=r"Excel workbook; install the extra: pip install 'ssl-pipeline\[xlsx\]'"):
        read_csv(tmp_path)


def test_blanks_around_names_and_values_are_dropped(tmp_path):
    put_csv(tmp_path, "image_path , gender,age_years\na.jpg ,male , 20\n b.jpg, female,\u00a070\n")
    assert rows_of(read_csv(tmp_path).faces, "image_id", "gender", "age_years") == EXPECTED


@pytest.mark.parametrize(
    ("header", "mapping"),
    [
        ("Gender", {"gender": "Gender"}),
        ("Person_ID", {"person_id": "Person_ID"}),
        ("person id", {"person_id": "person id"}),
        ("AGE_YEARS", {"age_years": "AGE_YEARS"}),
    ],
)
def test_a_column_with_nearly_the_right_name_is_refused_and_the_cure_works(tmp_path, header, mapping):
    put_csv(tmp_path, f"image_path,{header}\na.jpg,\n")
    with pytest.raises(FaceTableError, match=f"its column '{header}' would not be read as") as refusal:
        read_csv(tmp_path)
    cure = yaml.safe_load(str(refusal.value).rsplit("columns: ", 1)[1])
    assert cure == mapping
    assert len(read_csv(tmp_path, columns=cure).faces) == 1


def test_a_value_in_another_case_is_rejected_and_the_cure_works(tmp_path):
    put_csv(tmp_path, "image_path,gender,age\na.jpg,Male,\nb.jpg,male,>= 60\nc.jpg,male,35\n")
    reasons = read_csv(tmp_path).rejected["reason"].tolist()
    assert reasons[0].startswith("row 2: column 'gender': expected one of 'male', 'female', got 'Male'")
    cures = [yaml.safe_load(reason.split("write in this source: ")[1].split(": ", 1)[1]) for reason in reasons]
    assert cures[2] == {"age_years": "age"}  # numbers
    values = {**cures[0], "age": cures[1]["age"] | {"35": "30-59"}}
    assert len(read_csv(tmp_path, values=values).faces) == 3


def test_decomposed_folder_names_and_paths_equal_composed_values(tmp_path):
    apart = unicodedata.normalize("NFD", "남자")
    assert apart != "남자"
    put(tmp_path / "folders" / apart / "a.jpg")
    result = read(tmp_path, labels=KOREAN, type="folder", path="folders", levels=["gender"])
    assert rows_of(result.faces, "image_id", "gender") == [("folder:남자/a.jpg", "남자")]
    put_csv(tmp_path / "table", "image_path,gender\n남자/a.jpg,여자\n", images=[f"{apart}/a.jpg"])
    listed = read_csv(tmp_path, labels=KOREAN, path="table").faces
    assert rows_of(listed, "image_id", "gender") == [("csv:남자/a.jpg", "여자")]


def test_backslashes_are_separators_where_the_file_exists_so(tmp_path):
    put_csv(tmp_path, "image_path\nx\\a.jpg\nx\\gone.jpg\nC:\\Users\\kim\\b.jpg\n", images=["x/a.jpg"])
    result = read_csv(tmp_path)
    assert rows_of(result.faces, "image_id") == [("csv:x/a.jpg",)]
    assert f"no such file {tmp_path}/x\\gone.jpg" in result.rejected["reason"][0]
    assert f"expected a path relative to {tmp_path}, not of a Windows machine, got 'C:" in result.rejected["reason"][1]


def test_rows_are_read_in_their_order_across_batches_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_pipeline.faces.table._ROWS_READ_AT_ONCE", 3)
    table = pd.DataFrame({"image_id": [f"face {row}" for row in range(10)], "pixel_row": range(10)})
    table.to_parquet(tmp_path / "faces.parquet", row_group_size=4)
    rows = FacesInOrder(tmp_path / "faces.parquet", ["image_id"])
    taken = [rows.take(np.arange(start, stop)) for start, stop in ((0, 2), (2, 2), (2, 9), (9, 10))]
    assert [part.columns.tolist() for part in taken] == [["image_id"]] * 4
    assert pd.concat(taken, ignore_index=True).equals(table[["image_id"]].astype(taken[0].dtypes))
    with pytest.raises(ValueError, match="expected rows from 10 on, got 3 to 4"):
        rows.take(np.arange(3, 5))
