"""Features of faces by a model of a run: the input of its last layer, kept in the run, for the rows asked for only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.learning.checkpoint import load_checkpoint, save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.vote import Member, Vote
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages import face_features as stage
from ssl_pipeline.stages.face_features import face_features
from tests.cycle_config import draw_and_prepare, write_tiny_config

ROWS = np.array([7, 3, 3, 90])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir, Path]:
    config = load_config(write_tiny_config(tmp_path_factory.mktemp("features")))
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    torch.manual_seed(0)
    models = [build_model(config.student.model, labels=config.labels.space, image_size=24) for _ in range(2)]
    one, vote = run.student(1), run.teacher
    save_checkpoint(
        one / "best.safetensors", models[0], model_config=config.student.model, image_size=24, cropping=None
    )
    members = [Member(f"m{number}", 1.0, model.eval(), config.student.model) for number, model in enumerate(models)]
    save_checkpoint(vote / "best.safetensors", Vote(members), model_config=None, image_size=24, cropping=None)
    return config, run, one


def test_the_features_are_the_input_of_the_last_layer_in_the_order_of_the_rows(
    prepared: tuple[RunConfig, RunDir, Path],
) -> None:
    config, run, model_dir = prepared
    features = face_features(config, run, model_dir, ROWS)
    model = load_checkpoint(model_dir / "best.safetensors").model
    faces = torch.from_numpy(open_pixels(run.faces / "pixels.npy")[ROWS]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model.features(faces)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=0.05, atol=0.02)
    assert np.array_equal(features[1], features[2]) and not np.array_equal(features[0], features[1])


def test_a_second_call_computes_nothing_and_other_rows_do(
    prepared: tuple[RunConfig, RunDir, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run, model_dir = prepared
    first = face_features(config, run, model_dir, ROWS)
    computed: list[int] = []
    monkeypatch.setattr(stage, "pooled_features", lambda _, __, rows: computed.append(len(rows)) or np.zeros((2, 3)))
    assert np.array_equal(face_features(config, run, model_dir, ROWS), first) and not computed
    face_features(config, run, model_dir, ROWS[:2])
    assert computed == [2]


def test_of_a_vote_they_are_its_networks(prepared: tuple[RunConfig, RunDir, Path]) -> None:
    config, run, model_dir = prepared
    by_student = face_features(config, run, model_dir, ROWS)
    np.testing.assert_array_equal(face_features(config, run, run.teacher, ROWS), by_student)  # its first member


def test_a_missing_checkpoint_is_said(prepared: tuple[RunConfig, RunDir, Path]) -> None:
    config, run, _ = prepared
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        face_features(config, run, run.student(9), ROWS)
