"""What a shell completes: configs, shipped or in a folder, and runs under data/runs."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_pipeline.config.shipped import shipped_configs

RUNS = Path("data/runs")


def complete_shipped(incomplete: str) -> list[str]:
    """Return the shipped configs whose names begin so."""
    return [name for name in shipped_configs() if name.startswith(incomplete)]


def complete_config(incomplete: str) -> list[str]:
    """Return the YAML files and the shipped configs whose names begin so."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    files = sorted(str(file) for file in folder.glob("*.yaml") if str(file).startswith(incomplete))
    return [*files, *complete_shipped(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Return the runs under data/runs whose names begin so."""
    return sorted(path.parent.name for path in RUNS.glob("*/run.json") if path.parent.name.startswith(incomplete))


ConfigArgument = Annotated[
    Path,
    typer.Argument(
        help="A YAML config, or the name of a shipped one, e.g. demo or recipes/vit_base.",
        autocompletion=complete_config,
    ),
]
