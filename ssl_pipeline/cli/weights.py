"""`ssl-pipeline weights fetch`: download pretrained weights to where an offline machine finds them."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ssl_pipeline.runs.files import atomic_path

weights_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Pretrained weights of networks.")


@weights_app.callback()
def _weights() -> None:
    """Make `fetch` a subcommand although it is the only one."""


@weights_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A timm name, e.g. resnet18.a1_in1k, or hf_hub:OWNER/NAME.")],
    to: Annotated[Path | None, typer.Option(help="Also write them to this file, for model.weights_file.")] = None,
) -> None:
    """Download pretrained weights to the local cache (HF_HOME); `pretrained: true` then needs no network."""
    from ssl_pipeline.learning.backbones import check_name, timm_name
    from ssl_pipeline.learning.hub import HubWeights

    check_name(name)
    weights = HubWeights(timm_name(name))
    path = weights.fetch()
    where = path
    if to is not None:
        where = to if to.suffix else to.with_suffix(path.suffix)
        with atomic_path(where) as temporary:
            shutil.copyfile(path, temporary)
    terms = f"license {weights.license}" if weights.license else "license not stated"
    typer.echo(f"{name}: {path.stat().st_size / 1e6:,.1f} MB from {weights.repository} in {where}")
    typer.echo(f"{terms}; the terms are on the hub's page of {weights.repository}, and bind whoever uses the weights")
