"""Pages, progress bars, names and events never stop a run, whatever the server does."""

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from uuid import uuid4

import pytest
from prefect.client.schemas.sorting import ArtifactSort

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
    for thread in threading.enumerate():  # else it would look for a real server once this test's stand-in is gone
        if thread.name == "progress-bars":
            thread.join(10)


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
    """A stand-in for Prefect's client and its server; keeps the artifacts."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.kept: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_artifact(self, artifact: Any) -> Any:
        self.made.append(artifact)
        self.kept.append(SimpleNamespace(id=f"id-{len(self.made)}", key=artifact.key, data=artifact.data))
        return self.kept[-1]

    def read_artifacts(self, *, artifact_filter: Any, sort: ArtifactSort, limit: int, offset: int) -> list[Any]:
        assert (sort, limit, offset) == (ArtifactSort.CREATED_DESC, 1, 0)
        return [artifact for artifact in reversed(self.kept) if artifact.key in artifact_filter.key.any_][:1]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    pages = Pages()
    monkeypatch.setattr(artifacts, "get_client", lambda sync_client: pages)
    monkeypatch.setattr(artifacts, "_published", {})
    monkeypatch.setattr(artifacts, "get_current_settings", lambda: SimpleNamespace(ui_url="http://ui"))
    return pages


class Flow:
    """A flow run in a process of its own, which shows pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(artifacts, "_published", {})
        self.id = uuid4()
        monkeypatch.setattr(artifacts, "runtime", SimpleNamespace(flow_run=self, task_run=SimpleNamespace(id=uuid4())))

    def show(self, key: str, text: str) -> None:
        artifacts.show(lambda: [Page(key, key.title(), text)])


def test_a_page_links_to_the_earlier_pages_of_its_flow_run_and_not_to_itself(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Flow(monkeypatch)
    for key, text in (("faces", "1"), ("teacher", "2"), ("faces", "3"), ("gate", "4")):
        flow.show(key, text)
    assert {made.flow_run_id for made in pages.made} == {flow.id}
    first, second, again, last = (made.data for made in pages.made)
    assert first == "1"
    assert second == "Before this: [Faces](http://ui/artifacts/artifact/id-1)\n\n2"
    assert again == "Before this: [Teacher](http://ui/artifacts/artifact/id-2)\n\n3"
    assert "[Faces](http://ui/artifacts/artifact/id-3) · [Teacher](http://ui/artifacts/artifact/id-2)" in last


def test_a_run_that_is_continued_publishes_only_the_pages_that_changed(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        flow = Flow(monkeypatch)
        for key in ("faces", "teacher"):
            flow.show(key, f"# {key}")
    assert [made.key for made in pages.made] == ["faces", "teacher"]
    flow.show("gate", "# new")
    assert pages.made[-1].data.startswith("Before this: [Faces](http://ui/artifacts/artifact/id-1) · [Teacher](")
    Flow(monkeypatch).show("faces", "# other faces")
    assert [made.key for made in pages.made] == ["faces", "teacher", "gate", "faces"]


def test_each_failed_flow_run_has_its_page(pages: Pages) -> None:
    runs = [uuid4(), uuid4()]
    for run in runs:
        artifacts.show(lambda: [Page("what-went-wrong", "What went wrong", "the same")], flow_run_id=run)
    assert [made.flow_run_id for made in pages.made] == runs


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
    assert "prepare the faces | finished | 2.0 s | `faces` |" in text
    assert "| train the teacher | to do |  | `round-00/teacher` |" in text
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
