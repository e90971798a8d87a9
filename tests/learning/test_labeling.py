"""Prediction and its shards: order, mirror, skipping what is finished, refusing what is another's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_pipeline.config import PredictionConfig
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.learning.images import predict_images
from ssl_pipeline.learning.labeling import predict_shards, read_shards
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.learning.training import fit
from tests.conftest import SPACE, colored_pixels, make_faces, make_role


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    fit(make_role(epochs=8, precision="fp32"), make_faces(), directory=directory)
    return directory / "best.safetensors"


def predictor(checkpoint: Path, **settings: object) -> Predictor:
    config = PredictionConfig.model_validate({"batch_size": 7, "precision": "fp32", **settings})
    return Predictor.load(checkpoint, config, device="cpu")


def pool(num_faces: int) -> tuple[pd.DataFrame, np.ndarray]:
    faces = pd.DataFrame({"image_id": [f"f{row}" for row in range(num_faces)], "pixel_row": np.arange(num_faces)})
    return faces, colored_pixels(np.arange(num_faces) % SPACE.num_classes)


def test_probabilities_are_in_the_order_of_the_rows_asked_for(checkpoint: Path) -> None:
    _, pixels = pool(20)
    model = predictor(checkpoint, horizontal_flip=False)
    whole = model.predict(pixels, np.arange(20))
    np.testing.assert_allclose(model.predict(pixels, np.array([5, 3])), whole[[5, 3]], atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert (whole.argmax(axis=1) == np.arange(20) % SPACE.num_classes).mean() > 0.8


def test_the_mirror_is_averaged_in(checkpoint: Path) -> None:
    _, pixels = pool(6)
    plain, flipped = (
        predictor(checkpoint, horizontal_flip=False).predict(faces, np.arange(6))
        for faces in (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))
    )
    both = predictor(checkpoint, horizontal_flip=True).predict(pixels, np.arange(6))
    np.testing.assert_allclose(both, (plain + flipped) / 2, atol=1e-6)


def test_prediction_takes_no_gradients_and_leaves_the_mode(checkpoint: Path) -> None:
    model = predictor(checkpoint)
    statistics = model.checkpoint.model.backbone.norm.running_mean.clone()
    model.predict(pool(8)[1], np.arange(8))
    assert torch.equal(model.checkpoint.model.backbone.norm.running_mean, statistics)
    assert all(parameter.grad is None for parameter in model.checkpoint.model.parameters())


def test_shards_hold_all_faces_and_finished_ones_are_left_alone(checkpoint: Path, tmp_path: Path) -> None:
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


def test_a_shard_cut_short_is_predicted_again(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(8)
    options = {"directory": tmp_path, "shard_size": 8, "identity": "a"}
    predict_shards(predictor(checkpoint), faces, pixels, **options)
    part = tmp_path / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:50])
    assert predict_shards(predictor(checkpoint), faces, pixels, **options)["num_skipped"] == 0


def test_predictions_of_other_faces_are_not_taken(checkpoint: Path, tmp_path: Path) -> None:
    faces, pixels = pool(8)
    predict_shards(predictor(checkpoint), faces, pixels, directory=tmp_path, shard_size=8, identity="a")
    with pytest.raises(RunError, match="predictions of other faces"):
        read_shards(tmp_path, faces.iloc[::-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for name, class_id in (("a.png", 0), ("deep/b.jpg", 4)):
        Image.fromarray(colored_pixels(np.array([class_id]), size=40)[0]).save(images / name)
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "notes.txt").write_text("not looked at")
    return images


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_image_of_a_folder_gets_a_row_the_unreadable_one_its_reason(
    checkpoint: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    assert predict_images(predictor(checkpoint), folder, out) == {"read": 2, "unreadable": 1}
    rows = (pd.read_csv(out) if suffix == ".csv" else pq.read_table(out).to_pandas()).set_index("image_path")
    assert set(rows.index) == {"a.png", "broken.jpg", "deep/b.jpg"}
    assert rows.loc["a.png", "class_name"] == "male/<30"
    assert rows.loc["deep/b.jpg", ["gender", "age"]].tolist() == ["female", "30-59"]
    assert 0 < rows.loc["deep/b.jpg", "age_probability"] <= 1
    assert rows["unreadable"].notna().tolist() == [path == "broken.jpg" for path in rows.index]
    assert pd.isna(rows.loc["broken.jpg", "class_id"])


def test_a_folder_without_images_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match="no image in this folder"):
        predict_images(predictor(checkpoint), tmp_path, tmp_path / "out.csv")
    with pytest.raises(FaceTableError, match="no such folder"):
        predict_images(predictor(checkpoint), tmp_path / "absent", tmp_path / "out.csv")
