"""Trackers in a cycle: a tracked run a training and one for the summary; no stage depends on them."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_control, train_student
from tests.cycle_config import label_the_pool, write_tiny_config
from tests.learning.test_trackers import needs, read_tensorboard

SHORT = ["teacher.training.epochs=1", "student.training.epochs=1", "control=true"]


@pytest.mark.parametrize("tracker", [needs("tensorboard")])
def test_a_cycle_tracks_each_training_and_the_test_scores(tmp_path: Path, tracker: str) -> None:
    path = write_tiny_config(tmp_path)
    config = load_config(path, overrides=[*SHORT, f"track={tracker}"])
    run = RunDir(config.runs_root / config.run_name)
    label_the_pool(config, run)
    train_student(config, run, 1)
    train_control(config, run, 1)
    outcome = RoundOutcome(1, gate=gate(config, run, 1, run.teacher))
    for _ in range(2):  # a finished cycle that runs again tracks nothing twice
        summary = finish(config, run, [outcome])
        tracked = {name.rpartition("-")[0]: logged for name, logged in read_tensorboard(run.root / "tracking").items()}
        assert set(tracked) == {"teacher", "student-1", "control-1", "summary"}
        for model in ("teacher", "student", "control"):
            expected = (0, pytest.approx(summary[model]["test"]["macro_f1"]))
            assert tracked["summary"][f"{model}.test.macro_f1"] == [expected]
    assert train_teacher(load_config(path, overrides=[*SHORT, "track=null"]), run).skipped


def test_a_missing_package_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else find(name, *rest)
    )
    path = write_tiny_config(tmp_path)
    config = load_config(path, overrides=["track=mlflow"])
    message = "'track': the package of mlflow is not installed; pip install 'ssl-pipeline[track]', or --set track=null"
    with pytest.raises(ConfigError) as error, open_run(config):
        pass
    assert message in str(error.value)
    assert not config.runs_root.exists()
    result = CliRunner().invoke(app, ["check", str(path), "--set", "track=mlflow"])
    assert message in str(result.exception)
