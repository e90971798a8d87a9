"""Pages, progress bars, names and events never stop a run, whatever the server does."""

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from uuid import uuid4

import pytest

from flows.operations import artifacts, events, failure, naming
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.runs.files import write_json, write_text
from ssl_pipeline.runs.progress import report
from tests.cycle_config import write_tiny_config


class Server:
    """A stand-in for Prefect's progress artifacts; may block or refuse."""

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
    monkeypatch.setattr(artifacts, "create_progress_artifact", server.create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", server.update)
    return server


def test_a_bar_ends_at_the_last_progress_and_never_moves_back(server: Server) -> None:
    with artifacts.progress_bars():
        report("student 1", 0.25)
        assert server.was_asked.wait(10)
        report("student 1", 1.0)
        report("student 1", 0.5)
        report("labeling", 0.5)
    assert server.bars == {"student 1": 100.0, "labeling": 50.0}
    assert server.keys == ["progress-student-1", "progress-labeling"]


def test_work_continues_while_the_server_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_JOIN_SECONDS", 0.05)
    server.answers.clear()
    with artifacts.progress_bars():
        report("teacher", 0.1)
        assert server.was_asked.wait(10)
        report("teacher", 1.0)
    assert server.bars == {}  # the thread still waits; a blocking call would not get here
    server.answers.set()


def test_a_server_that_refuses_costs_a_warning(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.is_broken = True
    with caplog.at_level(logging.WARNING), artifacts.progress_bars():
        report("teacher", 1.0)
    assert "not shown in Prefect: ConnectionError: gone" in caplog.text


def test_without_progress_no_thread_is_started() -> None:
    before = threading.active_count()
    with artifacts.progress_bars():
        assert threading.active_count() == before


class Pages:
    """A stand-in for Prefect's client; keeps the artifacts."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_artifact(self, artifact: Any) -> Any:
        self.made.append(artifact)
        return SimpleNamespace(id=f"id-{len(self.made)}")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    pages = Pages()
    monkeypatch.setattr(artifacts, "get_client", lambda sync_client: pages)
    monkeypatch.setattr(artifacts, "_published", {})
    monkeypatch.setattr(artifacts, "get_current_settings", lambda: SimpleNamespace(ui_url="http://ui"))
    return pages


def test_a_page_links_to_the_earlier_pages_of_its_flow_run_and_not_to_itself(pages: Pages) -> None:
    one, other = uuid4(), uuid4()
    for flow_run, key in ((one, "faces"), (other, "faces"), (one, "teacher"), (one, "faces"), (one, "gate")):
        artifacts.show(lambda key=key: [Page(key, key.title(), f"# {key}")], flow_run_id=flow_run)  # type: ignore[misc]
    assert [(made.key, made.flow_run_id) for made in pages.made][:2] == [("faces", one), ("faces", other)]
    first, of_another, second, again, last = (made.data for made in pages.made)
    assert first == of_another == "# faces"
    assert second == "Before this: [Faces](http://ui/artifacts/artifact/id-1)\n\n# teacher"
    assert again == "Before this: [Teacher](http://ui/artifacts/artifact/id-3)\n\n# faces"
    assert "[Faces](http://ui/artifacts/artifact/id-4) · [Teacher](http://ui/artifacts/artifact/id-3)" in last


def test_a_page_that_cannot_be_made_costs_a_warning(pages: Pages, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[Page]:
        raise OSError("history.csv is gone")

    with caplog.at_level(logging.WARNING):
        artifacts.show(broken)
    assert "not shown in Prefect: OSError: history.csv is gone" in caplog.text
    assert not pages.made


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"run_name": "given"}, "given"),
        ({"run_name": None}, "tiny"),
        ({"overrides": ["run_name=other"]}, "other"),
        ({"overrides": ["no_such_key=1"]}, None),
    ],
)
def test_a_failure_is_reported_for_the_run_that_the_config_names(
    parameters: dict[str, Any], name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: Pages
) -> None:
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **fields: emitted.append({"event": event, **fields}))
    config = str(write_tiny_config(tmp_path))
    run: Any = SimpleNamespace(parameters={"config_path": config, **parameters}, name="wild-fox", id=uuid4())
    error = TrainingError("the loss is no longer finite")
    message = f"Flow run encountered an exception: TrainingError: {error}"
    state: Any = SimpleNamespace(name="Failed", message=message, result=lambda raise_on_failure: error)
    events.announce_failure(None, run, state)  # type: ignore[arg-type]
    failure.show_failure(None, run, state)  # type: ignore[arg-type]
    (event,) = emitted
    assert event["event"] == "ssl-pipeline.cycle.failed"
    assert event["resource"]["prefect.resource.id"] == f"ssl-pipeline.run.{name or config}"
    assert event["payload"]["error"] == "TrainingError: the loss is no longer finite"
    (page,) = pages.made
    assert (page.key, page.flow_run_id) == ("what-went-wrong", run.id)
    assert "> TrainingError: the loss is no longer finite" in page.data
    assert "The run has not started" in page.data


def test_a_failure_page_shows_the_finished_stages_and_how_to_resume(tmp_path: Path, pages: Pages) -> None:
    config = write_tiny_config(tmp_path)
    root = tmp_path / "runs/tiny"
    write_text(root / "config.yaml", config.read_text())
    write_json(root / "run.json", {"status": "failed", "error": "the disk is full"})
    record = {"inputs": {}, "outputs": {}, "as_written": {}, "seconds": 2.0, "result": {}}
    write_json(root / "faces/done.json", record)
    run: Any = SimpleNamespace(parameters={"config_path": str(config)}, name="wild-fox", id=uuid4())
    # a worker reports a dead process without an error
    state: Any = SimpleNamespace(name="Crashed", message="Flow run process exited with non-zero status code -9.")
    failure.show_failure(None, run, state)  # type: ignore[arg-type]
    text = pages.made[0].data
    assert "> Flow run process exited with non-zero status code -9." in text
    assert "| faces | finished | 2.0 s |" in text
    assert "| round-00/teacher | to do |  |" in text
    assert f"ssl-pipeline run {root / 'config.yaml'}" in text


def test_a_pending_review_is_no_failure(monkeypatch: pytest.MonkeyPatch, pages: Pages) -> None:
    monkeypatch.setattr(events, "emit_event", lambda *_, **__: pytest.fail("announced"))
    run: Any = SimpleNamespace(parameters={}, id=uuid4())
    state: Any = SimpleNamespace(name="Failed", message="Flow run encountered an exception: ReviewPending: decide")
    events.announce_failure(None, run, state)  # type: ignore[arg-type]
    failure.show_failure(None, run, state)  # type: ignore[arg-type]
    assert not pages.made


@pytest.mark.parametrize(
    ("name", "expected"),
    [("wild-fox", "tiny · wild-fox"), ("tiny · wild-fox", "tiny · wild-fox"), ("tiny", "tiny")],
)
def test_a_flow_run_is_named_after_its_run_only_once(
    name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_run = SimpleNamespace(name=name, parameters={"config_path": str(write_tiny_config(tmp_path))})
    monkeypatch.setattr(naming, "runtime", SimpleNamespace(flow_run=flow_run))
    assert naming.name_flow_run() == expected
