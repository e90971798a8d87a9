"""Prefect events at the end of a cycle, for automations, e.g. a notification."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from ssl_pipeline.reports.comparison import verdict

from .artifacts import warn_on_error
from .failure import error_message, is_review_pending
from .naming import run_name

FINISHED, FAILED = "ssl-pipeline.cycle.finished", "ssl-pipeline.cycle.failed"


def announce_finished(summary: dict[str, Any]) -> None:
    """Emit `FINISHED` with the promoted model, test scores, counts and duration."""
    with warn_on_error():
        emit_event(FINISHED, resource=_resource(summary["run_name"]), payload=_finished_payload(summary))


def _finished_payload(summary: dict[str, Any]) -> dict[str, Any]:
    student = summary["student"]
    return {
        **{
            key: summary[key] for key in ("run_name", "status", "promoted", "promoted_checkpoint", "counts", "manifest")
        },
        "teacher_test": _scores(summary["teacher"].get("test")),
        "student_test": None if student is None else _scores(student["test"]),
        "seconds": round(sum(summary["seconds"].values()), 1),
        "verdict": verdict(summary),
    }


def announce_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Emit `FAILED` with the error message; a hook for failed, crashed and cancelled flow runs."""
    if is_review_pending(state):
        return
    name = run_name(flow_run.parameters or {})
    payload = {"run_name": name, "state": state.name, "error": error_message(state), "flow_run": str(flow_run.id)}
    with warn_on_error():
        emit_event(FAILED, resource=_resource(name), payload=payload)


def _scores(scores: dict[str, Any] | None) -> dict[str, float] | None:
    return None if scores is None else {name: scores[name] for name in ("macro_f1", "accuracy")}


def _resource(run_name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"ssl-pipeline.run.{run_name}", "prefect.resource.name": run_name}
