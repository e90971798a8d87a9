"""Find the flow runs that the server takes for running and that no process runs, and say how each goes on.

    python -m flows.operations.stuck            # say which, and why
    python -m flows.operations.stuck --mark     # and set them to Crashed (those being cancelled: to Cancelled), to be retried

A process that is killed together with its worker cannot tell the server. Whether it lives is told by the note beside the
lock of its run's folder: run this from the checkout that the worker runs, on its host. (The server knows the process by
its number alone, not by its host.) What cannot be told is left alone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed
from rich.console import Console

from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.lock import is_alive, last_holder

from .naming import run_folder_of

_PAGE = 200


@dataclass(frozen=True)
class Finding:
    """What is known of a flow run that the server takes for running."""

    is_dead: bool | None
    """None where that cannot be told from here."""
    why: str


def judge(flow_run: FlowRun) -> Finding:
    """Tell whether the process of a flow run lives."""
    # what names no config is no flow of ours: another project's, on the same server
    root = run_folder_of(flow_run.parameters) if "config_path" in flow_run.parameters else None
    holder = last_holder(RunDir(root).lock_file) if root is not None else None
    if holder is None or not holder.is_here or datetime.fromisoformat(holder.since) < _started(flow_run):
        return Finding(None, "nobody here has opened its folder since it began: ask where it ran")
    if is_alive(holder.pid):
        return Finding(False, f"its {holder} lives")
    return Finding(True, f"{holder} took {root} {holder.since} and is dead")


def _started(flow_run: FlowRun) -> datetime:
    """When the last attempt began, to the second."""
    running = flow_run.state is not None and flow_run.state.type is StateType.RUNNING
    began = flow_run.state.timestamp if running and flow_run.state else flow_run.start_time or flow_run.created
    return (began or datetime.now(UTC)).replace(microsecond=0)


def find(client: SyncPrefectClient) -> list[tuple[FlowRun, Finding]]:
    """Judge every flow run that the server takes for running, or for being cancelled; oldest first."""
    types = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    wanted = FlowRunFilter(state=FlowRunFilterState(type=types))
    found: list[FlowRun] = []
    while len(
        page := client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=_PAGE, offset=len(found)
        )
    ):
        found += page
    return [(flow_run, judge(flow_run)) for flow_run in found]


def mark(client: SyncPrefectClient, flow_run: FlowRun, finding: Finding) -> str:
    """Set a dead flow run to the state that it did not live to report; give that state's name."""
    message = f"Found dead by flows.operations.stuck: {finding.why}."
    cancelling = flow_run.state is not None and flow_run.state.type is StateType.CANCELLING
    state: Any = Cancelled(message=message) if cancelling else Crashed(message=message)
    client.set_flow_run_state(flow_run.id, state, force=True)
    return str(state.name)


def main(
    set_state: Annotated[bool, typer.Option("--mark", help="Set the dead ones to Crashed or Cancelled.")] = False,
) -> None:
    """Say which flow runs are left as running by dead processes, and how each goes on; exit code 3 if there are any."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    num_dead = 0
    with get_client(sync_client=True) as client:
        found = find(client)
        for flow_run, finding in found:
            verdict = {True: "dead", False: "alive", None: "cannot tell"}[finding.is_dead]
            state = flow_run.state_name
            console.print(f"{flow_run.name} ({flow_run.id}), {state}: {verdict}: {finding.why}")
            if not finding.is_dead:
                continue
            num_dead += 1
            if set_state:
                console.print(f"  set to {mark(client, flow_run, finding)}")
            if flow_run.deployment_id is not None:
                console.print(f"  go on: prefect flow-run retry {flow_run.id}")
            else:
                console.print("  go on: start the same command again")
    console.print(
        f"{len(found)} taken for running, {num_dead} dead" + ("" if set_state or not num_dead else "; --mark")
    )
    raise typer.Exit(3 if num_dead and not set_state else 0)


if __name__ == "__main__":
    typer.run(main)
