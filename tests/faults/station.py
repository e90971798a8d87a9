"""A Prefect server, a worker and runs to kill: start, wait, kill, digest the results."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cycle_config import write_tiny_config
from tests.flows.conftest import ROOT, Operator

COMPARED = (
    "round-01/pseudo_labels/manifest.parquet",
    "round-00/teacher/best.safetensors",
    "round-01/student/best.safetensors",
)
SETTINGS = (
    "teacher.training.save_every_steps=1",
    "student.training.save_every_steps=1",
    "student.training.epochs=12",
    "prediction.shard_size=4",
)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "SSL_PIPELINE_GPU_LIMIT": "",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
TWO_PROCESSES = "teacher.training.num_processes=2"


def await_that(condition: Callable[[], Any], description: str, *, seconds: float = 300, every: float = 0.02) -> Any:
    """Wait until a condition returns a true value, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{description}: not within {seconds:g} s")
        time.sleep(every)
    return value


def processes_with(text: str) -> dict[int, str]:
    """Return pid → command line of the processes with a text in their command line or environment."""
    processes = {}
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if text in command or text.encode() in (entry / "environ").read_bytes():
                processes[int(entry.name)] = command
        except OSError:  # it has ended
            continue
    processes.pop(os.getpid(), None)
    return processes


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of a cycle's results."""
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in COMPARED}


class Station:
    """A shell with a server and a worker, and a run of the tiny config in its own folder."""

    def __init__(self, directory: Path, *, raw: Path, overrides: tuple[str, ...] = (), **environment: str) -> None:
        self.directory, self.overrides = directory, (*SETTINGS, *overrides)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "prefect").mkdir(exist_ok=True)
        self.config = write_tiny_config(directory, root=raw)
        self.run = directory / "runs/tiny"
        self.operator = Operator(directory / "prefect")
        # all processes of this station have its Prefect home in their environment; `__exit__` finds them by it
        self.operator.environment |= ENVIRONMENT | environment
        self.server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Station":
        self.start_server()
        self.check(self.operator.run("work-pool", "create", "local", "--type", "process"))
        self.check(self.operator.run("deploy", "--all"))
        return self

    def __exit__(self, *_: object) -> None:
        for pid in processes_with(str(self.directory / "prefect")):
            self.kill(pid)

    @staticmethod
    def check(result: subprocess.CompletedProcess[str]) -> str:
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def start_server(self) -> None:
        port = str(self.operator.port)
        self.operator.start("server", "start", "--host", "127.0.0.1", "--port", port, log=self.directory / "server.log")
        self.server = self.operator.background[-1]
        self.operator.await_server()

    def kill_server(self) -> None:
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def start_worker(self) -> "subprocess.Popen[bytes]":
        self.operator.start("worker", "start", "--pool", "local", log=self.directory / "worker.log")
        return self.operator.background[-1]

    @staticmethod
    def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def start_run(self, **environment: str) -> str:
        """Start the full cycle on the worker, with another environment than the deployment's; return the flow run's id."""
        variables = ("--job-variable", f"env={json.dumps(environment)}") if environment else ()
        parameters = json.dumps({"config_path": str(self.config), "overrides": list(self.overrides)})
        output = self.check(
            self.operator.run("deployment", "run", "full-cycle/local", "--params", parameters, *variables)
        )
        return next(line.split(":", 1)[1].strip() for line in output.splitlines() if "UUID" in line)

    def retry(self, flow_run: str) -> None:
        self.check(self.operator.run("flow-run", "retry", flow_run))

    def local(self, *, log: Path | None = None) -> "subprocess.Popen[str]":
        """Start the full cycle as a local command."""
        options = [part for override in self.overrides for part in ("--set", override)]
        command = [sys.executable, "-m", "flows.full_cycle", "--config", str(self.config), *options]
        file = open(log or self.directory / "local.log", "w", encoding="utf-8")  # noqa: SIM115 - the process uses it
        return subprocess.Popen(
            command,
            env=self.operator.environment,
            cwd=ROOT,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the project, e.g. ``flows.operations.stuck --mark``."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.operator.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request to the server."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.operator.port}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def state(self, flow_run: str) -> str:
        return str(self.api(f"flow_runs/{flow_run}")["state"]["name"])

    def await_state(self, flow_run: str, *names: str, seconds: float = 240) -> str:
        final = {"Completed", "Failed", "Crashed", "Cancelled"}

        def reached() -> str | None:
            name = self.state(flow_run)
            assert name in names or name not in final, f"flow run is {name}: {self.logs()}"
            return name if name in names else None

        return str(await_that(reached, f"the flow run is {' or '.join(names)}", seconds=seconds, every=0.2))

    def logs(self) -> str:
        return "".join(
            f"\n--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.directory.glob("*.log"))
        )

    def status(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return dict(json.loads((self.run / "run.json").read_text()))

    def cancel(self, flow_run: str) -> None:
        self.api(f"flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def flow_processes(self, flow_run: str) -> dict[int, str]:
        """Return the flow's process and its children: they have its id in their environment."""
        return processes_with(f"PREFECT__FLOW_RUN_ID={flow_run}")

    def engine(self, flow_run: str) -> int:
        """Return the pid of the flow's process, from the server."""
        pid = str(self.api(f"flow_runs/{flow_run}")["infrastructure_pid"])
        return int(pid.rpartition(":")[2])
