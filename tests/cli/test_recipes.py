"""`ssl-pipeline recipes` and `schema`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError


def test_shipped_configs_are_listed_with_their_purpose() -> None:
    lines = CliRunner().invoke(app, ["recipes", "ls"]).output.splitlines()
    assert any(line.startswith("demo ") and "the full cycle in minutes" in line for line in lines)
    assert all(line.split(maxsplit=1)[1] for line in lines)


def test_a_config_is_shown_copied_and_not_overwritten(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["recipes", "show", "demo"]).output
    assert CliRunner().invoke(app, ["recipes", "cp", "demo", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "demo.yaml").read_text(encoding="utf-8") == shown
    assert load_config(tmp_path / "demo.yaml").run_name == "demo"
    with pytest.raises(ConfigError, match="exists already"):
        CliRunner().invoke(app, ["recipes", "cp", "demo", str(tmp_path)], catch_exceptions=False)


def test_the_schema_is_printed() -> None:
    assert "properties" in json.loads(CliRunner().invoke(app, ["schema"]).output)
