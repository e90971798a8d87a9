"""The cost of Prefect: a config's stages as plain functions, as a flow without a server, and as a flow with one.

    python -m benchmarks.overhead --config configs/demo.yaml --out docs/operations.md

Each is a process with its own run directory, run twice: the second time all stages are done. Processor seconds are those
of the process and of the children that it waited for, including a server that ends with its flow, excluding a server that
stays. With --out, the table replaces that file's section `overhead`.
"""

import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks import tables
from benchmarks.docs.marked_sections import replace_section
from benchmarks.runner import ConfigPath, Overrides, run_command
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.points import signed
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.prepare import prepare

PLAIN = "plain functions"
_START_SECONDS = 60.0


class Cost(NamedTuple):
    """Of one process, in seconds."""

    wall: float
    processor: float


def main(
    config: ConfigPath = Path("configs/demo.yaml"),
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="A Markdown file with marks for the table.")] = None,
) -> None:
    """Run the cycle each way, twice, and print the table."""
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": home, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        environment["PREFECT_API_URL"] = ""  # a running server is not looked for
        settings = [*(overrides or []), f"runs_root={home}/runs"]
        # Draw the faces and read them once, so that the first process measured has no extra work.
        loaded = load_config(config, overrides=settings)
        draw(loaded)
        prepare(loaded, RunDir(loaded.runs_root / "prepared"))
        options = ["--config", str(config), *(option for setting in settings for option in ("--set", setting))]
        with _server(environment) as served:
            ways = {
                PLAIN: ("benchmarks.plain_cycle", "plain", environment),
                "flow, no server": ("flows.full_cycle", "alone", environment),
                "flow, with a server": ("flows.full_cycle", "served", served),
            }
            costs = {}
            for way, (module, run_name, variables) in ways.items():
                command = [sys.executable, "-m", module, "--run-name", run_name, *options]
                costs[way] = (_measure(command, variables), _measure(command, variables))
    text = report(costs, config, overrides or [])
    print(text)
    if out is not None:
        replace_section(out, "overhead", text)


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run a Prefect server; yield the environment of its clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    served = environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--host", "127.0.0.1", "--port", port]
    server = subprocess.Popen(command, env=served, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(int(port)):
            if time.monotonic() > deadline:
                raise SystemExit(f"the Prefect server did not start within {_START_SECONDS:.0f} s")
            time.sleep(0.2)
        yield served
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _measure(command: list[str], environment: dict[str, str]) -> Cost:
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def report(costs: dict[str, tuple[Cost, Cost]], config: Path, overrides: list[str]) -> str:
    """Lay out the costs of the first and the second run as Markdown."""
    plain = costs[PLAIN][0].processor
    rows = []
    for way, (first, again) in costs.items():
        more = first.processor - plain
        times = [f"{seconds:.1f}" for seconds in (*first, *again)]
        rows.append([way, *times[:2], f"{signed(more)} ({signed(100 * more / plain)} %)", *times[2:]])
    header = ["", "seconds", "processor seconds", "more than plain", "again, all done: seconds", "processor seconds"]
    settings = "".join(f" --set {override}" for override in overrides)
    return "\n".join(
        [
            f"`python -m benchmarks.overhead --config {config}{settings}`, whole processes with their start; "
            f"{os.cpu_count()} cores, {platform.machine()}:",
            "",
            *tables.markdown_table(header, "lrrrrr", rows),
        ]
    )


if __name__ == "__main__":
    run_command(main)
