"""What a cycle tells the world when it has ended, and the automations that wait for it, without any server."""

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
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **about: told.append({"event": event, **about}))
    return told


def summary() -> dict[str, Any]:
    return {
        "run_name": "mine",
        "status": "finished",
        "promoted": "teacher",
        "promoted_checkpoint": "t/best.safetensors",
        "teacher": {},
        "student": None,
        "counts": {"candidates": 9, "accepted": 0, "rejected": 9, "unreadable": 0},
        "seconds": {"teacher": 1.25, "labeling": 2.5},
        "manifest": "manifest.parquet",
    }


def test_a_finished_cycle_tells_who_was_promoted_what_was_accepted_and_how_long_it_took(
    emitted: list[dict[str, Any]],
) -> None:
    events.announce_finished(summary())
    (told,) = emitted
    assert (told["event"], told["resource"]["prefect.resource.id"]) == (events.FINISHED, "ssl-pipeline.run.mine")
    assert told["payload"]["counts"] == {"candidates": 9, "accepted": 0, "rejected": 9, "unreadable": 0}
    assert (told["payload"]["promoted"], told["payload"]["seconds"]) == ("teacher", 3.8)
    assert told["payload"]["verdict"].startswith("There is no student")
    events.announce_finished(summary() | {"teacher": {"test": SCORES}})
    assert emitted[1]["payload"]["teacher_test"] == {"macro_f1": 0.5, "accuracy": 0.6}


def test_an_event_that_cannot_be_told_costs_the_run_a_warning(
    emitted: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        events.announce_finished({"run_name": "mine"})
    assert not emitted
    assert "not shown in Prefect: KeyError" in caplog.text


@pytest.mark.parametrize("path", sorted(AUTOMATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_automation_is_one_that_prefect_takes(path: Path) -> None:
    automation = AutomationCore.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert isinstance(automation.trigger, EventTrigger)
    assert automation.actions


def test_the_automation_for_ended_cycles_waits_for_the_events_that_cycles_emit() -> None:
    content = yaml.safe_load((AUTOMATIONS / "cycle_ended.yaml").read_text(encoding="utf-8"))
    assert set(content["trigger"]["expect"]) == {events.FINISHED, events.FAILED}
    pattern = content["trigger"]["match"]["prefect.resource.id"]
    assert events._resource("mine")["prefect.resource.id"].startswith(pattern.removesuffix("*"))
