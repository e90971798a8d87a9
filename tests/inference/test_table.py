"""Tables of predictions: one row per image, in order, with reasons for unreadable ones; streams in bounded memory."""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_pipeline.config.cropping import FaceSettings
from ssl_pipeline.errors import ConfigError, FaceTableError, TrainingError
from ssl_pipeline.faces.cropper import Cropper
from ssl_pipeline.faces.cropping import CANONICAL_POINTS, crop_face
from ssl_pipeline.faces.detection import DetectedFace
from ssl_pipeline.inference import stream as image_stream
from ssl_pipeline.inference import table as image_table
from ssl_pipeline.inference.files import ImageFile, find_images
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.inference.table import predict_images
from ssl_pipeline.learning.predict import CheckpointPredictor
from tests.conftest import SPACE
from tests.learning.prediction_support import predictor, save_random_model, write_images


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "best.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", ["a.png", "deep/b.jpg", *(f"many/{n:02d}.png" for n in range(20))])
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "notes.txt").write_text("ignored")
    (tmp_path / "images" / "._a.png").write_text("ignored")
    return tmp_path / "images"


def read(out: Path) -> pd.DataFrame:
    return pd.read_csv(out) if out.suffix == ".csv" else pq.read_table(out).to_pandas()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_image_of_a_folder_has_a_row_and_an_unreadable_one_its_reason(
    checkpoint: Path, folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_table, "ROWS_IN_GROUP", 10)
    out = tmp_path / f"out{suffix}"
    model = predictor(checkpoint)
    counts = predict_images(model, folder, out)
    assert (counts.num_found, counts.num_read, counts.num_unreadable) == (25, 22, 1)
    assert counts.passed_over == ["._a.png", "notes.txt"]
    assert counts.first_failures == (
        "broken.jpg: not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM)",
    )

    rows = read(out)
    assert rows["image_path"].tolist() == [file.name for file in find_images(folder).files]
    assert rows["unreadable"].notna().tolist() == [path == "broken.jpg" for path in rows["image_path"]]
    assert rows[rows["image_path"] == "broken.jpg"].drop(columns=["image_path", "unreadable"]).isna().all(axis=None)

    readable = rows[rows["unreadable"].isna()].reset_index(drop=True)
    pixels = np.stack([np.array(Image.open(folder / path)) for path in readable["image_path"]])
    expected = model.predict(pixels, np.arange(len(pixels)))
    assert readable["class_id"].tolist() == expected.argmax(axis=1).tolist()
    assert readable["class_name"].tolist() == [SPACE.class_names[class_id] for class_id in expected.argmax(axis=1)]
    np.testing.assert_allclose(readable["class_probability"], expected.max(axis=1), atol=1e-5)
    ages = np.stack([expected[:, [age, age + 3]].sum(axis=1) for age in range(3)], axis=1)
    assert readable["age"].tolist() == [SPACE.attributes[1].values[age] for age in ages.argmax(axis=1)]
    np.testing.assert_allclose(readable["age_probability"], ages.max(axis=1), atol=1e-5)
    assert len(set(readable["class_id"])) > 1
    if suffix == ".parquet":
        assert pq.ParquetFile(out).num_row_groups == 2


def test_one_image_and_a_list_are_predicted_like_a_folder(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    model = predictor(checkpoint)
    predict_images(model, folder, tmp_path / "all.csv")
    whole = read(tmp_path / "all.csv").set_index("image_path")

    (folder / "list.txt").write_text("deep/b.jpg\nabsent.jpg\na.png\n")
    assert predict_images(model, folder / "list.txt", tmp_path / "list.csv").num_unreadable == 1
    listed = read(tmp_path / "list.csv").set_index("image_path")
    assert listed.index.tolist() == ["deep/b.jpg", "absent.jpg", "a.png"]
    assert listed.loc["absent.jpg", "unreadable"] == "No such file or directory"
    pd.testing.assert_series_equal(listed.loc["deep/b.jpg"], whole.loc["deep/b.jpg"])

    assert predict_images(model, folder / "a.png", tmp_path / "one.csv").num_found == 1
    pd.testing.assert_series_equal(read(tmp_path / "one.csv").iloc[0][1:], whole.loc["a.png"], check_names=False)


def bomb() -> bytes:
    """A PNG of a few bytes with 60,000 × 60,000 pixels in its header."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_files_that_are_unsafe_to_open_are_rows_with_a_reason(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_stream, "MAX_FILE_BYTES", 100_000)
    root = tmp_path / "images"
    write_images(root, ["folder.jpg/good.png"])
    (root / "bomb.png").write_bytes(bomb())
    (root / "device.jpg").symlink_to("/dev/zero")
    (root / "empty.jpg").touch()
    (root / "huge.jpg").write_bytes(b"\0" * 100_001)
    os.mkfifo(root / "pipe.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    with open(os.fsencode(root) + b"/caf\xe9.jpg", "wb") as file:
        file.write((root / "folder.jpg/good.png").read_bytes())
    predict_images(predictor(checkpoint), root, tmp_path / "out.parquet")
    rows = read(tmp_path / "out.parquet")
    reasons = dict(zip(rows["image_path"], rows["unreadable"].fillna(""), strict=True))
    assert reasons["bomb.png"].startswith("more than 100 megapixels")
    assert reasons | {"bomb.png": ""} == {
        "bomb.png": "",
        r"caf\udce9.jpg": "",
        "device.jpg": "not a regular file",
        "empty.jpg": "the file is empty",
        "folder.jpg/good.png": "",
        "gone.jpg": "No such file or directory",
        "huge.jpg": "the file is larger than 0 MiB",
        "pipe.jpg": "not a regular file",
        "self.jpg": "Too many levels of symbolic links",
    }

    (tmp_path / "list.txt").write_bytes(b"images\nwith\0nul.jpg\n")
    predict_images(predictor(checkpoint), tmp_path / "list.txt", tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")["unreadable"].tolist() == ["a folder", "a path cannot hold the character NUL"]


def test_images_are_decoded_a_bounded_number_ahead_of_the_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["a.png"])
    num_taken = 0

    def endless() -> Iterator[ImageFile]:
        nonlocal num_taken
        while True:
            num_taken += 1
            yield ImageFile(f"{num_taken}", str(tmp_path / "a.png"))

    stream = predict_stream(predictor(checkpoint, batch_size=16), endless())
    for number in range(1, 6):
        batch = next(stream)
        assert batch.names[0] == str(16 * (number - 1) + 1)
        assert num_taken <= 16 * number + 2 * 16 + 1
    monkeypatch.setattr(image_stream, "MAX_AHEAD_BYTES", 16 * 16 * 3)
    num_taken = 0
    next(predict_stream(predictor(checkpoint, batch_size=16), endless()))
    assert num_taken <= 16 + 8 + 1


class FailingPredictor:
    """A model that fails at its second batch."""

    def __init__(self, model: CheckpointPredictor) -> None:
        self.labels, self.image_sizes, self.batch_size = model.labels, model.image_sizes, model.batch_size
        self.model, self.num_batches, self.checkpoints = model, 0, model.checkpoints

    def predict_sizes(self, pixels: dict[int, np.ndarray]) -> np.ndarray:
        self.num_batches += 1
        if self.num_batches == 2:
            raise TrainingError("out of memory")
        return self.model.predict_sizes(pixels)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_failed_prediction_leaves_the_earlier_file(
    checkpoint: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "tables" / f"out{suffix}"
    out.parent.mkdir()
    out.write_text("before")
    (folder / "list.csv").write_text("image_path\n" + "a.png\n" * 50 + '"' + "x" * 200_000)  # not CSV at its end
    with pytest.raises(FaceTableError, match="cannot be read as a list"):
        predict_images(predictor(checkpoint), folder / "list.csv", out)
    with pytest.raises(TrainingError, match="out of memory"):
        predict_images(FailingPredictor(predictor(checkpoint)), folder, out)
    assert out.read_text() == "before"
    assert list(out.parent.iterdir()) == [out]


def test_no_images_or_an_unwritable_output_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceTableError, match="no image found"):
        predict_images(predictor(checkpoint), tmp_path / "empty", tmp_path / "out.csv")
    with pytest.raises(FaceTableError, match="no such folder"):
        predict_images(predictor(checkpoint), tmp_path / "absent", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="it is a folder"):
        predict_images(predictor(checkpoint), tmp_path, tmp_path / "folder.csv")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written: (File exists|Not a directory)"):
        predict_images(predictor(checkpoint), tmp_path, tmp_path / "file" / "out.csv")


def test_an_image_is_cropped_before_prediction_and_one_without_a_face_has_a_reason(
    checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    faces = {"many/00.png": CANONICAL_POINTS * 9 + 3}
    by_content = {hashlib.sha256((folder / name).read_bytes()).hexdigest(): points for name, points in faces.items()}

    def find(_: Image.Image, content_hash: str) -> list[DetectedFace]:
        points = by_content.get(content_hash)
        return [] if points is None else [DetectedFace((3, 3, 9, 9), 0.9, points)]

    framer = Cropper(find, FaceSettings(min_face_pixels=1))
    model = predictor(checkpoint)
    counts = predict_images(model, folder, tmp_path / "out.parquet", framer=framer)
    assert (counts.num_found, counts.num_read) == (25, 1)
    row = read(tmp_path / "out.parquet").set_index("image_path")
    assert row.loc["many/01.png", "unreadable"] == "no face found (min_score 0.5)"
    crop = crop_face(Image.open(folder / "many/00.png").convert("RGB"), faces["many/00.png"], size=16)
    expected = model.predict_sizes({16: crop[None]})[0]
    assert row.loc["many/00.png", "class_probability"] == pytest.approx(expected.max(), abs=1e-6)
    assert row.loc["many/00.png", "class_id"] == expected.argmax()
