"""Run Prefect on this machine: write prefect.yaml, start a server and a worker with all deployments, stop them.

    python -m ssl_pipeline_flows.operations.deploy init [--directory .]
    python -m ssl_pipeline_flows.operations.deploy up [--port 4200]
    python -m ssl_pipeline_flows.operations.deploy down

Everything belongs to one folder: deployments run there, and its .prefect (or PREFECT_HOME) holds database, logs and
process numbers.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

DEPLOYMENTS = Path(__file__).parents[1] / "prefect.yaml"
POOL, GPU_LIMIT = "local", "gpu"
_START_SECONDS = 300  # a process that ends early is noticed at once
_STOP_SECONDS = 30
# On disk, the slot of a killed training is released even if the server restarted in between.
_LEASES = "prefect.server.concurrency.lease_storage.filesystem"
# Log lines reach `prefect deployment run --watch`, which ends with the result or the reason of a failure.
LOG_STREAM = {
    "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
    "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
}

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Prefect on this machine: set up, start, stop.")


class DeployError(Exception):
    """A part of Prefect did not start. The message says which, where its log is, and what to do."""


@app.command()
def init(
    directory: Annotated[Path, typer.Option(file_okay=False, help="The folder in which the flows will run.")] = Path(),
) -> None:
    """Write prefect.yaml with the deployments of all flows; edit it and give it to `prefect deploy --all`."""
    path, text = directory / "prefect.yaml", DEPLOYMENTS.read_text(encoding="utf-8")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise DeployError(
            f"{path}: exists and differs; keep it and add the deployments of {DEPLOYMENTS} by hand, or give another "
            "--directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    typer.echo(f"{path}: deployments of all flows; next: python -m {__spec__.name} up")


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The server's port on 127.0.0.1.")] = 4200,
    max_flow_runs: Annotated[
        int, typer.Option("--runs-at-a-time", min=1, help="Flow runs that the pool starts at a time.")
    ] = 2,
    max_trainings: Annotated[
        int, typer.Option("--trainings-at-a-time", min=1, help="Trainings at a time, one per GPU: the limit 'gpu'.")
    ] = 1,
) -> None:
    """Start a server and a worker, create the pool, the limit and all deployments; what already runs stays."""
    if not Path("prefect.yaml").exists():
        init(Path())
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    environment = _environment(home, port)
    _check_no_other_port(home, port)
    if not _is_alive(_pid_file(home, "server")):
        _check_free(port)
        _start("server", ["server", "start", "--host", "127.0.0.1", "--port", str(port)], environment, home)
        _port_file(home).write_text(f"{port}\n", encoding="utf-8")
    _wait_for("server", lambda: _is_server(port), home)
    _prefect(["work-pool", "create", POOL, "--type", "process", "--overwrite"], environment)
    _prefect(["work-pool", "set-concurrency-limit", POOL, str(max_flow_runs)], environment)
    limit = [GPU_LIMIT, "--limit", str(max_trainings)]
    try:
        _prefect(["gcl", "update", *limit], environment)
    except DeployError:  # it does not exist yet
        _prefect(["gcl", "create", *limit], environment)
    _prefect(["deploy", "--all"], environment)
    if not _is_alive(_pid_file(home, "worker")):
        _start("worker", ["worker", "start", "--pool", POOL], environment, home)
    # until the server knows a worker, a new flow run is Late
    _wait_for("worker", lambda: _has_worker(port), home)
    typer.echo(
        f"The UI:   http://127.0.0.1:{port}\n"
        f"A run:    PREFECT_API_URL={environment['PREFECT_API_URL']} {' '.join(_PREFECT)} "
        "deployment run full-cycle/local --watch -p config_path=configs/demo.yaml\n"
        f"Logs:     {home / 'server.log'}, {home / 'worker.log'}\n"
        f"All down: python -m {__spec__.name} down   (in a checkout: make undeploy)"
    )


@app.command()
def down() -> None:
    """Stop the worker and the server that `up` started; runs keep their files and resume when started again."""
    for name in ("worker", "server"):
        path = _pid_file(_home(), name)
        if not _is_alive(path):
            typer.echo(f"{name}: not running")
            path.unlink(missing_ok=True)
            continue
        group = int(path.read_text(encoding="utf-8"))
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _is_alive(path) and time.monotonic() < deadline:
            time.sleep(0.2)
        if _is_alive(path):
            os.killpg(group, signal.SIGKILL)
        path.unlink(missing_ok=True)
        typer.echo(f"{name}: ended")


_PREFECT = [sys.executable, "-m", "prefect"]


def _home() -> Path:
    return Path(os.environ.get("PREFECT_HOME", ".prefect")).absolute()


def _environment(home: Path, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES,
        **LOG_STREAM,
        "DO_NOT_TRACK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a worker starts flows as `python`
    }


def _is_server(port: int) -> bool:
    """Return whether a Prefect server listens on a port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
            return bool(answer.read().strip() == b"true")
    except (OSError, ValueError):
        return False


def running_port(home: Path | None = None) -> int | None:
    """Return the port of the server that `up` started from this folder; None if it does not run."""
    home = home or _home()
    if not _is_alive(_pid_file(home, "server")) or not _port_file(home).is_file():
        return None
    return int(_port_file(home).read_text(encoding="utf-8"))


def _check_no_other_port(home: Path, port: int) -> None:
    """Refuse a second server: both would write one database, and the worker knows only the first."""
    if (other := running_port(home)) not in (None, port):
        raise DeployError(
            f"port {port}: a server of this folder runs on port {other}; give --port {other}, or stop it first: "
            f"python -m {__spec__.name} down"
        )


def _check_free(port: int) -> None:
    """Refuse a port in use: by another program, or by a server with other runs and limits."""
    if _is_server(port):
        raise DeployError(
            f"port {port}: a Prefect server that was not started from this folder listens there; give another --port, or "
            "deploy to that one: PREFECT_API_URL=… prefect deploy --all (docs/operations.md, By hand)"
        )
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise DeployError(f"port {port}: a program that is not a Prefect server listens there; give another --port")


def _wait_for(name: str, is_up: Callable[[], bool], home: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_up():
        if time.monotonic() > deadline or not _is_alive(_pid_file(home, name)):
            raise DeployError(f"the {name} did not start; its log is {home / f'{name}.log'}")
        time.sleep(0.3)


def _has_worker(port: int) -> bool:
    """Return whether the server has a recent heartbeat of a worker of the pool."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/work_pools/{POOL}", timeout=2) as answer:
            return bool(json.loads(answer.read())["status"] == "READY")
    except (OSError, ValueError, KeyError):
        return False


def _prefect(arguments: list[str], environment: dict[str, str]) -> None:
    command = [*_PREFECT, "--no-prompt", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise DeployError(f"prefect {' '.join(arguments)}: {(result.stderr or result.stdout).strip()}")


def _start(name: str, arguments: list[str], environment: dict[str, str], home: Path) -> None:
    """Start a process that outlives this one, in its own process group."""
    with open(home / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            [*_PREFECT, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file(home, name).write_text(f"{process.pid}\n", encoding="utf-8")
    _children.append(process)


_children: list["subprocess.Popen[bytes]"] = []
"""Started by this process; polled, so that an ended one is no zombie that counts as alive."""


def _pid_file(home: Path, name: str) -> Path:
    return home / f"{name}.pid"


def _port_file(home: Path) -> Path:
    return home / "server.port"


def _is_alive(path: Path) -> bool:
    """Return whether the process in a file is alive and Prefect's, since a number may be reused."""
    try:
        pid = int(path.read_text(encoding="utf-8"))
        for child in _children:
            if child.pid == pid:
                return child.poll() is None
        return b"prefect" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    try:
        app(standalone_mode=True)
    except DeployError as error:
        sys.exit(f"{error}")
