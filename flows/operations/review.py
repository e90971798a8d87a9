"""The human gate between a round's selection and its student.

A deployment's flow run is suspended: its process ends and no slot is held until a person answers the form in the UI or
runs `ssl-pipeline cycle resume`. Then the flow starts from the top, and finished stages skip themselves. Any other run
asks on the terminal; without a terminal it ends, and the same command continues it after a decision.
"""

import sys
from itertools import count

from prefect import suspend_flow_run
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings
from pydantic import ValidationError
from rich.console import Console

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ReviewError, ReviewPending, SelectionError
from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.review import ReviewDecision, ReviewRequest, WaitingFlowRun, record_decision, withdraw_decision
from ssl_pipeline.stages.review import ask_on_terminal, current_decision, read_page, waiting_message

from .. import tasks
from .artifacts import show
from .naming import deployed_flow_run
from .review_form import ReviewForm


def review_selection(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision | None:
    """Return a person's decision on a round's selection, after selecting again if the threshold was changed.

    Returns:
        The decision; None if the config wants no review.

    Raises:
        ReviewPending: if there is neither a deployment nor a terminal to ask by.
    """
    if config.review == "none":
        return None
    if (decision := current_decision(config, run, round_index)) is not None:
        return decision
    request = tasks.ask_review(config, run, round_index, _resumable_flow_run())
    page = read_page(run, request)
    show(lambda: [Page(f"review-round-{round_index}", "The selection to decide on", page)])
    for attempt in count(1):
        try:
            decision = _ask(run, request, page, attempt)
            tasks.select(config, run, round_index)
            return decision
        except (ReviewError, SelectionError) as error:  # an unusable threshold, or one that the guards refuse
            get_run_logger().warning("asking again: %s", error)
            withdraw_decision(run, round_index)
            tasks.select(config, run, round_index)
            page = f"**Please decide again.** {error}\n\n{read_page(run, request)}"
    raise AssertionError("unreachable: count never ends")


def _ask(run: RunDir, request: ReviewRequest, page: str, attempt: int) -> ReviewDecision:
    if request.flow_run is not None:
        answer = _suspend(request, page, attempt)
        return record_decision(
            run,
            request,
            answer.decision,
            confidence_threshold=answer.threshold,
            note=answer.note,
            reviewer=f"the form of flow run '{request.flow_run.name}'",
            channel="form",
        )
    if sys.stdin.isatty():
        return ask_on_terminal(run, request, page, Console())
    raise ReviewPending(waiting_message(run, request))


def _suspend(request: ReviewRequest, page: str, attempt: int) -> ReviewForm:
    """Suspend the flow run until its form is answered.

    The key depends on the manifest and the attempt: a flow that starts from the top gets the answer of each earlier
    attempt back.
    """
    key = f"review-round-{request.round_index}-{request.manifest_digest[:12]}-{attempt}"
    try:
        return suspend_flow_run(wait_for_input=ReviewForm.with_initial_data(description=page), key=key)
    except ValidationError:  # resumed by setting the state, without the form
        raise ReviewError("the run was resumed without an answer") from None


def _resumable_flow_run() -> WaitingFlowRun | None:
    """Return this flow run if it belongs to a deployment, so that a worker can start it again."""
    flow_run = deployed_flow_run()
    if flow_run is None:
        return None
    return WaitingFlowRun(id=str(flow_run.id), name=flow_run.name, api_url=get_current_settings().api.url or "")
