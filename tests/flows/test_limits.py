"""GPU slots, flow runs of dead processes and the automation for them, on a real server."""

import json
import select
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cycle_config import write_tiny_config
from tests.flows.conftest import ROOT, Operator

pytestmark = [pytest.mark.flows, pytest.mark.slow]

HOLD = """
import sys
from prefect import flow
from flows.operations.limits import gpu_slots
@flow
def hold(name, num_gpus):
    import os
    os.environ["SSL_PIPELINE_GPU_LIMIT"] = name
    with gpu_slots(num_gpus):
        print(name, "held", flush=True)
        sys.stdin.readline()
hold("places", 2)
hold("absent", 2)
hold("few", 2)
"""


def python(operator: Operator, *arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=operator.environment,
        cwd=ROOT,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def active_slots(operator: Operator, name: str) -> int:
    url = f"http://127.0.0.1:{operator.port}/api/v2/concurrency_limits/{name}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return int(json.loads(answer.read())["active_slots"])


def test_the_server_holds_slots_while_they_are_used(operator: Operator) -> None:
    for name, size in (("places", "2"), ("few", "1")):
        assert operator.run("gcl", "create", name, "--limit", size).returncode == 0
    holder = python(operator, "-c", HOLD)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "places held\n"
    assert active_slots(operator, "places") == 2
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "absent held\n"  # no such limit: no waiting
    assert active_slots(operator, "places") == 0
    _, errors = holder.communicate(timeout=60)
    assert "training.num_processes 2: each needs a slot of the limit 'few', which has 1" in errors


def test_of_two_trainings_for_one_slot_the_second_waits_for_the_first(operator: Operator) -> None:
    """Two processes, like two flow runs of a worker."""
    assert operator.run("gcl", "create", "one", "--limit", "1").returncode == 0
    code = (
        "import os, sys; os.environ['SSL_PIPELINE_GPU_LIMIT'] = 'one'\n"
        "from prefect import flow; from flows.operations.limits import gpu_slots\n"
        "@flow\n"
        "def trains():\n"
        "    with gpu_slots(1):\n"
        "        print('begun', flush=True); sys.stdin.readline()\n"
        "trains()"
    )
    first, second = python(operator, "-c", code), python(operator, "-c", code)
    for process in (first, second):
        assert process.stdout is not None and process.stdin is not None
    begun = select.select([first.stdout, second.stdout], [], [], 60)[0]
    assert len(begun) == 1, "both or neither began"
    one, other = (first, second) if begun[0] is first.stdout else (second, first)
    assert one.stdout.readline() == "begun\n"
    assert not select.select([other.stdout], [], [], 3)[0], "the second did not wait"
    assert active_slots(operator, "one") == 1
    one.communicate("\n", timeout=60)
    assert select.select([other.stdout], [], [], 60)[0], "the second never began"
    other.communicate("\n", timeout=60)
    assert (one.returncode, other.returncode, active_slots(operator, "one")) == (0, 0, 0)


def test_a_flow_run_of_a_dead_process_is_found_and_set_to_crashed(operator: Operator, tmp_path: Path) -> None:
    """A local flow is killed inside its run; no worker reports that."""
    config = write_tiny_config(tmp_path)
    code = (
        "import sys, os, signal; from pathlib import Path; from prefect import flow; from prefect.runtime import flow_run\n"
        "from ssl_pipeline.config.loading import load_config; from ssl_pipeline.runs.records import RunDir\n"
        "@flow(name='full-cycle')\n"
        "def dies(config_path, overrides, run_name):\n"
        "    config = load_config(Path(config_path))\n"
        "    with RunDir(config.runs_root / config.run_name).lock(str(flow_run.id)): os.kill(os.getpid(), signal.SIGKILL)\n"
        "dies(sys.argv[1], [], None)"
    )
    process = python(operator, "-c", code, str(config))
    process.communicate(timeout=60)
    listed = python(operator, "-m", "flows.operations.stuck")
    output, _ = listed.communicate(timeout=60)
    assert listed.returncode == 3
    assert f"Running: dead: process {process.pid} took {tmp_path / 'runs/tiny'}" in output
    assert "to resume: start the same command again" in output

    marked = python(operator, "-m", "flows.operations.stuck", "--mark")
    output, _ = marked.communicate(timeout=60)
    assert (marked.returncode, "set to Crashed" in output) == (0, True)
    again, _ = python(operator, "-m", "flows.operations.stuck").communicate(timeout=60)
    assert "0 dead" in again


def test_a_flow_run_that_may_run_on_another_host_is_left_alone(operator: Operator, tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path)
    code = (
        "import sys; from prefect import flow\n"
        "@flow(name='full-cycle')\n"
        "def waits(config_path, overrides, run_name): print('here', flush=True); sys.stdin.read()\n"
        "waits(sys.argv[1], [], None)"
    )
    process = python(operator, "-c", code, str(config))
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    output, _ = python(operator, "-m", "flows.operations.stuck", "--mark").communicate(timeout=60)
    assert "unknown: none of its processes is noted as the last one that worked in a run on this host" in output
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_server_accepts_the_automation(operator: Operator) -> None:
    path = "deploy/automations/left_as_running.yaml"
    created = operator.run("automation", "create", "--from-file", path)
    assert created.returncode == 0, created.stdout + created.stderr
    content = operator.run("automation", "inspect", "left-as-running", "--yaml").stdout
    assert "Proactive" in content and "within: 300" in content and "CRASHED" in content, content
