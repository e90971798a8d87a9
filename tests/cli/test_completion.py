"""A shell completes subcommands, which are imported when called, their options, configs and runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("detail.yaml", "notes.txt", "own/mine.yaml", "data/runs/mine/run.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ma", {"manifest"}),
        ("run --q", {"--quiet"}),
        ("manifest su", {"summary"}),
        ("run de", {"demo", "detail.yaml"}),
        ("check own/", {"own/mine.yaml"}),
        ("recipes show presets/s", {"presets/small"}),
        ("cycle status m", {"mine"}),
    ],
)
def test_what_a_shell_completes(words: str, completed: set[str]) -> None:
    asked = {
        "_SSL_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"ssl-pipeline {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    result = CliRunner().invoke(app, prog_name="ssl-pipeline", env=asked)
    assert set(result.stdout.split()) == completed
