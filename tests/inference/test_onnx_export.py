"""Export to ONNX: the same calibrated probabilities, for any number of faces, with the labels in the file."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.inference import onnx_export
from ssl_pipeline.learning.checkpoint import load_checkpoint, save_checkpoint
from ssl_pipeline.learning.vote import Member, Vote
from tests.conftest import SPACE
from tests.learning.prediction_support import predictor, random_faces, random_model


def save(path: Path, calibration: TemperatureCalibration | None, **model: str) -> Path:
    config = ModelConfig.model_validate({"architecture": "wrn10_1", **model})
    built = random_model(**model)
    save_checkpoint(path, built, model_config=config, image_size=16, cropping=None, calibration=calibration)
    return path


@pytest.mark.parametrize(
    ("head", "calibration"),
    [
        ("joint", None),
        ("joint", TemperatureCalibration("class", (2.5,), 100, 100)),
        ("joint", TemperatureCalibration("attribute", (0.7, 3.0), 100, 100)),
        ("per_attribute", TemperatureCalibration("attribute", (0.7, 3.0), 100, 100)),
    ],
)
def test_the_file_gives_the_models_calibrated_probabilities(
    head: str, calibration: TemperatureCalibration | None, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "best.safetensors", calibration, head=head)
    result = CliRunner().invoke(app, ["export", str(checkpoint)], catch_exceptions=False)
    assert "input pixels, uint8 [N, 3, 16, 16], RGB; outputs probabilities and gender, age" in result.output
    assert json.loads((tmp_path / "best.export.json").read_text())["largest_difference"] < 1e-5

    session = onnxruntime.InferenceSession(str(tmp_path / "best.onnx"))
    for number in (1, 5):
        faces = random_faces(number, seed=number)
        expected = predictor(checkpoint, horizontal_flip=False).predict(faces, np.arange(number))
        found, gender, age = session.run(None, {"pixels": faces.transpose(0, 3, 1, 2)})
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(gender[:, 0], expected[:, :3].sum(axis=1), atol=1e-5)
        np.testing.assert_allclose(age[:, 2], expected[:, [2, 5]].sum(axis=1), atol=1e-5)
    described = json.loads(session.get_modelmeta().custom_metadata_map["ssl_pipeline"])
    assert described["labels"] == SPACE.to_dict()
    assert described["image_size"] == 16


def test_a_vote_is_not_exported_and_a_file_that_differs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote = tmp_path / "vote.safetensors"
    members = [
        Member(name, 1.0, random_model(seed=seed), ModelConfig(architecture="wrn10_1"))
        for seed, name in enumerate("ab")
    ]
    save_checkpoint(vote, Vote(members), model_config=None, image_size=16, cropping=None)
    with pytest.raises(CheckpointError, match="several teachers that vote are not one network"):
        CliRunner().invoke(app, ["export", str(vote)], catch_exceptions=False)
    checkpoint = save(tmp_path / "best.safetensors", TemperatureCalibration("class", (5.0,), 100, 100))
    onnx_export.export_onnx(load_checkpoint(save(tmp_path / "other.safetensors", None)), tmp_path / "other.onnx")
    with pytest.raises(CheckpointError, match="differ from the model's by up to 0"):
        onnx_export.check_parity(checkpoint, tmp_path / "other.onnx", random_faces(8))
