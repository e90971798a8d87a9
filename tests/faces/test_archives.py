"""Images in zip files, tars, Parquet files and WebDataset shards, read in place."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_file, read_bytes
from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.faces.discovery import discover
from ssl_pipeline.faces.image_files import list_images
from ssl_pipeline.faces.label_choice import choose_labels
from ssl_pipeline.faces.pixels import decode_into, open_pixels
from ssl_pipeline.faces.sources.reading import fingerprint
from ssl_pipeline.inference.files import find_images
from tests.faces.sources_support import read, rows_of, source_of

GENDER = LabelsConfig.model_validate({"attributes": [{"name": "gender", "values": ["male", "female"]}]})


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, 0, 0)).save(stream, "png")
    return stream.getvalue()


def reasons_of(result) -> dict[str, str]:
    return dict(zip(result.rejected["image_id"], result.rejected["reason"], strict=True))


def shade(path: Path | str) -> int:
    opened = read_picture(str(path))
    assert isinstance(opened, Image.Image), opened
    return int(opened.getpixel((0, 0))[0])  # type: ignore[index]


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def write_parquet(path: Path, shades: list[int | None], *, row_group_size: int = 3, **columns: list[object]) -> Path:
    """Write what Hugging Face's library writes: a struct of bytes and path, and classes as numbers with their names."""
    images = [None if one is None else {"bytes": picture(one), "path": f"{one}.png"} for one in shades]
    table = pa.table({"image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), **columns})
    features = {"image": {"_type": "Image"}, "sex": {"_type": "ClassLabel", "names": ["male", "female"]}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_archive_is_a_folder_and_nothing_is_unpacked(tmp_path, write):
    suffix = write.__name__[-3:]
    files = {"male/1.png": picture(10), "female/a/2": picture(20), "notes.txt": b"x", "__MACOSX/._1.png": b"x"}
    archive = write(tmp_path / f"faces.{suffix}", files)
    result = read(tmp_path, labels=GENDER, type="folder", path=archive.name, levels=["gender"], name="f")
    assert rows_of(result.faces, "image_id", "gender") == [("f:female/a/2", "female"), ("f:male/1.png", "male")]
    assert sorted(result.passed_over) == ["__MACOSX/._1.png", "notes.txt"]
    assert result.num_found == 4
    decoded = decode_into(tmp_path / "pixels.npy", result.faces["image_path"].tolist(), size=16)
    assert decoded.reason == [None, None]
    assert open_pixels(tmp_path / "pixels.npy")[:, 0, 0, 0].tolist() == [20, 10]
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "pixels.npy"}


def test_archives_inside_a_folder_are_folders_named_without_their_suffix(tmp_path):
    write_zip(tmp_path / "male.zip", {"1.png": picture(1)})
    write_tar(tmp_path / "female.TAR", {"./1.png": picture(2)})
    write_tar(tmp_path / "more.tar.gz", {"1.png": picture(3)}, "w:gz")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    result = read(tmp_path, labels=GENDER, type="folder", levels=["gender"], name="f")
    assert rows_of(result.faces, "image_id", "gender") == [
        ("f:female.TAR/1.png", "female"),
        ("f:male.zip/1.png", "male"),
    ]
    reasons = reasons_of(result)
    assert "damaged archive" in reasons["f:broken.zip"]
    assert reasons["f:more.tar.gz"] == "a compressed tar is not read in place: unpack it, or decompress it to .tar"
    assert result.num_found == 4


def test_a_changed_archive_is_read_anew(tmp_path):
    source = source_of(type="folder", path="faces.zip")
    write_zip(tmp_path / "faces.zip", {"1.png": picture(1)})
    before = fingerprint(source, root=tmp_path)
    assert shade(tmp_path / "faces.zip/1.png") == 1
    write_zip(tmp_path / "faces.zip", {"1.png": picture(2), "2.png": picture(3)})
    os.utime(tmp_path / "faces.zip", (1, 1))
    assert shade(tmp_path / "faces.zip/1.png") == 2
    assert fingerprint(source, root=tmp_path) != before


def test_korean_names_in_a_zip_of_windows_are_read(tmp_path):
    raw = write_zip(tmp_path / "raw.zip", {"XXXX/AAAA.png": picture(1), "XXXX/BBBB.png": picture(2)}).read_bytes()
    for plain, korean in (("XXXX", "남자"), ("AAAA", "사진"), ("BBBB", "얼굴")):
        raw = raw.replace(plain.encode(), korean.encode("cp949"))
    (tmp_path / "raw.zip").write_bytes(raw)
    assert list_images(tmp_path / "raw.zip").images == ["남자/사진.png", "남자/얼굴.png"]


def test_a_path_that_leaves_its_archive_is_passed_over(tmp_path):
    write_zip(tmp_path / "faces.zip", {"../1.png": picture(1), "/2.png": picture(2), "a/../3.png": picture(3)})
    assert list_images(tmp_path).images == []


def test_a_locked_or_damaged_member_has_a_reason(tmp_path):
    archive = write_zip(tmp_path / "faces.zip", {"1.png": picture(1)})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption, in the directory
    content[6] |= 1
    archive.write_bytes(bytes(content))
    assert read_picture(str(archive / "1.png")) == "locked by a password; unpack it"
    assert not is_file(archive / "2.png")
    with pytest.raises(FileNotFoundError, match=r"no such file in faces\.zip"):
        read_bytes(archive / "2.png")


def test_a_table_may_name_images_in_an_archive(tmp_path):
    write_zip(tmp_path / "faces.zip", {"1.png": picture(1)})
    (tmp_path / "t.csv").write_text("image_path,gender\nfaces.zip/1.png,male\nfaces.zip/2.png,male\n")
    result = read(tmp_path, labels=GENDER, type="csv", table="t.csv")
    assert rows_of(result.faces, "image_id", "gender") == [("csv:faces.zip/1.png", "male")]
    assert "no such file" in next(iter(reasons_of(result).values()))


def test_parquet_shards_with_images_are_one_table(tmp_path):
    """Numbers become the names that the data set gives them; rows are read from the right row group."""
    write_parquet(tmp_path / "data/train-0.parquet", [10, 11, 12, 13, 14, 15, 16], sex=[0, 1, 0, 1, 0, 1, -1])
    write_parquet(tmp_path / "data/train-1.parquet", [20, None], sex=[1, 0])
    section = {"type": "csv", "table": "data/train-*.parquet", "columns": {"gender": "sex"}}
    result = read(tmp_path, labels=GENDER, **section)
    assert result.faces["gender"].tolist() == ["male", "female"] * 3 + [None, "female", "male"]
    paths = result.faces["image_path"].tolist()
    assert paths[4] == str(tmp_path / "data/train-0.parquet/image/00000004")
    decoded = decode_into(tmp_path / "pixels.npy", paths, size=16)
    assert decoded.reason == [None] * 8 + ["no image in this row"]
    assert open_pixels(tmp_path / "pixels.npy")[:8, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 15, 16, 20]
    write_parquet(tmp_path / "data/train-2.parquet", [1], other=[1])
    with pytest.raises(FaceTableError, match=r"train-2\.parquet: its header .* is not that of"):
        read(tmp_path, labels=GENDER, **section)
    with pytest.raises(FaceTableError, match="no file fits this pattern"):
        read(tmp_path, labels=GENDER, type="csv", table="data/test-*.parquet")


def test_a_pool_of_parquet_files_is_a_folder_and_other_tables_are_passed_over(tmp_path):
    write_parquet(tmp_path / "pool.parquet", [1, None])
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "scores.parquet")
    pd.DataFrame({"vector": [b"no image", None]}).to_parquet(tmp_path / "vectors.parquet")
    listing = list_images(tmp_path)
    assert listing.images == ["pool.parquet/image/00000000", "pool.parquet/image/00000001"]
    assert listing.passed_over == ["scores.parquet", "vectors.parquet"]
    assert list_images(tmp_path / "pool.parquet").images == ["image/00000000", "image/00000001"]
    assert read_picture(str(tmp_path / listing.images[1])) == "no image in this row"


def test_a_row_that_names_an_image_in_a_damaged_archive_is_no_traceback(tmp_path):
    (tmp_path / "faces.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "t.csv").write_text("image_path,gender\nfaces.zip/1.png,male\n")
    result = read(tmp_path, labels=GENDER, type="csv", table="t.csv")
    assert "damaged archive" in str(read_picture(result.faces["image_path"][0]))


def webdataset(path: Path, people: dict[str, dict[str, object]]) -> Path:
    files = {}
    for number, (key, labels) in enumerate(people.items()):
        files |= {f"{key}.jpg": picture(number), f"{key}.json": json.dumps(labels).encode()}
    return write_tar(path, files)


def test_webdataset_samples_have_the_labels_beside_them(tmp_path):
    webdataset(tmp_path / "0.tar", {"a": {"sex": "male", "box": [1]}, "b": {"sex": None}})
    extra = {"c.png": picture(5), "c.txt": b" female\n", "d.json": b"{}", "e.png": picture(6), "e.json": b"{"}
    write_tar(tmp_path / "1.tar", extra)
    result = read(tmp_path, labels=GENDER, type="webdataset", columns={"gender": "sex"}, name="w")
    assert rows_of(result.faces, "image_id", "gender") == [
        ("w:0.tar/a.jpg", "male"),
        ("w:0.tar/b.jpg", None),
        ("w:1.tar/c.png", None),
    ]
    reasons = reasons_of(result)
    assert reasons["w:1.tar/d"] == "no image in this sample"
    assert "e.json cannot be read" in reasons["w:1.tar/e.png"]
    assert result.num_found == 5
    by_text = read(tmp_path, labels=GENDER, type="webdataset", path="1.tar", columns={"gender": "txt"})
    assert by_text.faces["gender"].tolist() == ["female"]


def test_init_finds_labels_in_archives(tmp_path):
    write_zip(tmp_path / "a.zip", {f"{split}/{sex}/{n}.png": picture(n) for split in ("train", "test")
                                   for sex in ("male", "female") for n in range(4)})  # fmt: skip
    choice = choose_labels(discover(tmp_path / "a.zip"))
    assert (choice.levels, choice.counts) == (("_", "gender"), {"gender": {"female": 8, "male": 8}})

    write_parquet(tmp_path / "hf/data/train-0.parquet", list(range(8)), sex=[0, 1] * 4)
    found = discover(tmp_path / "hf")
    assert found.source == {"type": "csv", "table": "data/*.parquet", "image_column": "image"}
    choice = choose_labels(found)
    assert (choice.columns, choice.counts) == ({"image_path": "image"}, {"sex": {"male": 4, "female": 4}})

    (tmp_path / "w").mkdir()
    webdataset(tmp_path / "w/0.tar", {str(n): {"mask": ("on", "off")[n % 2]} for n in range(8)})
    found = discover(tmp_path / "w")
    assert found.source == {"type": "webdataset"}
    assert choose_labels(found).counts == {"mask": {"on": 4, "off": 4}}


def test_predict_takes_an_archive_in_place_of_a_folder(tmp_path):
    archive = write_zip(tmp_path / "faces.zip", {"b/1.png": picture(1), "a.png": picture(2), "x.txt": b""})
    found = find_images(archive)
    assert [file.name for file in found.files] == ["a.png", "b/1.png"]
    assert [shade(file.path) for file in found.files] == [2, 1]
    assert found.passed_over == ["x.txt"]
