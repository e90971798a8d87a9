"""The `ssl-pipeline` command: its app, its subcommands, and the exit code."""

import sys

import typer

from ssl_pipeline.cli.check import check
from ssl_pipeline.cli.cycle import cycle_app
from ssl_pipeline.cli.embed import embed
from ssl_pipeline.cli.evaluate import evaluate
from ssl_pipeline.cli.faces import faces_app
from ssl_pipeline.cli.init import init
from ssl_pipeline.cli.manifest import manifest_app
from ssl_pipeline.cli.plot import plot_app
from ssl_pipeline.cli.predict import predict
from ssl_pipeline.cli.run import run
from ssl_pipeline.cli.weights import weights_app
from ssl_pipeline.errors import PipelineError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Pseudo-labels for face attributes.")
app.add_typer(manifest_app, name="manifest")
app.add_typer(plot_app, name="plot")
app.add_typer(faces_app, name="faces")
app.add_typer(cycle_app, name="cycle")
app.add_typer(weights_app, name="weights")
app.command("init")(init)
app.command("predict")(predict)
app.command("evaluate")(evaluate)
app.command("embed")(embed)
app.command("run")(run)
app.command("check")(check)


def main() -> None:
    """Run the command. A user's mistake prints one message; the exit code is the error's."""
    try:
        app()
    except PipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - output of the command
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
