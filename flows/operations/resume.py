"""Let the flow run that waits for a decision go on, now that the decision is there.

python -m flows.operations.resume data/runs/demo      `ssl-pipeline cycle resume` calls it; it may be called again
"""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx
import typer
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import WaitingFlowRun as PrefectFlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from ssl_pipeline.errors import PipelineError, ReviewError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.review import ReviewDecision, WaitingFlowRun, decision_on, latest_request

from .review_form import resume_input


def resume(run: RunDir) -> str:
    """Make the flow run that a decision was taken for go on. Returns what happened, in words.

    Raises:
        ReviewError: if nothing waits or is decided, or the server cannot be reached or refuses.
    """
    request = latest_request(run)
    if request is None or request.flow_run is None:
        raise ReviewError(f"{run.root}: no flow run waits for a decision on this run")
    decision = decision_on(run, request.round_index, basis=request.basis)
    if decision is None:
        raise ReviewError(f"{run.root}: round {request.round_index} is not decided yet; see ssl-pipeline cycle resume")
    waiting = request.flow_run
    # A server that only a file names gets no secrets; one that this shell is set up for is asked as it is set up.
    unknown = {} if PREFECT_API_URL.value() else _without_secrets(waiting.api_url)
    try:
        with temporary_settings(updates=unknown), get_client(sync_client=True) as client:
            return _resume(client, waiting, decision)
    except ObjectNotFound:
        raise ReviewError(
            f"flow run '{waiting.name}' ({waiting.id}) is not on the Prefect server that this shell asks; it waits at "
            f"{waiting.api_url}: set PREFECT_API_URL to it"
        ) from None
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise ReviewError(
            f"flow run '{waiting.name}': the Prefect server does not answer as it should: {error}"
        ) from None


def _resume(client: SyncPrefectClient, waiting: WaitingFlowRun, decision: ReviewDecision) -> str:
    flow_run = client.read_flow_run(UUID(waiting.id))
    state = flow_run.state
    if state is None or not (state.is_paused() or state.is_final()):
        return f"flow run '{flow_run.name}' is {state.name if state else 'new'}: it finds the decision by itself"
    answer: OrchestrationResult[Any]
    if state.is_final():  # a threshold that its guards refuse, a crash: the next try finds the decision
        answer = client.set_flow_run_state(flow_run.id, Scheduled(message="Retried: a person has decided"), force=True)
    else:
        answer = client.resume_flow_run(flow_run.id, run_input=_answer(flow_run, decision))
    if answer.status != SetStateStatus.ACCEPT:
        reason = getattr(answer.details, "reason", None) or "no reason given"
        raise ReviewError(f"flow run '{flow_run.name}' ({flow_run.id}) does not resume: {reason}")
    return f"flow run '{flow_run.name}' goes on as soon as a worker takes it"


def _answer(flow_run: PrefectFlowRun, decision: ReviewDecision) -> dict[str, object] | None:
    """The form's answer; a run that was suspended by hand asks for none."""
    return resume_input(decision) if flow_run.state and flow_run.state.state_details.run_input_keyset else None


def _without_secrets(api_url: str) -> dict[object, object]:
    return {PREFECT_API_URL: api_url, PREFECT_API_KEY: None, PREFECT_API_AUTH_STRING: None}


def main(run: Annotated[Path, typer.Argument(help="The run's directory, as data/runs/demo.")]) -> None:
    """Let the flow run that waits for a decision on a run go on."""
    try:
        typer.echo(resume(RunDir(run)))
    except PipelineError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(main)
