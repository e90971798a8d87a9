"""A trial: valid for every shipped config, short, and a run of its own."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli import run as module
from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.shipped import shipped_configs
from ssl_pipeline.config.trial import trial_overrides
from tests.cycle_config import write_tiny_config


@pytest.mark.parametrize("name", [name for name in shipped_configs() if not name.startswith("presets")])
def test_every_shipped_config_can_be_tried(name: str) -> None:
    config = load_config(Path(name))
    trial = load_config(Path(name), overrides=trial_overrides(config))
    assert trial.run_name == f"{config.run_name}-trial"
    assert {role.training.steps for role in trial.roles.values()} == {2}
    assert all(0 < (source.limit or 0) <= 200 for source in trial.faces.unlabeled.sources)
    assert trial.faces.labeled == config.faces.labeled and trial.labels == config.labels
    assert [role.model for role in trial.roles.values()] == [role.model for role in config.roles.values()]


def test_run_tries_a_run_of_its_own_name_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "load_flow_command", lambda name: lambda *args, **options: calls.append(args))
    config = write_tiny_config(tmp_path)
    answer = CliRunner().invoke(app, ["run", str(config), "--run-name", "mine", "--set", "seed=3", "--trial"])
    assert answer.exit_code == 0 and "This was a trial" in answer.output
    (_, overrides, run_name) = calls[0]
    tried = load_config(config, overrides=overrides, run_name=run_name)
    assert (tried.run_name, tried.seed, tried.student.training.steps) == ("mine-trial", 3, 2)
    assert "trial" not in CliRunner().invoke(app, ["run", str(config)]).output
    assert calls[1][1] is None
