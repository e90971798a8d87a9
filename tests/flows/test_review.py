"""The human gate under a real server and worker: suspended with its process gone, decided by form and by command."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.runs import digest_file, read_json
from tests.cycle_config import write_tiny_config
from tests.flows.conftest import PREFECT, ROOT, Operator

pytestmark = pytest.mark.flows

WARN = {"type": "fixed_threshold", "confidence_threshold": 0.55, "guards": {"one_class": False}}


class Cycle:
    """A flow run of the deployment full-cycle/local, seen through the server's REST interface."""

    def __init__(self, operator: Operator, config: Path) -> None:
        self.operator, self.run_dir = operator, config.parent / "runs/tiny"
        started = operator.run("deployment", "run", "full-cycle/local", "-p", f"config_path={config}")
        assert started.returncode == 0, started.stderr
        self.id = next(line.split()[-1] for line in started.stdout.splitlines() if "UUID" in line)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.operator.environment['PREFECT_API_URL']}/flow_runs/{self.id}{path}"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return json.loads(answer.read())

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

    def await_suspension(self, attempt: int) -> str:
        """Wait for a question, and give the form's description."""
        self.await_state("Suspended")
        keyset = self.call("")["state"]["state_details"]["run_input_keyset"]
        assert keyset["schema"].endswith(f"-{attempt}-schema")
        return str(self.call(f"/input/{keyset['description']}"))

    def processes(self) -> list[str]:
        """Processes whose environment names this flow run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.id.encode() in path.read_bytes():
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    def await_exit(self) -> None:
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.processes() == []

    def resume_command(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ssl_pipeline.cli", "cycle", "resume", str(self.run_dir), *options],
            env={name: value for name, value in self.operator.environment.items() if name != "PREFECT_API_URL"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def check_trained_by(self, threshold: float, *, way: str) -> None:
        """The manifest, the records and the student are those of the person's threshold."""
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
        assert [(of["choice"], of["confidence_threshold"], of["way"]) for of in summary["reviews"]] == [
            ("threshold", threshold, way)
        ]


def write_config(directory: Path, raw: Path) -> Path:
    directory.mkdir()
    return write_tiny_config(directory, root=raw, review="wait", selection=WARN)


def test_a_cycle_waits_without_a_process_and_goes_on_as_a_person_decides(
    operator: Operator, tmp_path: Path, raw: Path
) -> None:
    by_form, by_command, rejected = (
        Cycle(operator, write_config(tmp_path / name, raw)) for name in ("form", "command", "reject")
    )
    for cycle in (by_form, by_command, rejected):
        description = cycle.await_suspension(1)
        cycle.await_exit()
        assert "may a student learn from these labels?" in description
        assert "| gender | female |" in description
        assert "audit-01.png" in description
        assert cycle.call("")["state"]["type"] == "PAUSED"
        assert read_json(cycle.run_dir / "run.json")["status"] == "waiting for review"
        assert not (cycle.run_dir / "round-01/student").exists()

    # What no form can mean is refused on the spot; what a form can, but the gate cannot use, is asked again in words.
    assert by_form.answer_form(decision="perhaps")["status"] == "REJECT"
    assert by_form.answer_form(decision="change threshold", threshold=1.5)["status"] == "ACCEPT"
    told = by_command.resume_command("--threshold", "0.6", "--note", "surer")
    assert told.returncode == 0, told.stderr
    assert "the confidence_threshold was set to 0.6" in told.stdout
    assert "goes on as soon as a worker takes it" in told.stdout
    assert rejected.answer_form(decision="reject", note="too few")["status"] == "ACCEPT"

    deadline = time.monotonic() + 60
    while "-2-" not in str(by_form.call("")["state"]["state_details"].get("run_input_keyset")):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert "threshold 1.5: expected a number above 0 and up to 1" in by_form.await_suspension(2)
    assert by_form.answer_form(decision="change threshold", threshold=0.6)["status"] == "ACCEPT"

    for cycle in (by_form, by_command, rejected):
        cycle.await_state("Completed")
    by_form.check_trained_by(0.6, way="form")
    by_command.check_trained_by(0.6, way="command")
    manifest = "round-01/pseudo_labels/manifest.parquet"
    assert (by_form.run_dir / manifest).read_bytes() == (by_command.run_dir / manifest).read_bytes()

    summary = read_json(rejected.run_dir / "summary.json")
    assert summary["status"] == "stopped by review"
    assert summary["promoted"] == "teacher"
    assert summary["reviews"][0]["note"] == "too few"
    assert not (rejected.run_dir / "round-01/student").exists()
