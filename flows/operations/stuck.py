"""Find flow runs that are Running on the server although their process is dead.

    python -m ssl_pipeline_flows.operations.stuck            # list them, with the reason and how to resume each
    python -m ssl_pipeline_flows.operations.stuck --mark     # also set them to Crashed (if being cancelled, to Cancelled)

A process that is killed together with its worker cannot report its state. The server knows a process by its number, not
its host, so this command reads the note beside the lock of the run's folder instead: call it on the worker's host, in
the worker's working directory. Flow runs without such a note, e.g. of build-masked-faces, are left alone.
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

from .naming import run_folder

_PAGE_SIZE = 200


@dataclass(frozen=True)
class Diagnosis:
    """Whether the process of a flow run is dead."""

    is_dead: bool | None
    """None if unknown on this host."""
    reason: str


def diagnose(flow_run: FlowRun) -> Diagnosis:
    """Return whether the process of a flow run is dead."""
    # flow runs without a config path belong to other projects on the server
    folder = run_folder(flow_run.parameters) if "config_path" in flow_run.parameters else None
    holder = last_holder(RunDir(folder).lock_file) if folder is not None else None
    if (
        holder is None
        or holder.flow_run != str(flow_run.id)
        or not holder.is_here
        or datetime.fromisoformat(holder.since) < _attempt_start(flow_run)
    ):
        return Diagnosis(
            None, "none of its processes is noted as the last one that worked in a run on this host; check its own host"
        )
    if is_alive(holder.pid):
        return Diagnosis(False, f"its {holder} is alive")
    return Diagnosis(True, f"{holder} took {folder} {holder.since} and is dead")


def _attempt_start(flow_run: FlowRun) -> datetime:
    """Return the start of the last attempt, to the second."""
    is_running = flow_run.state is not None and flow_run.state.type is StateType.RUNNING
    start = flow_run.state.timestamp if is_running and flow_run.state else flow_run.start_time or flow_run.created
    return (start or datetime.now(UTC)).replace(microsecond=0)


def unfinished_flow_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Return all flow runs that are Running or Cancelling on the server, oldest first."""
    types = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    criteria = FlowRunFilter(state=FlowRunFilterState(type=types))
    flow_runs: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=criteria, sort=FlowRunSort.START_TIME_ASC, limit=_PAGE_SIZE, offset=len(flow_runs)
    ):
        flow_runs += page
    return flow_runs


def mark_dead(client: SyncPrefectClient, flow_run: FlowRun, diagnosis: Diagnosis) -> str:
    """Set a dead flow run to Crashed, or to Cancelled if it was being cancelled; return the state's name."""
    message = f"Found dead by ssl_pipeline_flows.operations.stuck: {diagnosis.reason}."
    is_cancelling = flow_run.state is not None and flow_run.state.type is StateType.CANCELLING
    state: Any = Cancelled(message=message) if is_cancelling else Crashed(message=message)
    client.set_flow_run_state(flow_run.id, state, force=True)
    return str(state.name)


def main(
    mark: Annotated[bool, typer.Option("--mark", help="Set the dead ones to Crashed or Cancelled.")] = False,
) -> None:
    """List flow runs whose process is dead, and how to resume each; exit code 3 if there are any and they stay."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    num_dead = 0
    with get_client(sync_client=True) as client:
        flow_runs = unfinished_flow_runs(client)
        for flow_run in flow_runs:
            diagnosis = diagnose(flow_run)
            status = {True: "dead", False: "alive", None: "unknown"}[diagnosis.is_dead]
            console.print(f"{flow_run.name} ({flow_run.id}), {flow_run.state_name}: {status}: {diagnosis.reason}")
            if not diagnosis.is_dead:
                continue
            num_dead += 1
            if mark:
                console.print(f"  set to {mark_dead(client, flow_run, diagnosis)}")
            is_deployed = flow_run.deployment_id is not None
            command = f"prefect flow-run retry {flow_run.id}" if is_deployed else "start the same command again"
            console.print(f"  to resume: {command}")
    hint = "; --mark sets them to Crashed" if num_dead and not mark else ""
    console.print(f"{len(flow_runs)} Running or Cancelling, {num_dead} dead{hint}")
    raise typer.Exit(3 if num_dead and not mark else 0)


if __name__ == "__main__":
    typer.run(main)
