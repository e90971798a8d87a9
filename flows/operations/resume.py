"""Resume the flow run that waits for a review decision; `ssl-pipeline cycle resume` calls this as an entry point."""

from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from ssl_pipeline.errors import ReviewError
from ssl_pipeline.runs.review import ReviewDecision, WaitingFlowRun

from .review_form import form_input


def resume(waiting: WaitingFlowRun, decision: ReviewDecision) -> str:
    """Resume a flow run on the server of this shell's settings, else on the server that it waits on.

    Returns:
        What happened, as a sentence.

    Raises:
        ReviewError: if the server is unreachable, lacks the flow run or refuses.
    """
    # a URL from a file in the run directory gets no credentials
    other_server: dict[Any, Any] = {
        PREFECT_API_URL: waiting.api_url,
        PREFECT_API_KEY: None,
        PREFECT_API_AUTH_STRING: None,
    }
    settings = {} if PREFECT_API_URL.value() else other_server
    try:
        with temporary_settings(updates=settings), get_client(sync_client=True) as client:
            return _resume(client, waiting, decision)
    except ObjectNotFound:
        raise ReviewError(
            f"flow run '{waiting.name}' ({waiting.id}) is not on the Prefect server of this shell; it waits at "
            f"{waiting.api_url}: set PREFECT_API_URL to it"
        ) from None
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise ReviewError(
            f"flow run '{waiting.name}': the Prefect server does not answer as expected: {error}"
        ) from None


def _resume(client: SyncPrefectClient, waiting: WaitingFlowRun, decision: ReviewDecision) -> str:
    flow_run = client.read_flow_run(UUID(waiting.id))
    state = flow_run.state
    if state is None or not (state.is_paused() or state.is_final()):
        return f"flow run '{flow_run.name}' is {state.name if state else 'new'}: it reads the decision itself"
    result: OrchestrationResult[Any]
    if state.is_final():  # e.g. failed since its guards refuse a threshold: a new attempt reads the decision
        result = client.set_flow_run_state(flow_run.id, Scheduled(message="Retried after a decision"), force=True)
    else:
        needs_input = state.state_details.run_input_keyset is not None  # not if a person suspended it by hand
        result = client.resume_flow_run(flow_run.id, run_input=form_input(decision) if needs_input else None)
    if result.status != SetStateStatus.ACCEPT:
        reason = getattr(result.details, "reason", None) or "no reason given"
        raise ReviewError(f"flow run '{flow_run.name}' ({flow_run.id}) does not resume: {reason}")
    return f"flow run '{flow_run.name}' continues as soon as a worker takes it"
