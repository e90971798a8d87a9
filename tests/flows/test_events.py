"""The events at the end of a cycle and the automations that wait for them, without a server."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from flows.operations import events

AUTOMATIONS = Path(__file__).parents[2] / "deploy/automations"
SCORES = {"macro_f1": 0.5, "accuracy": 0.6, "per_class": {}}


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **fields: emitted.append({"event": event, **fields}))
    return emitted


def summary() -> dict[str, Any]:
    return {
        "run_name": "mine",
        "status": "finished",
        "promoted": "teacher",
        "promoted_checkpoint": "t/best.safetensors",
        "teacher": {"validation": {"num_faces": 40, "per_attribute": {"age": {"accuracy": 0.75}}}},
        "student": None,
        "counts": {"candidates": 9, "accepted": 0, "rejected": 9, "unreadable": 0},
        "seconds": {"teacher": 1.25, "labeling": 2.5},
        "manifest": "manifest.parquet",
    }


def test_a_finished_cycle_reports_the_promoted_model_the_counts_and_the_duration(
    emitted: list[dict[str, Any]],
) -> None:
    events.announce_finished(summary())
    (event,) = emitted
    assert (event["event"], event["resource"]["prefect.resource.id"]) == (events.FINISHED, "ssl-pipeline.run.mine")
    assert event["payload"]["counts"] == {"candidates": 9, "accepted": 0, "rejected": 9, "unreadable": 0}
    assert (event["payload"]["promoted"], event["payload"]["seconds"]) == ("teacher", 3.8)
    assert event["payload"]["verdict"].startswith("There is no student")
    events.announce_finished(summary() | {"teacher": summary()["teacher"] | {"test": SCORES}})
    assert emitted[1]["payload"]["teacher_test"] == {"macro_f1": 0.5, "accuracy": 0.6}


def test_an_event_that_cannot_be_emitted_is_a_warning(
    emitted: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        events.announce_finished({"run_name": "mine"})
    assert not emitted
    assert "not shown in Prefect: KeyError" in caplog.text


@pytest.mark.parametrize("path", sorted(AUTOMATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_prefect_accepts_each_automation(path: Path) -> None:
    automation = AutomationCore.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert isinstance(automation.trigger, EventTrigger)
    assert automation.actions


def test_the_automation_for_ended_cycles_waits_for_the_events_that_cycles_emit() -> None:
    content = yaml.safe_load((AUTOMATIONS / "cycle_ended.yaml").read_text(encoding="utf-8"))
    assert set(content["trigger"]["expect"]) == {events.FINISHED, events.FAILED}
    pattern = content["trigger"]["match"]["prefect.resource.id"]
    assert events._resource("mine")["prefect.resource.id"].startswith(pattern.removesuffix("*"))
