"""`ssl-pipeline cycle …`: where a run stands, and how it goes on."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

cycle_app = typer.Typer(no_args_is_help=True, help="See where a run stands, and have it go on.")

_COLORS = {"finished": "green", "begun": "yellow", "to do": "dim"}


@cycle_app.callback()
def _cycle() -> None:
    """Keep `status` a command of its own, though it is the only one."""


@cycle_app.command("status")
def cycle_status(run: Annotated[Path, typer.Argument(help="A run's folder, as data/runs/demo.")]) -> None:
    """Say whether a run works, waits, has ended or was left by a dead process; what is done, what is next, how to go on."""
    from ssl_pipeline.run_status import run_status

    found = run_status(run)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{escape(str(run))}: {found.state}[/bold]" + (f": {escape(found.words)}" if found.words else "")
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for stage in found.stages:
        table.add_row(f"[{_COLORS[stage.state]}]{stage.state}[/]", stage.name, stage.note)
    console.print(table)
    if found.cure:
        console.print(escape(found.cure))
