"""The human gate: between a round's selection and its student a person decides, and nothing runs meanwhile.

A run of a deployment is suspended: its process ends and no slot is held until the form is answered, in the UI or by
`ssl-pipeline cycle resume`; then the flow starts from the top and its finished stages skip themselves. Any other run
asks on the terminal, or ends and goes on when the same command is given after a decision.
"""

import sys
from itertools import count

from prefect import suspend_flow_run
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings
from pydantic import ValidationError
from rich.console import Console

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ReviewError, ReviewPending, SelectionError
from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.review import (
    ReviewDecision,
    ReviewRequest,
    WaitingFlowRun,
    take_decision,
    withdraw_decision,
    write_decision,
)
from ssl_pipeline.stages.review import ask_on_terminal, decision_so_far, read_page, waiting_message

from .. import tasks
from .artifacts import show
from .review_form import CHOICES, ReviewForm


def decide(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision | None:
    """Let a person decide on a round's selection, if the config says so.

    Returns:
        The decision, None if the config wants none. With a threshold, the selection was made again by it.

    Raises:
        ReviewPending: if nobody can be asked now.
    """
    if config.review == "none":
        return None
    return decision_so_far(config, run, round_index) or _decide(config, run, round_index)


def _decide(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision:
    """Ask, and ask again in words for as long as the answer cannot be used; select by it."""
    flow_run = _resumable_flow_run()
    request = tasks.ask_review(config, run, round_index, flow_run)
    page = read_page(run, request)
    show(lambda: [Page(f"review-round-{round_index}", "What a person is to decide on", page)])
    for attempt in count(1):
        try:
            decision = _ask(run, request, page, attempt)
            write_decision(run, round_index, decision)
            tasks.select(config, run, round_index)
            return decision
        except (ReviewError, SelectionError) as error:  # a threshold that is none, or that the guards refuse
            get_run_logger().warning("asked again: %s", error)
            withdraw_decision(run, round_index)
            tasks.select(config, run, round_index)
            page = f"**Please decide again.** {error}\n\n{read_page(run, request)}"
    raise AssertionError("count never ends")


def _ask(run: RunDir, request: ReviewRequest, page: str, attempt: int) -> ReviewDecision:
    if request.flow_run is not None:
        return _ask_by_form(request, request.flow_run, page, attempt)
    if sys.stdin.isatty():
        return ask_on_terminal(run, request, page, Console())
    raise ReviewPending(waiting_message(run, request))


def _ask_by_form(request: ReviewRequest, flow_run: WaitingFlowRun, page: str, attempt: int) -> ReviewDecision:
    """Suspend the flow run until its form is answered.

    Each question has a key of its own, made from what is asked: a flow that starts again from the top comes by the
    same questions, and is given the answers that were given.
    """
    form = ReviewForm.with_initial_data(description=page)
    key = f"review-round-{request.round_index}-{request.manifest_digest[:12]}-{attempt}"
    try:
        answer = suspend_flow_run(wait_for_input=form, key=key)
    except ValidationError:  # resumed past the form, by setting the run's state
        raise ReviewError("the run was resumed without an answer") from None
    return take_decision(
        request,
        CHOICES[answer.decision],
        confidence_threshold=answer.threshold,
        note=answer.note,
        by=f"the form of flow run '{flow_run.name}'",
        way="form",
    )


def _resumable_flow_run() -> WaitingFlowRun | None:
    """This flow run, if a worker would start it again."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return None
    url = get_current_settings().api.url or ""
    return WaitingFlowRun(id=str(context.flow_run.id), name=context.flow_run.name, api_url=url)
