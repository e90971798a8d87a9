"""The `ssl-pipeline` command: its subcommands, each imported when it is called, and the exit code."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ssl_pipeline.errors import PipelineError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("init:init", "Write a first config for your faces, and say what it can be expected to give."),
    "check": ("check:check", "Say what a run would refuse before its work; with --models, also build its networks."),
    "run": ("run:run", "Run the full cycle: train a teacher, pseudo-label the pool, train students, compare."),
    "predict": ("predict:predict", "Predict images, with all probabilities."),
    "evaluate": ("evaluate:evaluate", "Score a checkpoint on the config's labeled faces."),
    "export": ("export:export", "Export a model: to ONNX, or as a folder for a model hub."),
    "manifest": ("manifest:manifest_app", "See what was pseudo-labeled, how surely and why."),
    "report": ("report:report", "Write one HTML file that shows a run: results, labels, faces, map, findings."),
    "answers": ("answers:answers_app", "Count, export and import people's answers about a run's labels."),
    "queue": ("queue:queue", "Choose the faces of a run's pool that a person should label next."),
    "labels": ("labels:labels_app", "Find human labels that look wrong."),
    "review": (
        "review:review",
        "Go through faces in a browser: accept, correct or reject labels by keyboard; answers become human labels.",
    ),
    "cycle": ("cycle:cycle_app", "Show a run's status, decide on its selection, resume it."),
    "faces": ("faces:faces_app", "Inspect the sources of a config."),
    "plot": ("plot:plot_app", "Plot a config without running it."),
    "embed": ("embed:embed", "Write features of images, for a teacher of type features."),
    "recipes": ("recipes:recipes_app", "List, show and copy the shipped configs."),
    "schema": ("recipes:schema", "Print the JSON schema of a config, by which editors complete and check."),
    "weights": ("weights:weights_app", "Pretrained weights of networks."),
}
"""Per subcommand where it is, in this package, and its line in the help: what it needs is imported when it is called."""


class Commands(TyperGroup):
    """The subcommands: for the help without their options, and imported when one is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the subcommand that is called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(str(name)), rest


def load_command(name: str) -> Any:
    """Import a subcommand."""
    module, attribute = COMMANDS[name][0].split(":")
    loaded = getattr(import_module(f"ssl_pipeline.cli.{module}"), attribute)
    if isinstance(loaded, typer.Typer):
        return typer.main.get_group(loaded)
    single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    single.command(name)(loaded)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help="Pseudo-labels for face attributes."
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ssl_pipeline import __version__  # its look-up costs a fifth of `--help`

        typer.echo(f"ssl-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Pseudo-labels for face attributes."""


def main() -> None:
    """Run the command. A user's mistake prints one message; the exit code is the error's."""
    try:
        app()
    except PipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - output of the command
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
