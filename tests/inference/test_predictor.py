"""`ssl_pipeline.Predictor`: paths, pictures and arrays in, every probability out."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ssl_pipeline
from ssl_pipeline import Predictor
from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.learning.checkpoint import save_checkpoint
from tests.conftest import SPACE
from tests.learning.prediction_support import predictor, random_faces, random_model, save_random_model, write_images


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "best.safetensors")


def test_the_package_brings_no_torch_before_it_predicts() -> None:
    code = "import sys, ssl_pipeline; assert 'torch' not in sys.modules; ssl_pipeline.Predictor; assert 'torch' in sys.modules"
    code += "; assert not {'sklearn', 'scipy.optimize'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Predictr'"):
        _ = ssl_pipeline.Predictr  # type: ignore[attr-defined]


def test_a_path_a_picture_and_an_array_of_one_face_have_the_same_probabilities(
    checkpoint: Path, tmp_path: Path
) -> None:
    pixels = write_images(tmp_path, ["a.png"])["a.png"]
    model = Predictor(checkpoint, device="cpu", horizontal_flip=False)
    frame = model.predict([tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels])
    assert frame["image_path"].tolist() == [str(tmp_path / "a.png")] * 2 + ["2", "3"]
    classes = [f"class={name}" for name in SPACE.class_names]
    expected = predictor(checkpoint, horizontal_flip=False).predict(pixels[None], np.array([0]))[0]
    for row in frame[classes].to_numpy():
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert frame["gender=male"].to_numpy() == pytest.approx(expected[:3].sum(), abs=1e-6)
    assert frame["unreadable"].isna().all()
    assert model.labels == SPACE.to_dict()


def test_a_picture_is_turned_upright_and_a_gray_array_is_taken(checkpoint: Path) -> None:
    pixels = random_faces(1)[0]
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    lying.getexif()[0x0112] = 6
    gray = pixels.mean(axis=2).astype(np.uint8)
    model = Predictor(checkpoint, device="cpu")
    frame = model.predict([pixels, lying, gray, np.stack([gray] * 3, axis=2)])
    probabilities = frame.filter(like="class=").to_numpy()
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-6)
    np.testing.assert_allclose(probabilities[2], probabilities[3], atol=1e-6)


def test_what_cannot_be_read_has_a_row_and_what_is_no_image_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    model = Predictor(checkpoint, device="cpu")
    frame = model.predict([tmp_path / "broken.jpg", tmp_path / "absent.jpg", Image.new("RGB", (4, 4))])
    assert frame["unreadable"].str[:12].tolist() == ["not an image", "No such file", "a side is sh"]
    assert frame["gender"].isna().all()
    for wrong in (np.zeros((4, 16, 16, 3), np.uint8), np.zeros((16, 16, 3)), 7):
        with pytest.raises(FaceTableError, match="image 0: expected a path, a PIL image or an array uint8"):
            model.predict([wrong])  # type: ignore[list-item]
    assert model.predict([]).empty


def test_a_folder_is_predicted_and_a_stream_in_batches(checkpoint: Path, tmp_path: Path) -> None:
    write_images(tmp_path, [f"{number}.png" for number in range(5)])
    model = Predictor(checkpoint, device="cpu", batch_size=2)
    assert model.predict(tmp_path)["image_path"].tolist() == [f"{number}.png" for number in range(5)]
    face = random_faces(1)[0]
    endless = (face for _ in iter(int, 1))
    frames = list(islice(model.predict_batches(endless), 3))
    assert [len(frame) for frame in frames] == [2, 2, 2]
    assert pd.concat(frames)["image_path"].tolist() == ["0", "1", "2", "3", "4", "5"]


def test_several_models_vote_and_a_model_of_crops_needs_a_detector(checkpoint: Path, tmp_path: Path) -> None:
    other = save_random_model(tmp_path / "other.safetensors", seed=5, image_size=24)
    faces = list(random_faces(3))
    alone = [Predictor(path, device="cpu").predict(faces).filter(like="class=") for path in (checkpoint, other)]
    together = Predictor(checkpoint, other, device="cpu").predict(faces).filter(like="class=")
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=1e-6)
    crops = tmp_path / "crops.safetensors"
    save_checkpoint(
        crops,
        random_model(),
        model_config=ModelConfig(architecture="wrn10_1"),
        image_size=16,
        cropping=CropRules(detection_sides=(192,)),
    )
    with pytest.raises(ConfigError, match="detector"):
        Predictor(crops)
    assert len(Predictor(crops, crop=False, device="cpu").predict(faces)) == 3
