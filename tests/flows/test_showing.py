"""Bars, names and announcements decorate a run: whatever becomes of the server, the work goes on."""

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from flows import events, naming, showing
from ssl_pipeline.watching import tell
from tests.cycle_config import write_tiny_config


class Server:
    """Stands for Prefect's artifacts: what bars it shows, and whether it answers."""

    def __init__(self) -> None:
        self.bars: dict[Any, float] = {}
        self.keys: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.was_asked = threading.Event()
        self.is_broken = False

    def create(self, percent: float, *, key: str, description: str) -> str:
        self.was_asked.set()
        self.answers.wait()
        if self.is_broken:
            raise ConnectionError("gone")
        self.keys.append(key)
        self.bars[description] = percent
        return description

    def update(self, artifact: str, *, progress: float) -> None:
        self.bars[artifact] = progress


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(showing, "create_progress_artifact", server.create)
    monkeypatch.setattr(showing, "update_progress_artifact", server.update)
    return server


def test_a_bar_ends_where_the_work_has_ended_and_never_moves_back(server: Server) -> None:
    with showing.progress_shown():
        tell("student 1", 0.25)
        assert server.was_asked.wait(10)
        tell("student 1", 1.0)
        tell("student 1", 0.5)
        tell("labeling", 0.5)
    assert server.bars == {"student 1": 100.0, "labeling": 50.0}
    assert server.keys == ["progress-student-1", "progress-labeling"]


def test_work_goes_on_and_ends_while_the_server_does_not_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "_SECONDS_TO_END", 0.05)
    server.answers.clear()
    with showing.progress_shown():
        tell("teacher", 0.1)
        assert server.was_asked.wait(10)
        tell("teacher", 1.0)
    assert server.bars == {}  # still waiting; a call that waited too would never have come here
    server.answers.set()


def test_a_server_that_refuses_costs_a_warning(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.is_broken = True
    with caplog.at_level(logging.WARNING), showing.progress_shown():
        tell("teacher", 1.0)
    assert "not shown in Prefect: ConnectionError: gone" in caplog.text


def test_without_anything_to_tell_no_thread_is_started() -> None:
    before = threading.active_count()
    with showing.progress_shown():
        assert threading.active_count() == before


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"run_name": "given"}, "given"),
        ({"run_name": None}, "tiny"),
        ({"overrides": ["run_name=other"]}, "other"),
        ({"overrides": ["no_such_key=1"]}, None),
    ],
)
def test_a_failure_is_told_of_the_run_that_the_config_names(
    parameters: dict[str, Any], name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **about: emitted.append({"event": event, **about}))
    config = str(write_tiny_config(tmp_path))
    run: Any = SimpleNamespace(parameters={"config_path": config, **parameters}, name="wild-fox", id=uuid4())
    state: Any = SimpleNamespace(name="Failed", message="TrainingError: the loss is no longer finite")
    events.announce_failure(None, run, state)  # type: ignore[arg-type]
    (told,) = emitted
    assert told["event"] == "ssl-pipeline.cycle.failed"
    assert told["resource"]["prefect.resource.id"] == f"ssl-pipeline.run.{name or config}"
    assert told["payload"]["error"] == "TrainingError: the loss is no longer finite"


@pytest.mark.parametrize(
    ("own", "shown"),
    [("wild-fox", "tiny · wild-fox"), ("tiny · wild-fox", "tiny · wild-fox"), ("tiny", "tiny")],
)
def test_a_flow_run_is_called_by_its_run_and_once_only(
    own: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = SimpleNamespace(name=own, parameters={"config_path": str(write_tiny_config(tmp_path))})
    monkeypatch.setattr(naming, "runtime", SimpleNamespace(flow_run=about))
    assert naming.named_by_run() == shown
