"""The page of a flow run that failed, crashed or was cancelled: the error, the finished stages, how to resume."""

from contextlib import suppress
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from ssl_pipeline.errors import PipelineError, ReviewPending
from ssl_pipeline.reports.stage_pages import Page, failure_page
from ssl_pipeline.runs.status import run_status

from .artifacts import show
from .naming import run_folder


def show_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Publish the page; a hook for failed, crashed and cancelled flow runs."""
    if is_review_pending(state):
        return

    def make_pages() -> list[Page]:
        folder = run_folder(flow_run.parameters or {})
        status = run_status(folder) if folder is not None and (folder / "run.json").is_file() else None
        return [failure_page(error_message(state), status)]

    show(make_pages, flow_run_id=flow_run.id)


def is_review_pending(state: State[Any]) -> bool:
    """Return whether a flow run ended because a person has to decide, which is no failure."""
    return ReviewPending.__name__ in (state.message or "")


def error_message(state: State[Any]) -> str:
    """Return the library's own message if there is one, else Prefect's."""
    error = error_of(state)
    if isinstance(error, PipelineError):
        return f"{type(error).__name__}: {error}"
    return state.message or state.name or "ended without a message"


def error_of(state: State[Any]) -> BaseException | None:
    """Return the error that ended a flow run or a task run; None for a state that a worker reported."""
    with suppress(Exception):
        error: Any = state.result(raise_on_failure=False)
        if isinstance(error, BaseException):
            return error
    return None
