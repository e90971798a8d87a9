"""`prefect deployment run --watch` on a real server and worker: last lines, exit codes, files, pages, events."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cycle_config import write_tiny_config
from tests.flows.conftest import Operator

pytestmark = [pytest.mark.flows, pytest.mark.slow]


def test_every_flow_has_a_deployment(operator: Operator) -> None:
    listed = operator.run("deployment", "ls").stdout
    for flow in ("full-cycle", "build-masked-faces", "train-teacher", "pseudo-label", "train-student"):
        assert f"{flow}/local" in listed.replace("\n", "")


def watch(operator: Operator, config: Path, flow: str = "full-cycle") -> tuple[int, str]:
    """Run a flow's deployment; return the exit code, and what is printed after the flow run's last event."""
    result = operator.run("deployment", "run", f"{flow}/local", "--watch", "-p", f"config_path={config}")
    ended = max(result.stdout.rfind(f"prefect.flow-run.{state} ") for state in ("Completed", "Failed"))
    assert ended > 0, result.stdout + result.stderr
    return result.returncode, " ".join(result.stdout[ended:].split())


def test_a_deployment_run_does_the_full_cycle_and_ends_with_its_result(
    operator: Operator, tmp_path: Path, raw: Path
) -> None:
    config = write_tiny_config(tmp_path, root=raw)
    code, ending = watch(operator, config)
    assert code == 0, ending
    assert "Promoted: " in ending and "Predict: ssl-pipeline predict " in ending, ending
    assert (tmp_path / "runs/tiny/summary.json").is_file()
    assert (tmp_path / "runs/tiny/round-01/pseudo_labels/manifest.parquet").is_file()
    code, ending = watch(operator, config, "train-teacher")  # all of it is there
    assert (code, "on the validation faces" in ending) == (0, True), ending
    pages = [found["key"] for found in query_server(operator, "artifacts", {}) if str(tmp_path) in str(found["data"])]
    assert sorted(pages) == sorted(set(pages)) != []


def query_server(operator: Operator, objects: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{operator.environment['PREFECT_API_URL']}/{objects}/filter",
        json.dumps(query).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        content = json.loads(answer.read())
    return content["events"] if objects == "events" else content


def wait_for_events(operator: Operator, name: str) -> list[dict[str, Any]]:
    """Query events of a name until there are any: they are sent and stored asynchronously."""
    deadline = time.monotonic() + 60
    while not (events := query_server(operator, "events", {"filter": {"event": {"name": [name]}}})):
        assert time.monotonic() < deadline, f"no event {name}"
        time.sleep(0.5)
    return list(events)


def test_a_run_publishes_pages_log_lines_and_an_event(operator: Operator) -> None:
    """Uses the cycle of the test above."""
    artifacts = {
        found["key"]: found for found in query_server(operator, "artifacts", {"sort": "CREATED_DESC"}) if found["key"]
    }
    pages = {"faces", "teacher", "pseudo-labels-round-1", "student-1", "gate-round-1", "teacher-against-student"}
    assert pages <= set(artifacts)
    assert "data:image/png;base64," in artifacts["teacher"]["data"]
    ui = operator.environment["PREFECT_API_URL"].removesuffix("/api")
    for key in pages - {"teacher-against-student"}:
        assert f"({ui}/artifacts/artifact/{artifacts[key]['id']})" in artifacts["teacher-against-student"]["data"]
    bars = [artifacts[key]["data"] for key in ("progress-teacher", "progress-labeling", "progress-student-1")]
    assert bars == [100.0, 100.0, 100.0]

    of_flow_run = {"logs": {"flow_run_id": {"any_": [artifacts["faces"]["flow_run_id"]]}}, "sort": "TIMESTAMP_ASC"}
    lines = [line["message"] for line in query_server(operator, "logs", of_flow_run)]
    assert any(line.startswith("tiny/faces: ") for line in lines), lines
    (event,) = wait_for_events(operator, "ssl-pipeline.cycle.finished")
    assert event["resource"]["prefect.resource.id"] == "ssl-pipeline.run.tiny"
    assert event["payload"]["promoted"] in ("teacher", "student")
    assert set(event["payload"]["counts"]) >= {"accepted", "rejected"}


def test_the_automation_for_ended_cycles_is_accepted(operator: Operator) -> None:
    created = operator.run("automation", "create", "--from-file", "deploy/automations/cycle_ended.yaml")
    assert created.returncode == 0, created.stdout + created.stderr


def test_a_deployment_run_that_fails_exits_non_zero_and_ends_with_the_reason(
    operator: Operator, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.yaml"
    code, ending = watch(operator, absent)
    assert code != 0
    assert "no such config file" in ending, ending
    events = wait_for_events(operator, "ssl-pipeline.cycle.failed")
    assert "absent.yaml" in events[0]["payload"]["error"]
    (page,) = query_server(operator, "artifacts", {"artifacts": {"key": {"any_": ["what-went-wrong"]}}})
    assert "> ConfigError: " in page["data"] and "no such config file" in page["data"], page["data"]
    assert page["flow_run_id"] == events[0]["payload"]["flow_run"]
