"""`ssl-pipeline run`: the full cycle as a Prefect flow, found by an entry point, since the library imports no Prefect."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from ssl_pipeline.cli.completion import ConfigArgument
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.trial import trial_overrides
from ssl_pipeline.errors import PipelineError


def run(
    config: ConfigArgument,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
    run_name: Annotated[str | None, typer.Option("--run-name", help="Names the folder under data/runs.")] = None,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial", help="Try every stage on little, in a run of its own, NAME-trial; its scores mean nothing."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors, and the path of the promoted model.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON; all else goes to stderr.")
    ] = False,
) -> None:
    """Run the full cycle: train a teacher, pseudo-label the pool, train students, compare; again resumes it."""
    loaded = load_config(config, overrides=overrides or [], run_name=run_name)  # told before Prefect is imported
    if trial:
        overrides, run_name = [*(overrides or []), *trial_overrides(loaded)], None
        load_config(config, overrides=overrides)
    load_flow_command("run")(config, overrides, run_name, quiet=quiet, as_json=as_json)
    if trial and not (quiet or as_json):
        typer.echo(
            "This was a trial: every stage works, the scores mean nothing. The run itself: the same without --trial"
        )


def load_flow_command(name: str) -> Callable[..., Any]:
    """Load a function of the installed flows.

    Args:
        name: of an entry point in the group ``ssl_pipeline.flows``: ``run`` or ``resume``.

    Raises:
        PipelineError: if the flows are not installed.
    """
    for entry_point in entry_points(group="ssl_pipeline.flows", name=name):
        command: Callable[..., Any] = entry_point.load()
        return command
    raise PipelineError("the flows are not installed; install the package: pip install ssl-pipeline, or make setup")
