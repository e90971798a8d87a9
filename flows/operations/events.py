"""What a cycle tells the world: an event when it has ended, well or not, so that an automation can notify somebody."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from ssl_pipeline.reports.comparison import verdict

from .artifacts import decoration
from .failure import in_its_own_words, is_waiting
from .naming import run_name_of

FINISHED, FAILED = "ssl-pipeline.cycle.finished", "ssl-pipeline.cycle.failed"


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
    """Emit `FAILED` with the error's words: a hook of the flow for when it fails, crashes or is cancelled."""
    if is_waiting(state):
        return
    name = run_name_of(flow_run.parameters or {})
    words = in_its_own_words(state)
    payload = {"run_name": name, "state": state.name, "error": words, "flow_run": str(flow_run.id)}
    with decoration():
        emit_event(FAILED, resource=_resource(name), payload=payload)


def _scores(scores: dict[str, Any] | None) -> dict[str, float] | None:
    return None if scores is None else {name: scores[name] for name in ("macro_f1", "accuracy")}


def _resource(run_name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"ssl-pipeline.run.{run_name}", "prefect.resource.name": run_name}
