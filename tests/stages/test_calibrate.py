"""The calibration stage, and faces kept to test a guarantee."""

import numpy as np
import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.checkpoint import load_checkpoint
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.round_faces import RoundFaces
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config

SETTINGS = [
    "teacher.training.epochs=2",
    "faces.labeled.guarantee_fraction=0.3",
    "calibration={type: temperature, min_persons: 10}",
    "selection={type: precision_guarantee, target: 0.5}",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    directory = tmp_path_factory.mktemp("calibrated")
    config = load_config(write_tiny_config(directory, root=directory / "raw"), overrides=SETTINGS)
    with open_run(config) as run:
        draw_and_prepare(config, run)
        train_teacher(config, run)
    return config, run


def test_another_calibration_trains_nothing_again(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    checkpoint, weights = run.teacher / "best.safetensors", (run.teacher / "trained.safetensors").read_bytes()
    fitted = load_checkpoint(checkpoint).calibration
    assert fitted is not None
    assert (run.teacher / "calibration" / "calibration.png").is_file()
    none = load_config(run.root / "config.yaml", overrides=["calibration={type: none}"])
    with open_run(none):
        model = train_teacher(none, run)
    assert model.skipped
    assert model.calibration is None
    assert load_checkpoint(checkpoint).calibration is None
    with open_run(config):
        model = train_teacher(config, run)
    assert model.skipped
    assert load_checkpoint(checkpoint).calibration == fitted
    assert (run.teacher / "trained.safetensors").read_bytes() == weights


def test_the_guarantee_is_tested_on_faces_that_chose_nothing(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    with open_run(config):
        predict(config, run, 1, run.teacher / "best.safetensors")
    faces = RoundFaces(config, run, 1)
    labeled = read_faces(run.faces / "labeled.parquet")
    kept = labeled[labeled["split"] == "guarantee"]
    assert faces.held_out.name == "guarantee"
    assert faces.held_out.codes.tolist() == config.labels.space.encode(kept).tolist()
    assert len(kept) / (~labeled["split"].isin(["test"])).sum() == pytest.approx(0.3, abs=0.05)
    units, splits = independent_units(labeled), labeled["split"].to_numpy(object)
    assert all(len(set(splits[units == unit])) == 1 for unit in np.unique(units))
    calibration = load_checkpoint(run.teacher / "best.safetensors").calibration
    assert calibration is not None
    assert calibration.num_faces == (labeled["split"] == "validation").sum()
