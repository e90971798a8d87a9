"""`ssl-pipeline cycle …`: the status of a run, and the decision on its selection."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl_pipeline.cli.completion import RUNS, complete_run
from ssl_pipeline.cli.run import load_flow_command
from ssl_pipeline.errors import ReviewError, RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.review import (
    Choice,
    ReviewDecision,
    ReviewRequest,
    latest_request,
    record_decision,
    valid_decision,
)

cycle_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show a run's status, decide on its selection, resume it."
)

_COLORS = {"finished": "green", "begun": "yellow", "to do": "dim"}

RunArgument = Annotated[
    str, typer.Argument(help="A run's directory, or its name under data/runs.", autocompletion=complete_run)
]


@cycle_app.command("status")
def status(run: RunArgument) -> None:
    """Show whether a run works, waits, has ended or was left by a dead process; its stages, and how to resume it."""
    from ssl_pipeline.runs.status import run_status

    directory = find_run(run).root
    status = run_status(directory)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{escape(str(directory))}: {status.state}[/bold]"
        + (f": {escape(status.detail)}" if status.detail else "")
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in ("state", "title"):
        table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="ellipsis")  # the folder, which the title tells, too
    for stage in status.stages:
        state = f"[{_COLORS[stage.state]}]{stage.state}[/]"
        table.add_row(state, escape(stage.title), escape(stage.note), f"[dim]{escape(stage.name)}[/]")
    console.print(table, soft_wrap=False)
    if status.next_step:
        console.print(escape(status.next_step))


@cycle_app.command("resume")
def resume(
    run: RunArgument,
    accept: Annotated[bool, typer.Option("--accept", help="Train the student on the selection as it is.")] = False,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Select again by this confidence threshold, then train.")
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Train no student: the cycle ends.")] = False,
    note: Annotated[str, typer.Option("--note", help="The reason; kept with the decision.")] = "",
) -> None:
    """Decide on the selection that a run waits with; a suspended flow run continues."""
    options: dict[Choice, bool] = {"accept": accept, "threshold": threshold is not None, "reject": reject}
    choices = [choice for choice, is_given in options.items() if is_given]
    if len(choices) != 1:
        given = ", ".join(f"--{choice}" for choice in choices) or "none"
        raise ReviewError(f"give exactly one of --accept, --threshold and --reject; got {given}")
    directory = find_run(run)
    request = latest_request(directory)
    if request is None:
        raise ReviewError(f"{directory.root}: no review was requested; a config with review: wait requests one")
    with directory.lock():
        earlier = valid_decision(directory, request.round_index, request.selection_digest)
        decision = record_decision(
            directory,
            request,
            choices[0],
            confidence_threshold=threshold,
            note=note,
            reviewer=getpass.getuser(),
            channel="command",
        )
    lines = [f"round {request.round_index} of run '{request.run_name}': {decision.description}"]
    if earlier is not None:
        lines.append(f"in place of: {earlier.description}")
    lines.append(_resume_flow_run(directory, request, decision))
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def find_run(run: str) -> RunDir:
    """Find a run by its directory, or by its name under data/runs.

    Raises:
        RunError: if there is none; lists the runs under data/runs.
    """
    for root in (Path(run), RUNS / run):
        if (root / "run.json").is_file():
            return RunDir(root)
    names = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
    runs = f"runs there: {', '.join(names)}" if names else "there is none"
    raise RunError(f"{run}: neither a run's directory nor the name of one under {RUNS}; {runs}")


def _resume_flow_run(run: RunDir, request: ReviewRequest, decision: ReviewDecision) -> str:
    """Resume the flow run that waits, if any, and return what happened.

    Raises:
        ReviewError: if that fails; the decision stays.
    """
    if request.flow_run is None:
        return f"to resume, give the same command again, or: {run.command}"
    try:
        return str(load_flow_command("resume")(request.flow_run, decision))
    except ReviewError as error:
        raise ReviewError(
            f"the decision is kept in {run.review(request.round_index) / 'decision.json'}, but {error}\n"
            "  to try again: give this command again"
        ) from None
