"""Run a flow from a shell: options from its parameters, one message per user error, exit code 1 (3: review pending)."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import Flow
from prefect.utilities.callables import parameter_docstrings

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.stages.check import check

from .naming import deployed_flow_run
from .parameters import CONFIG_KEYS, as_overrides
from .server import chosen_server


class _OneMessage(logging.Filter):
    """Let one of Prefect's records of a user error through, its message without traceback; none if `is_printed`.

    In a deployment's flow run that is the last one, with which `prefect deployment run --watch` ends.
    """

    is_printed = False
    """Whether a command prints the error, or the result, itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.exc_info and isinstance(record.exc_info[1], PipelineError):
            record.msg, record.args, record.exc_info = "%s", (str(record.exc_info[1]),), None
            comes_again = message.startswith("Encountered exception") and deployed_flow_run() is not None
            return record.name.startswith("prefect.flow") and not (_OneMessage.is_printed or comes_again)
        if message.startswith("Finished in state Completed(") and not message.endswith("Completed()"):
            return not _OneMessage.is_printed
        names = [kind.__name__ for kind in PipelineError.__subclasses__()]  # the same error, once more, as the state's
        return not (message.startswith("Finished in state Failed(") and any(f"{name}: " in message for name in names))


def hide_user_error_tracebacks() -> None:
    """Log a user error once and without traceback, here and in a worker's flow process."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.flow_engine", "prefect.task_engine"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _OneMessage) for existing in logger.filters):
            logger.addFilter(_OneMessage())


def forward_library_logs() -> None:
    """Send the library's log lines to Prefect, also where Prefect was imported before this package, as in a worker."""
    library = logging.getLogger("ssl_pipeline")
    for handler in logging.getLogger("prefect.extra").handlers:
        if handler not in library.handlers:
            library.addHandler(handler)


def check_config(config: Path, overrides: list[str], run_name: str | None) -> None:
    """Load and check a run's config."""
    check(load_config(config, overrides=overrides, run_name=run_name))


def run_flow(
    flow: Flow[..., Any],
    config: Path,
    overrides: list[str] | None = None,
    run_name: str | None = None,
    *,
    validate: Callable[[Path, list[str], str | None], object] = check_config,
    report: Callable[[Any], None] | None = None,
    **parameters: Any,
) -> None:
    """Reject an invalid config before Prefect starts, run the flow, report its result.

    Raises:
        PipelineError: for a user error.
    """
    config_parameters = {name: value for name, value in parameters.items() if name in CONFIG_KEYS}
    validate(config, as_overrides(overrides, **config_parameters), run_name)
    _OneMessage.is_printed = True
    try:
        with chosen_server():
            result = flow(config_path=str(config), overrides=overrides or [], run_name=run_name, **parameters)
    finally:
        _OneMessage.is_printed = False
    if report is not None:
        report(result)


def print_lines(lines: Callable[[Any], Iterable[str]], result: Any) -> None:
    """Print the lines that state a flow's result."""
    for line in lines(result):
        typer.echo(line)


def training_lines(model: dict[str, Any]) -> list[str]:
    """State a trained model's metric, epochs and checkpoint."""
    epochs = f"the {model['kept']} of {model['num_epochs']} epochs, {model['kept_epoch'] + 1}, is kept"
    if members := model.get("members"):
        parts = (f"{name} {scores['macro_f1']:.3f}" for name, scores in members.items() if name != "vote")
        epochs = f"alone: {', '.join(parts)}"
    return [
        f"{model['monitor']} {model['kept_metric']:.3f} on the validation faces; {epochs}",
        f"Checkpoint: {model['checkpoint']}",
    ]


def run_from_command_line(flow: Flow[..., Any], **settings: Any) -> None:
    """Parse the flow's parameters as options and run it.

    Every flow has ``--config``, ``--set`` and ``--run-name``; any other parameter but `preset` is an option of the same name. The
    flow's docstring describes them, here and in the form of its deployment.

    Args:
        flow: the flow.
        **settings: `validate` and `report` of `run_flow`.
    """
    descriptions = {
        name: " ".join(text.split()) for name, text in parameter_docstrings(inspect.getdoc(flow.fn)).items()
    }

    def command(
        config: Annotated[Path, typer.Option(help=descriptions["config_path"])],
        overrides: Annotated[
            list[str] | None, typer.Option("--set", help=f"{descriptions['overrides']} May be repeated.")
        ] = None,
        run_name: Annotated[str | None, typer.Option(help=descriptions["run_name"])] = None,
        **parameters: Any,
    ) -> None:
        try:
            run_flow(flow, config, overrides, run_name, **settings, **parameters)
        except PipelineError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - output of a command
            raise typer.Exit(error.exit_code) from None

    shared = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    specific = [
        p.replace(annotation=Annotated[p.annotation, typer.Option(help=descriptions[p.name])])
        for p in inspect.signature(flow).parameters.values()
        if p.name not in ("config_path", "preset", "overrides", "run_name")  # --config takes a preset's name, too
    ]
    command.__signature__ = inspect.Signature([*shared, *specific])  # type: ignore[attr-defined] # typer reads it
    command.__annotations__ |= {parameter.name: parameter.annotation for parameter in specific}
    command.__doc__ = (flow.__doc__ or "").split("\n\n")[0]
    typer.run(command)


hide_user_error_tracebacks()
forward_library_logs()
