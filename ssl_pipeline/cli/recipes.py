"""`ssl-pipeline recipes …` and `ssl-pipeline schema`: the shipped configs, and the JSON schema that editors check them by."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_pipeline.cli.completion import complete_shipped
from ssl_pipeline.config.shipped import find_config, schema_file, shipped_configs
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.runs.files import write_text

recipes_app = typer.Typer(no_args_is_help=True, add_completion=False, help="List, show and copy the shipped configs.")

Name = Annotated[
    str, typer.Argument(help="A shipped config, e.g. demo or recipes/vit_base.", autocompletion=complete_shipped)
]


@recipes_app.command("ls")
def list_recipes() -> None:
    """List the shipped configs, each with its purpose."""
    configs = shipped_configs()
    width = max(map(len, configs), default=0)
    for name, file in configs.items():
        typer.echo(f"{name:{width}}  {_purpose(file)}")


def _purpose(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("# Purpose:")), "")


@recipes_app.command("show")
def show_recipe(name: Name) -> None:
    """Print a shipped config."""
    typer.echo(find_config(Path(name)).read_text(encoding="utf-8"), nl=False)


@recipes_app.command("cp")
def copy_recipe(name: Name, out: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Copy a shipped config, so that you can change it."""
    if out.is_dir():
        out = out / f"{Path(name).name}.yaml"
    if out.exists():
        raise ConfigError(f"{out} exists already; give another name, or delete it")
    write_text(out, find_config(Path(name)).read_text(encoding="utf-8"))
    typer.echo(f"written to {out}")


def schema() -> None:
    """Print the JSON schema of a config, by which editors complete and check."""
    typer.echo(schema_file().read_text(encoding="utf-8"), nl=False)
