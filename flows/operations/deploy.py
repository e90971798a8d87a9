"""Bring up all that a deployment run needs on this machine, or take it down: server, pool, limits, deployments, worker.

    python -m flows.operations.deploy up [--port 4200]
    python -m flows.operations.deploy down

What runs already is left as it is. Logs and process numbers lie in PREFECT_HOME, .prefect in the checkout by default.
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

CHECKOUT = Path(__file__).parents[2]
POOL, GPU_LIMIT = "local", "gpu"
_SECONDS_TO_START = 120
_SECONDS_TO_END = 30
# Kept on disk, a place in the limit that a killed training held comes free though the server was restarted meanwhile.
_LEASES = "prefect.server.concurrency.lease_storage.filesystem"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Prefect on this machine: all of it up, or down.")


class DeployError(Exception):
    """Something of Prefect did not come up; says what, where its log is, and what to do."""


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server, on 127.0.0.1.")] = 4200,
    runs_at_a_time: Annotated[int, typer.Option(min=1, help="Flow runs that the pool starts at a time.")] = 2,
    trainings_at_a_time: Annotated[
        int, typer.Option(min=1, help="Trainings at a time, one a GPU: the limit 'gpu'.")
    ] = 1,
) -> None:
    """Start a server and a worker, make the pool, the limit and all deployments; say how to run one."""
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    environment = _environment(home, port)
    _check_no_other_port(home, port)
    if not _lives(_pid_file(home, "server")):
        _check_free(port)
        _start("server", ["server", "start", "--host", "127.0.0.1", "--port", str(port)], environment, home)
        _port_file(home).write_text(f"{port}\n", encoding="utf-8")
    _wait_for("server", lambda: _answers(port), home)
    _prefect(["work-pool", "create", POOL, "--type", "process", "--overwrite"], environment)
    _prefect(["work-pool", "set-concurrency-limit", POOL, str(runs_at_a_time)], environment)
    limit = [GPU_LIMIT, "--limit", str(trainings_at_a_time)]
    try:
        _prefect(["gcl", "update", *limit], environment)
    except DeployError:  # there is none yet
        _prefect(["gcl", "create", *limit], environment)
    _prefect(["deploy", "--all"], environment)
    if not _lives(_pid_file(home, "worker")):
        _start("worker", ["worker", "start", "--pool", POOL], environment, home)
    # a run that is started before the server has heard of a worker lies there as Late
    _wait_for("worker", lambda: _has_worker(port), home)
    typer.echo(
        f"The UI:   http://127.0.0.1:{port}\n"
        f"A run:    PREFECT_API_URL={environment['PREFECT_API_URL']} {Path(sys.executable).with_name('prefect')} "
        "deployment run full-cycle/local --watch -p config_path=configs/demo.yaml\n"
        f"Logs:     {home / 'server.log'}, {home / 'worker.log'}\n"
        "All down: make undeploy"
    )


@app.command()
def down() -> None:
    """End the worker and the server that `up` has started; runs keep their files, and go on when started again."""
    for name in ("worker", "server"):
        path = _pid_file(_home(), name)
        if not _lives(path):
            typer.echo(f"{name}: not running")
            path.unlink(missing_ok=True)
            continue
        group = int(path.read_text(encoding="utf-8"))
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS_TO_END
        while _lives(path) and time.monotonic() < deadline:
            time.sleep(0.2)
        if _lives(path):
            os.killpg(group, signal.SIGKILL)
        path.unlink(missing_ok=True)
        typer.echo(f"{name}: ended")


def _home() -> Path:
    return Path(os.environ.get("PREFECT_HOME", CHECKOUT / ".prefect")).absolute()


def _environment(home: Path, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES,
        "DO_NOT_TRACK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a flow's process is started as `python`
    }


def _answers(port: int) -> bool:
    """Whether a Prefect server answers there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
            return bool(answer.read().strip() == b"true")
    except (OSError, ValueError):
        return False


def _check_no_other_port(home: Path, port: int) -> None:
    """Refuse a second server beside the one that runs: both would write one database, and the worker knows the first."""
    if not _lives(_pid_file(home, "server")) or not _port_file(home).is_file():
        return
    other = int(_port_file(home).read_text(encoding="utf-8"))
    if other != port:
        raise DeployError(
            f"port {port}: a server of this checkout runs on port {other}; give --port {other}, or take it down first "
            "(make undeploy)"
        )


def _check_free(port: int) -> None:
    """Refuse a port on which something listens: another program, or a server with somebody else's runs and limits."""
    if _answers(port):
        raise DeployError(
            f"port {port}: a Prefect server that this checkout did not start answers there; give another --port, or bring "
            "the deployments to that one by hand (docs/operations.md, By hand)"
        )
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise DeployError(f"port {port}: something that is no Prefect server listens there; give another --port")


def _wait_for(name: str, is_up: Callable[[], bool], home: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while not is_up():
        if time.monotonic() > deadline or not _lives(_pid_file(home, name)):
            raise DeployError(f"the {name} did not come up; its words are in {home / f'{name}.log'}")
        time.sleep(0.3)


def _has_worker(port: int) -> bool:
    """Whether a worker of the pool has lately told the server that it lives."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/work_pools/{POOL}", timeout=2) as answer:
            return bool(json.loads(answer.read())["status"] == "READY")
    except (OSError, ValueError, KeyError):
        return False


def _prefect(arguments: list[str], environment: dict[str, str]) -> str:
    command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeployError(f"prefect {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _start(name: str, arguments: list[str], environment: dict[str, str], home: Path) -> None:
    """Start something that outlives this process, in a process group of its own."""
    with open(home / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("prefect")), *arguments],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file(home, name).write_text(f"{process.pid}\n", encoding="utf-8")
    _children.append(process)


_children: list["subprocess.Popen[bytes]"] = []
"""Started by this process: one that ended at once is to be seen as ended, and not as a zombie that lives."""


def _pid_file(home: Path, name: str) -> Path:
    return home / f"{name}.pid"


def _port_file(home: Path) -> Path:
    return home / "server.port"


def _lives(path: Path) -> bool:
    """Whether the process that a file names lives, and is Prefect's: its number may be another's by now."""
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
