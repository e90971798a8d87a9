"""What does Prefect cost? A config's stages as plain functions, as a flow without a server, and with one; then done again.

    python -m benchmarks.overhead --config configs/demo.yaml --out docs/operations.md

Each is a process of its own, in a run directory of its own. With --out, the figures go between that file's marks.
"""

import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.marks import fill

PLAIN = """
import sys
from pathlib import Path
from ssl_pipeline import judging, session, stages
from ssl_pipeline.config_loading import load_config
config = load_config(Path(sys.argv[1]), overrides=sys.argv[3:], run_name=sys.argv[2])
with session.open_run(config) as run:
    stages.prepare(config, run)
    stages.train_teacher(config, run)
    stages.predict(config, run, 1, run.teacher / "best.safetensors")
    stages.select(config, run, 1)
    stages.train_student(config, run, 1)
    decision = judging.gate(config, run, 1, run.teacher)
    session.finish(config, run, last_round=1, promoted=run.student(1) if decision["promoted"] else run.teacher)
"""


def main(
    config: Annotated[Path, typer.Option()] = Path("configs/demo.yaml"),
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    out: Annotated[Path | None, typer.Option(help="A Markdown file with marks for the table.")] = None,
) -> None:
    """Run it each way, twice, and tell the seconds."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        alone |= {"PREFECT_HOME": home, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        served = alone | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        settings = [*(overrides or []), f"runs_root={home}/runs"]
        flow = [sys.executable, "-m", "flows.full_cycle", "--config", str(config)]
        options = [option for setting in settings for option in ("--set", setting)]
        ways = {
            "plain functions": ([sys.executable, "-c", PLAIN, str(config), "plain", *settings], alone),
            "flow, no server": ([*flow, "--run-name", "alone", *options], alone),
            "flow, with a server": ([*flow, "--run-name", "served", *options], served),
        }
        prefect = str(Path(sys.executable).with_name("prefect"))
        server = subprocess.Popen(
            [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=served,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(port)
            seconds = {way: [_seconds(*how), _seconds(*how)] for way, how in ways.items()}
        finally:
            server.terminate()
            server.wait()
    text = _table(seconds, config, overrides or [])
    print(text)
    if out is not None:
        fill(out, "overhead", text)


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.monotonic() - started


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("the server did not start")


def _table(seconds: dict[str, list[float]], config: Path, overrides: list[str]) -> str:
    plain = seconds["plain functions"][0]
    shown = "".join(f" --set {override}" for override in overrides)
    lines = [
        f"`python -m benchmarks.overhead --config {config}{shown}`, whole processes with their start; {os.cpu_count()} cores, "
        f"{platform.machine()}:",
        "",
        "| | seconds | of plain | again, all done: seconds |",
        "|---|---:|---:|---:|",
    ]
    lines += [f"| {way} | {first:.1f} | {first / plain:.2f} | {again:.1f} |" for way, (first, again) in seconds.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
