"""What does Prefect cost? A config's stages as plain functions, as a flow without a server, and with one; then done again.

    python -m benchmarks.overhead --config configs/demo.yaml --out docs/operations.md

Each is a process of its own, in a run directory of its own. Processor seconds are those of the process and of what it
started and waited for, a server that ends with its flow among them; a server that stays is not in them. With --out, the
figures go between that file's marks.
"""

import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.marks import fill

PREPARE = """
import sys
from pathlib import Path
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.prepare import prepare
config = load_config(Path(sys.argv[1]), overrides=sys.argv[2:], run_name="prepared")
with open_run(config) as run:
    draw(config)
    prepare(config, run)
"""
PLAIN = """
import sys
from pathlib import Path
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.train import train_student, train_teacher
config = load_config(Path(sys.argv[1]), overrides=sys.argv[3:], run_name=sys.argv[2])
with open_run(config) as run:
    draw(config)
    prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    select(config, run, 1)
    train_student(config, run, 1)
    finish(config, run, [RoundOutcome(1, gate=gate(config, run, 1, run.teacher))])
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
            # faces that are drawn, once for all runs, are none of the three's business
            _timed([sys.executable, "-c", PREPARE, str(config), *settings], alone)
            taken = {way: (_timed(*how), _timed(*how)) for way, how in ways.items()}
        finally:
            server.terminate()
            server.wait()
    text = _table(taken, config, overrides or [])
    print(text)
    if out is not None:
        fill(out, "overhead", text)


class Taken(NamedTuple):
    """What a command took, in seconds."""

    wall: float
    processor: float


def _timed(command: list[str], environment: dict[str, str]) -> Taken:
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-2000:]}")
    return Taken(wall, usage.ru_utime + usage.ru_stime)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("the server did not start")


def _table(taken: dict[str, tuple[Taken, Taken]], config: Path, overrides: list[str]) -> str:
    plain = taken["plain functions"][0]
    shown = "".join(f" --set {override}" for override in overrides)
    lines = [
        f"`python -m benchmarks.overhead --config {config}{shown}`, whole processes with their start; {os.cpu_count()} cores, "
        f"{platform.machine()}:",
        "",
        "| | seconds | processor seconds | more than plain | again, all done: seconds | processor seconds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, (first, again) in taken.items():
        more = first.processor - plain.processor
        lines.append(
            f"| {way} | {first.wall:.1f} | {first.processor:.1f} | {more:+.1f} ({100 * more / plain.processor:+.1f} %) "
            f"| {again.wall:.1f} | {again.processor:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
