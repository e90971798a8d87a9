"""What a person sees of a flow run that did not end well: what is wrong in its own words, how far it came, how to go on."""

from contextlib import suppress
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from ssl_pipeline.errors import PipelineError
from ssl_pipeline.reports.stage_pages import failure_page
from ssl_pipeline.runs.status import run_status

from .artifacts import show
from .naming import run_folder_of

_WAITING = "ReviewPending"


def show_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Leave a page: a hook of a flow for when it fails, crashes or is cancelled."""
    if is_waiting(state):
        return
    folder = run_folder_of(flow_run.parameters or {})
    has_begun = folder is not None and (folder / "run.json").is_file()
    show(
        lambda: [failure_page(in_its_own_words(state), run_status(folder) if folder and has_begun else None)],
        flow_run_id=flow_run.id,
    )


def is_waiting(state: State[Any]) -> bool:
    """Tell whether a flow run ended because a person has to decide: nothing failed."""
    return _WAITING in (state.message or "")


def in_its_own_words(state: State[Any]) -> str:
    """Give what went wrong as the library said it, without what Prefect puts around; else what Prefect knows."""
    with suppress(Exception):  # a state that was reported from outside holds no error
        error: Any = state.result(raise_on_failure=False)
        if isinstance(error, PipelineError):
            return f"{type(error).__name__}: {error}"
    return state.message or state.name or "ended without a word"
