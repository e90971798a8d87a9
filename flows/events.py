"""What a cycle tells when it has ended, well or not: an event, so that an automation can notify somebody.

One that did not end well leaves a page, too: what is wrong in its own words, how far it came, how to go on.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from flows.naming import run_folder_of, run_name_of
from flows.showing import decoration, show
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.reports.comparison import verdict
from ssl_pipeline.reports.stage_pages import failure_page
from ssl_pipeline.run_status import RunStatus, run_status

FINISHED, FAILED = "ssl-pipeline.cycle.finished", "ssl-pipeline.cycle.failed"
_WAITING = "ReviewPending"


def announce_finished(summary: dict[str, Any]) -> None:
    """Emit `FINISHED`: who was promoted, by which scores, what was accepted, in how many seconds."""
    with decoration():
        emit_event(FINISHED, resource=_resource(summary["run_name"]), payload=_told(summary))


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    student = summary["student"]
    return {
        "run_name": summary["run_name"],
        "status": summary["status"],
        "promoted": summary["promoted"],
        "promoted_checkpoint": summary["promoted_checkpoint"],
        "teacher_test": _scores(summary["teacher"].get("test")),
        "student_test": None if student is None else _scores(student["test"]),
        "counts": summary["counts"],
        "seconds": round(sum(summary["seconds"].values()), 1),
        "verdict": verdict(summary),
        "manifest": summary["manifest"],
    }


def announce_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Emit `FAILED` and leave a page, in the error's words: a hook of the flow for when it fails, crashes or is cancelled."""
    if _WAITING in (state.message or ""):
        return  # a person is asked; nothing failed
    parameters = flow_run.parameters or {}
    name, words = run_name_of(parameters), _in_its_own_words(state)
    payload = {"run_name": name, "state": state.name, "error": words, "flow_run": str(flow_run.id)}
    with decoration():
        emit_event(FAILED, resource=_resource(name), payload=payload)
    show(lambda: [failure_page(words, _status(parameters))], flow_run_id=flow_run.id)


def _in_its_own_words(state: State[Any]) -> str:
    """Give what went wrong as the library said it, without what Prefect puts around; else what Prefect knows."""
    with suppress(Exception):  # a state that was reported from outside holds no error
        error: Any = state.result(raise_on_failure=False)
        if isinstance(error, PipelineError):
            return f"{type(error).__name__}: {error}"
    return state.message or state.name or "ended without a word"


def _status(parameters: Mapping[str, Any]) -> RunStatus | None:
    folder = run_folder_of(parameters)
    return run_status(folder) if folder is not None and (folder / "run.json").is_file() else None


def _scores(scores: dict[str, Any] | None) -> dict[str, float] | None:
    return None if scores is None else {name: scores[name] for name in ("macro_f1", "accuracy")}


def _resource(run_name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"ssl-pipeline.run.{run_name}", "prefect.resource.name": run_name}
