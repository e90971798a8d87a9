"""`ssl-pipeline cycle …`: where a run stands, what it asks, and how it goes on."""

import getpass
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl_pipeline.errors import ReviewError, RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.review import (
    Choice,
    ReviewRequest,
    check_unchanged,
    decision_on,
    latest_request,
    take_decision,
    write_decision,
)

cycle_app = typer.Typer(no_args_is_help=True, help="See where a run stands, decide on what it asks, and let it go on.")

RUNS = Path("data/runs")
CHECKOUT = Path(__file__).parents[1]
_COLORS = {"finished": "green", "begun": "yellow", "to do": "dim"}


@cycle_app.command("status")
def status(
    run: Annotated[str, typer.Argument(help="A run's directory, or its name under data/runs.")],
) -> None:
    """Say whether a run works, waits, has ended or was left by a dead process; what is done, what is next, how to go on."""
    from ssl_pipeline.runs.status import run_status

    directory = find_run(run).root
    found = run_status(directory)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{escape(str(directory))}: {found.state}[/bold]" + (f": {escape(found.detail)}" if found.detail else "")
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for stage in found.stages:
        table.add_row(f"[{_COLORS[stage.state]}]{stage.state}[/]", stage.name, stage.note)
    console.print(table)
    if found.next_step:
        console.print(escape(found.next_step))


@cycle_app.command("resume")
def resume(
    run: Annotated[str, typer.Argument(help="A run's directory, or its name under data/runs.")],
    accept: Annotated[bool, typer.Option("--accept", help="Train the student on the selection as it is.")] = False,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Select again by this confidence threshold, then train.")
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Train no student: the cycle ends.")] = False,
    note: Annotated[str, typer.Option("--note", help="Why; kept with the decision.")] = "",
) -> None:
    """Decide on the selection that a run waits with; a flow run that is suspended goes on."""
    given = [
        name for name, on in (("--accept", accept), ("--threshold", threshold is not None), ("--reject", reject)) if on
    ]
    if len(given) != 1:
        raise ReviewError(f"give exactly one of --accept, --threshold and --reject; got {', '.join(given) or 'none'}")
    choice: Choice = "accept" if accept else "reject" if reject else "threshold"
    directory = find_run(run)
    request = latest_request(directory)
    if request is None:
        raise ReviewError(f"{directory.root}: nobody was asked about this run; a config with review: wait asks")
    with directory.lock():
        check_unchanged(directory, request)
        earlier = decision_on(directory, request.round_index, basis=request.basis)
        decision = take_decision(
            request, choice, confidence_threshold=threshold, note=note, by=getpass.getuser(), way="command"
        )
        write_decision(directory, request.round_index, decision)
    lines = [f"round {request.round_index} of run '{request.run_name}': {decision.words}"]
    if earlier is not None:
        lines.append(f"in place of: {earlier.words}")
    lines.append(_go_on(directory, request))
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def find_run(run: str) -> RunDir:
    """Find a run by its directory, or by its name under data/runs.

    Raises:
        RunError: if there is none; names those that are there.
    """
    for root in (Path(run), RUNS / run):
        if (root / "run.json").is_file():
            return RunDir(root)
    names = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
    there = f"runs there: {', '.join(names)}" if names else "there is none"
    raise RunError(f"{run}: neither a run's directory nor the name of one under {RUNS}; {there}")


def _go_on(run: RunDir, request: ReviewRequest) -> str:
    """Resume the flow run that waits, in a process of its own: the library knows nothing of Prefect.

    Raises:
        ReviewError: if that fails; the decision stands.
    """
    if request.flow_run is None:
        return f"to go on, give the same command again, or: {run.command}"
    command = [sys.executable, "-m", "flows.operations.resume", str(run.root.resolve())]
    done = subprocess.run(command, cwd=CHECKOUT, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    told = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ReviewError: ")
    raise ReviewError(
        f"decided, and kept in {run.review(request.round_index) / 'decision.json'}; but {told}\n"
        f"  then let it go on by: python -m flows.operations.resume {run.root}"
    )
