"""Labeling by another engine than torch: compared on validation faces, recorded, refused if it differs by more than rounding."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.engine import torch_engine
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.learning.test_engine import TOLERANCE, needs_openvino

ENGINE = "prediction.engine=openvino"


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDir]:
    """A config, and its run with a teacher that has labeled the pool by torch."""
    path = write_tiny_config(tmp_path_factory.mktemp("engine"))
    config = load_config(path)
    run = RunDir(config.runs_root / "tiny")
    draw_and_prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    return path, run


@pytest.fixture
def trained(labeled: tuple[Path, RunDir], tmp_path: Path) -> tuple[Path, RunDir]:
    """A copy of the run: its records do not know one stand-in for an engine from another."""
    shutil.copytree(labeled[1].root, tmp_path / "tiny")
    return labeled[0], RunDir(tmp_path / "tiny")


def label(config: RunConfig, run: RunDir) -> bool:
    """Label the pool; return whether that was skipped."""
    return predict(config, run, 1, run.teacher / "best.safetensors").skipped


def pool_probabilities(run: RunDir) -> np.ndarray:
    return read_shards(run.pseudo_labels(1) / "predictions", read_faces(run.faces / "unlabeled.parquet"))


def swap_classes(network: FaceClassifier, faces: torch.Tensor) -> torch.Tensor:
    return torch_engine(network, faces).flip(1)


def test_another_engine_predicts_again_and_its_difference_from_torch_is_recorded(
    trained: tuple[Path, RunDir], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, run = trained
    record = run.pseudo_labels(1) / "engine/done.json"
    assert not record.exists()
    nearly = lambda network, faces: 0.9999 * torch_engine(network, faces) + 0.0001 / network.labels.num_classes  # noqa: E731
    monkeypatch.setattr("ssl_pipeline.learning.predict.build_engine", lambda *_: nearly)
    with caplog.at_level(logging.INFO):
        assert not label(load_config(path, overrides=[ENGINE]), run)
    result = read_json(record)["result"]
    validation = (read_faces(run.faces / "labeled.parquet")["split"] == "validation").sum()
    assert result["num_faces"] == min(64, validation)
    assert result["differing_labels"] == 0
    assert 0 < result["largest_difference"] <= 1e-4
    assert f"engine openvino: on {result['num_faces']} validation faces, 0.0 % get another label" in caplog.text
    assert label(load_config(path, overrides=[ENGINE]), run)
    monkeypatch.undo()
    assert not label(load_config(path), run)


def test_an_engine_that_predicts_something_else_labels_no_pool(
    trained: tuple[Path, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = trained
    before = pool_probabilities(run)
    monkeypatch.setattr("ssl_pipeline.learning.predict.build_engine", lambda *_: swap_classes)
    with pytest.raises(CheckpointError, match=r"openvino's probabilities differ from torch's by up to 0\.\d+ on"):
        label(load_config(path, overrides=[ENGINE]), run)
    assert not (run.pseudo_labels(1) / "engine/done.json").exists()
    np.testing.assert_array_equal(pool_probabilities(run), before)


@needs_openvino
def test_openvino_labels_the_pool_like_torch(trained: tuple[Path, RunDir]) -> None:
    path, run = trained
    by_torch = pool_probabilities(run)
    label(load_config(path, overrides=[ENGINE]), run)
    np.testing.assert_allclose(pool_probabilities(run), by_torch, atol=TOLERANCE)
    result = read_json(run.pseudo_labels(1) / "engine/done.json")["result"]
    assert result["differing_labels"] == 0
    assert result["largest_difference"] < TOLERANCE
