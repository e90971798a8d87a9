"""Run a flow from the command line: one message for a user's mistake, exit code 1 (3: a person has to decide), no traceback."""

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import Flow
from prefect.utilities.callables import parameter_docstrings

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.stages.check import check

from .parameters import as_overrides


class _MessageOnly(logging.Filter):
    """Prefect logs what ends a run with its traceback; a user's mistake is told by its message alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PipelineError):
            record.msg, record.args, record.exc_info = "%s", (str(record.exc_info[1]),), None
        return True


def quiet_tracebacks() -> None:
    """Keep the tracebacks of users' mistakes out of Prefect's logs, here and in a worker's flow process."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.flow_engine", "prefect.task_engine"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _MessageOnly) for known in logger.filters):
            logger.addFilter(_MessageOnly())


def show_library_lines() -> None:
    """Hand the library's log lines to Prefect, too, where it was imported before `flows`, as in a worker's flow process."""
    library = logging.getLogger("ssl_pipeline")
    for handler in logging.getLogger("prefect.extra").handlers:
        if handler not in library.handlers:
            library.addHandler(handler)


def _refuse_bad_config(config: Path, overrides: list[str], run_name: str | None) -> None:
    check(load_config(config, overrides=overrides, run_name=run_name))


def run_from_command_line(
    flow: Flow[..., Any],
    *,
    refuse: Callable[[Path, list[str], str | None], object] = _refuse_bad_config,
    after: Callable[[Any], None] | None = None,
) -> None:
    """Parse the flow's parameters as options, refuse a bad config before Prefect starts, run the flow.

    Every flow takes ``--config``, ``--set`` and ``--run-name``; what else it has becomes an option of its own name. Each
    is described as in the flow's docstring, and so as in the form of its deployment.
    """
    described = {name: " ".join(text.split()) for name, text in parameter_docstrings(inspect.getdoc(flow.fn)).items()}

    def command(
        config: Annotated[Path, typer.Option(help=described["config_path"])],
        overrides: Annotated[
            list[str] | None, typer.Option("--set", help=f"{described['overrides']} May be repeated.")
        ] = None,
        run_name: Annotated[str | None, typer.Option(help=described["run_name"])] = None,
        **more: Any,
    ) -> None:
        try:
            flat = {name: value for name, value in more.items() if name in FLAT}
            refuse(config, as_overrides(overrides, **flat), run_name)
            result = flow(config_path=str(config), overrides=overrides or [], run_name=run_name, **more)
        except PipelineError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command's voice
            raise typer.Exit(error.exit_code) from None
        if after is not None:
            after(result)

    own = [
        p.replace(annotation=Annotated[p.annotation, typer.Option(help=described[p.name])])
        for p in inspect.signature(flow).parameters.values()
        if p.name not in _COMMON
    ]
    common = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*common, *own])  # type: ignore[attr-defined] # typer reads options from it
    command.__annotations__ |= {parameter.name: parameter.annotation for parameter in own}
    command.__doc__ = (flow.__doc__ or "").split("\n\n")[0]
    typer.run(command)


_COMMON = ("config_path", "overrides", "run_name")
FLAT = ("seed", "rounds", "review", "device")
"""Parameters of flows that stand for the config's key of the same name."""


quiet_tracebacks()
show_library_lines()
