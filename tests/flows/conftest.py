"""A Prefect server and a worker for tests, isolated from the machine's Prefect settings."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.operations.deploy import LOG_STREAM

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def clean_environment(home: Path) -> dict[str, str]:
    """Return this process's environment with a Prefect home, no other Prefect settings and no server at the usual port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_SERVER_API_PORT": "9"}
    return kept | settings | {"PREFECT_HOME": str(home)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Operator:
    """A shell with its own server and worker."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        self.environment = (
            clean_environment(home)
            | LOG_STREAM
            | {
                "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
                "PREFECT_WORKER_QUERY_SECONDS": "2",  # instead of ten
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
        )
        self.port = port
        self.background: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, log: Path) -> None:
        with open(log, "wb") as file:
            self.background.append(
                subprocess.Popen(
                    [PREFECT, *arguments],
                    env=self.environment,
                    cwd=ROOT,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def await_server(self) -> None:
        for _ in range(3000):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=1)
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the server did not start")

    def stop(self) -> None:
        for process in reversed(self.background):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.background:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("prefect")
    operator = Operator(home)
    try:
        operator.start("server", "start", "--host", "127.0.0.1", "--port", str(operator.port), log=home / "server.log")
        operator.await_server()
        assert operator.run("work-pool", "create", "local", "--type", "process").returncode == 0
        deployed = operator.run("deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        operator.start("worker", "start", "--pool", "local", log=home / "worker.log")
        yield operator
    finally:
        operator.stop()


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn faces, shared by all tests of flows."""
    return tmp_path_factory.mktemp("raw")
