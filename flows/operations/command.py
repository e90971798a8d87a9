"""Run a flow from a shell: options from its parameters, one message per user error, exit code 1 (3: review pending)."""

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from prefect import Flow
from prefect.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY, PREFECT_API_URL
from prefect.utilities.callables import parameter_docstrings

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.stages.check import check

from .parameters import CONFIG_KEYS, as_overrides


class _OneMessage(logging.Filter):
    """Let one of Prefect's four records of a user error through, its message without traceback; none if `is_printed`."""

    is_printed = False
    """Whether a command prints the message itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PipelineError):
            record.msg, record.args, record.exc_info = "%s", (str(record.exc_info[1]),), None
            return record.name.startswith("prefect.flow") and not _OneMessage.is_printed
        message = record.getMessage()  # the same error, once more, as the state's
        names = [kind.__name__ for kind in PipelineError.__subclasses__()]
        return not (_FAILED.match(message) and any(f"{name}: " in message for name in names))


_FAILED = re.compile(r"Finished in state Failed\(")


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
    check_server()
    _OneMessage.is_printed = True
    try:
        result = flow(config_path=str(config), overrides=overrides or [], run_name=run_name, **parameters)
    except httpx.TransportError as error:
        raise _no_server(f"{type(error).__name__}: {error}") from None
    finally:
        _OneMessage.is_printed = False
    if report is not None:
        report(result)


def check_server() -> None:
    """Check that a Prefect server answers at PREFECT_API_URL, if it is set.

    Raises:
        PipelineError: naming the variable and the cure.
    """
    url = PREFECT_API_URL.value()
    if not url:
        return
    try:
        status = httpx.get(
            f"{url.rstrip('/')}/health", timeout=20, verify=not PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value()
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _no_server(f"{type(error).__name__}: {error}") from None
    if status == httpx.codes.NOT_FOUND or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _no_server(f"status {status}")


def _no_server(reason: str) -> PipelineError:
    cure = "unset PREFECT_API_URL" if "PREFECT_API_URL" in os.environ else "prefect config unset PREFECT_API_URL"
    return PipelineError(
        f"PREFECT_API_URL={PREFECT_API_URL.value()}: no Prefect server answers there ({reason}); start it, or run without "
        f"one: {cure}"
    )


def print_training(model: dict[str, Any]) -> None:
    """Print a trained model's metric, epochs and checkpoint."""
    epochs = f"the best of {model['num_epochs']} epochs is {model['best_epoch'] + 1}"
    if members := model.get("members"):
        parts = (f"{name} {scores['macro_f1']:.3f}" for name, scores in members.items() if name != "vote")
        epochs = f"alone: {', '.join(parts)}"
    typer.echo(f"{model['monitor']} {model['best_metric']:.3f} on the validation faces; {epochs}")
    typer.echo(f"Checkpoint: {model['checkpoint']}")


def run_from_command_line(flow: Flow[..., Any], **settings: Any) -> None:
    """Parse the flow's parameters as options and run it.

    Every flow has ``--config``, ``--set`` and ``--run-name``; any other parameter is an option of the same name. The
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
        if p.name not in ("config_path", "overrides", "run_name")
    ]
    command.__signature__ = inspect.Signature([*shared, *specific])  # type: ignore[attr-defined] # typer reads it
    command.__annotations__ |= {parameter.name: parameter.annotation for parameter in specific}
    command.__doc__ = (flow.__doc__ or "").split("\n\n")[0]
    typer.run(command)


hide_user_error_tracebacks()
forward_library_logs()
