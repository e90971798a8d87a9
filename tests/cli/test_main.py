"""The command itself: fast help, lines that agree with the subcommands, the version."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ssl_pipeline import __version__
from ssl_pipeline.cli.main import COMMANDS, app, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_the_help_begins_like_the_subcommands_own(name: str) -> None:
    line, own = COMMANDS[name][1].rstrip("."), " ".join((load_command(name).help or "").split())
    assert own.startswith(line.split(",")[0].split(";")[0]), own


@pytest.mark.parametrize(("option", "more"), [("--help", "importlib.metadata"), ("--version", "torch")])
def test_help_and_version_import_neither_torch_nor_pandas(option: str, more: str) -> None:
    unwanted = {"torch", "pandas", "pydantic", more}
    code = f"import sys; sys.argv = ['ssl-pipeline', '{option}']; from ssl_pipeline.cli.main import app\n"
    code += f"app(standalone_mode=False); assert not {unwanted} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"ssl-pipeline {__version__}\n"


def test_a_mistyped_subcommand_is_guessed() -> None:
    result = CliRunner().invoke(app, ["chekc"])
    assert result.exit_code == 2
    assert "Did you mean 'check'" in result.output
