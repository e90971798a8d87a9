"""Shards of predictions: skipping finished ones, rejecting those of other faces."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.errors import RunError
from ssl_pipeline.learning.shard_prediction import predict_shards, read_shards, write_shard
from tests.conftest import SPACE, colored_pixels
from tests.learning.prediction_support import predictor, save_random_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "best.safetensors")


def pool(num_faces: int) -> tuple[pd.DataFrame, np.ndarray]:
    faces = pd.DataFrame({"image_id": [f"f{row}" for row in range(num_faces)], "pixel_row": np.arange(num_faces)})
    return faces, colored_pixels(np.arange(num_faces) % SPACE.num_classes)


def test_shards_contain_all_faces_and_finished_ones_are_skipped(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(20)
    options = {"directory": tmp_path, "shard_size": 8, "identity": "a"}
    first = predict_shards(predictor(checkpoint), faces, pixels, **options)
    assert first == {"num_shards": 3, "num_skipped": 0, "num_faces": 20}
    whole = read_shards(tmp_path, faces)
    bytes_before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    (tmp_path / "part-00001.parquet").unlink()
    again = predict_shards(predictor(checkpoint), faces, pixels, **options)
    assert again["num_skipped"] == 2
    np.testing.assert_array_equal(read_shards(tmp_path, faces), whole)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == bytes_before


def test_shards_of_another_teacher_are_predicted_again_and_leftovers_removed(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(20)
    predict_shards(predictor(checkpoint), faces, pixels, directory=tmp_path, shard_size=4, identity="a")
    result = predict_shards(predictor(checkpoint), faces, pixels, directory=tmp_path, shard_size=8, identity="b")
    assert result["num_skipped"] == 0
    assert len(list(tmp_path.glob("part-*.parquet"))) == 3


def test_a_truncated_shard_is_predicted_again(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(8)
    options = {"directory": tmp_path, "shard_size": 8, "identity": "a"}
    predict_shards(predictor(checkpoint), faces, pixels, **options)
    part = tmp_path / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:50])
    assert predict_shards(predictor(checkpoint), faces, pixels, **options)["num_skipped"] == 0


def test_predictions_of_other_faces_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(8)
    predict_shards(predictor(checkpoint), faces, pixels, directory=tmp_path, shard_size=8, identity="a")
    with pytest.raises(RunError, match="the predictions are of other faces"):
        read_shards(tmp_path, faces.iloc[::-1])


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    faces, _ = pool(2)
    for number, image_id in ((100_000, "f1"), (99_999, "f0")):
        write_shard(tmp_path / f"part-{number:05d}.parquet", [image_id], np.full((1, 2), number, np.float32), "a")
    assert read_shards(tmp_path, faces)[:, 0].tolist() == [99_999, 100_000]
