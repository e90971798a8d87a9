"""The review on a real server and worker: a suspended flow run, answered by form and by command."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, read_json, write_json
from ssl_pipeline.runs.review import ReviewRequest, WaitingFlowRun, read_decision, write_request
from tests.cycle_config import write_tiny_config
from tests.flows.conftest import ROOT, Operator, clean_environment

pytestmark = [pytest.mark.flows, pytest.mark.slow]

SELECTION = {"type": "fixed_threshold", "confidence_threshold": 0.55, "guards": {"one_class": False}}


class Cycle:
    """A flow run of the deployment full-cycle/local, through the REST API."""

    def __init__(self, operator: Operator, config: Path) -> None:
        self.operator, self.run_dir = operator, config.parent / "runs/tiny"
        started = operator.run("deployment", "run", "full-cycle/local", "-p", f"config_path={config}")
        assert started.returncode == 0, started.stderr
        self.id = next(line.split()[-1] for line in started.stdout.splitlines() if "UUID" in line)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.operator.environment['PREFECT_API_URL']}/flow_runs/{self.id}{path}"
        headers = {"Content-Type": "application/json"}
        for attempt in range(5):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:  # 503: SQLite is locked; Prefect's client retries, too
                if error.code != 503 or attempt == 4:
                    raise
                time.sleep(1)
        raise AssertionError

    def answer_form(self, **run_input: Any) -> dict[str, Any]:
        return self.call("/resume", {"run_input": run_input})

    def await_state(self, *names: str) -> str:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            name = self.call("")["state"]["name"]
            if name in names:
                return name
            assert name not in ("Failed", "Crashed"), self.call("")["state"]["message"]
            time.sleep(0.3)
        raise TimeoutError(f"neither of {names}, but {name}")

    def await_question(self, attempt: int) -> str:
        """Wait for the form of an attempt and return its description."""
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            keyset = self.call("")["state"]["state_details"].get("run_input_keyset") or {}
            if keyset.get("schema", "").endswith(f"-{attempt}-schema"):
                self.await_state("Suspended")
                with contextlib.suppress(urllib.error.HTTPError):  # Prefect suspends first and stores the form then
                    return str(self.call(f"/input/{keyset['description']}"))
            time.sleep(0.3)
        raise TimeoutError(f"no question {attempt}, but {self.call('')['state']}")

    def processes(self) -> list[str]:
        """Return the processes with this flow run in their environment."""
        processes = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.id.encode() in path.read_bytes():
                    processes.append(path.parent.name)
            except OSError:
                continue
        return processes

    def await_exit(self) -> None:
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.processes() == []

    def resume_command(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ssl_pipeline.cli.main", "cycle", "resume", str(self.run_dir), *options],
            env={name: value for name, value in self.operator.environment.items() if name != "PREFECT_API_URL"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def check_trained_with(self, threshold: float, *, channel: str) -> None:
        """Check that manifest, records and student follow the decided threshold."""
        manifest = self.run_dir / "round-01/pseudo_labels/manifest.parquet"
        changed = {"confidence_threshold": {"configured": 0.55, "decided": threshold}}
        settings = read_manifest(manifest).selection["settings"]
        assert settings["confidence_threshold"] == threshold
        assert settings["changed_in_review"] == changed
        selection = read_json(manifest.with_name("selection.json"))
        assert selection["selection"]["settings"]["changed_in_review"] == changed
        student = read_json(self.run_dir / "round-01/student/done.json")
        assert student["inputs"]["manifest"] == digest_file(manifest)
        summary = read_json(self.run_dir / "summary.json")
        assert summary["status"] == "finished"
        assert [
            (review["choice"], review["confidence_threshold"], review["channel"]) for review in summary["reviews"]
        ] == [("threshold", threshold, channel)]


def write_config(directory: Path, raw: Path) -> Path:
    directory.mkdir()
    return write_tiny_config(directory, root=raw, review="wait", selection=SELECTION)


def test_a_cycle_waits_without_a_process_and_continues_after_the_decision(
    operator: Operator, tmp_path: Path, raw: Path
) -> None:
    by_form, by_command = (Cycle(operator, write_config(tmp_path / name, raw)) for name in ("form", "command"))
    for cycle in (by_form, by_command):
        if cycle.await_state("Running", "Suspended") == "Running":
            assert cycle.processes()
    for cycle in (by_form, by_command):
        description = cycle.await_question(1)
        cycle.await_exit()
        assert "may a student learn from these labels?" in description
        assert "| gender | female |" in description
        assert "audit-01.png" in description
        assert cycle.call("")["state"]["type"] == "PAUSED"
        assert read_json(cycle.run_dir / "run.json")["status"] == "waiting for review"
        assert not (cycle.run_dir / "round-01/student").exists()

    # The server rejects an invalid form; the flow asks again if the values cannot be used.
    assert by_form.answer_form(decision="perhaps")["status"] == "REJECT"
    assert by_form.answer_form(decision="threshold", threshold=1.5)["status"] == "ACCEPT"
    result = by_command.resume_command("--reject", "--note", "too few")
    assert result.returncode == 0, result.stderr
    assert "continues as soon as a worker takes it" in result.stdout

    assert "threshold 1.5: expected a number above 0 and up to 1" in by_form.await_question(2)
    assert by_form.answer_form(decision="threshold", threshold=0.6)["status"] == "ACCEPT"
    by_command.await_state("Completed")
    summary = read_json(by_command.run_dir / "summary.json")
    assert (summary["status"], summary["promoted"]) == ("stopped by review", "teacher")
    assert summary["reviews"][0]["note"] == "too few"
    assert not (by_command.run_dir / "round-01/student").exists()

    # A later decision: the ended flow run starts again and trains.
    result = by_command.resume_command("--threshold", "0.6")
    assert result.returncode == 0, result.stderr
    assert "in place of: the selection was rejected" in result.stdout
    by_command.await_state("Scheduled", "Pending", "Running")
    for cycle, channel in ((by_form, "form"), (by_command, "command")):
        cycle.await_state("Completed")
        cycle.check_trained_with(0.6, channel=channel)
    manifest = "round-01/pseudo_labels/manifest.parquet"
    assert (by_form.run_dir / manifest).read_bytes() == (by_command.run_dir / manifest).read_bytes()


def test_a_local_run_ends_with_exit_code_three_and_asks_on_a_terminal(
    operator: Operator, tmp_path: Path, raw: Path
) -> None:
    config = write_config(tmp_path / "local", raw)
    run_dir = config.parent / "runs/tiny"
    command = [sys.executable, "-m", "flows.full_cycle", "--config", str(config)]
    ended = subprocess.run(
        command,
        env=operator.environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert f"ssl-pipeline cycle resume {run_dir} --accept   (or --threshold NUMBER, --reject)" in ended.stderr
    assert not (run_dir / "round-01/student").exists()

    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"threshold\n1\n\nthreshold\n0.6\nsurer\n")  # the guards refuse the first
    asked = subprocess.run(
        command, env=operator.environment, cwd=ROOT, stdin=terminal, capture_output=True, text=True, check=False
    )
    os.close(keyboard)
    os.close(terminal)
    assert asked.returncode == 0, asked.stderr
    assert "Please decide again. accepted 0 of 100 candidates" in " ".join(asked.stdout.split())
    summary = read_json(run_dir / "summary.json")
    assert [(review["confidence_threshold"], review["channel"], review["note"]) for review in summary["reviews"]] == [
        (0.6, "terminal", "surer")
    ]


def test_an_unreachable_server_keeps_the_decision(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    (run.root / "round-01").mkdir(parents=True)
    write_json(run.root / "run.json", {})
    (run.root / "round-01/manifest.parquet").write_bytes(b"a manifest")
    flow_run = WaitingFlowRun(
        id="00000000-0000-4000-8000-000000000000", name="able-ant", api_url="http://127.0.0.1:9/api"
    )
    request = ReviewRequest(
        run_name="run",
        round_index=1,
        manifest="round-01/manifest.parquet",
        manifest_digest=digest_file(run.root / "round-01/manifest.parquet"),
        selection_digest="b",
        selection_type="self_adaptive",
        confidence_threshold=None,
        flow_run=flow_run,
    )
    write_request(run, request)
    result = subprocess.run(
        [sys.executable, "-m", "ssl_pipeline.cli.main", "cycle", "resume", str(run.root), "--accept"],
        env=clean_environment(tmp_path) | {"PREFECT_CLIENT_MAX_RETRIES": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("ReviewError: the decision is kept in ")
    assert "flow run 'able-ant'" in result.stderr
    assert result.stderr.endswith("to try again: give this command again\n")
    decision = read_decision(run, 1)
    assert decision is not None
    assert decision.choice == "accept"
