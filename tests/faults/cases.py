"""The faults. Each case breaks something, observes what follows, and resumes the run.

`run_faults` compares the final manifest and weights with those of an uninterrupted run.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.faults.station import Station, await_that
from tests.flows.conftest import ROOT

AUTOMATION = ROOT / "deploy/automations/left_as_running.yaml"


@dataclass
class Report:
    """The observations of a case."""

    observations: list[str] = field(default_factory=list)
    resumed: str = ""

    def observe(self, observation: str) -> None:
        self.observations.append(observation)


@dataclass(frozen=True)
class Case:
    name: str
    fault: str
    """What is broken, and when."""
    run: Callable[[Station, Report], None]
    two_processes: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    needs_root: bool = False


def teacher_is_training(station: Station) -> bool:
    return (station.run / "round-00/teacher/last.pt").exists()


def student_is_training(station: Station) -> bool:
    return (station.run / "round-01/student/last.pt").exists()


def shards_are_written(station: Station) -> bool:
    return (station.run / "round-01/pseudo_labels/predictions/part-00003.parquet").exists()


def is_selecting(station: Station) -> bool:
    return (station.run / "round-01/pseudo_labels/predictions/done.json").exists()


def kill_local_run(station: Station, moment: Callable[[Station], bool], unfinished: str, report: Report) -> None:
    process = station.local()
    await_that(lambda: moment(station), moment.__name__, every=0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (station.run / unfinished / "done.json").exists(), f"{unfinished} was finished before the kill"
    status = station.command("ssl_pipeline.cli.main", "cycle", "status", str(station.run)).stdout
    assert f": left as running: process {process.pid} took it" in status, status
    report.observe("`cycle status`: left as running, by a dead process")
    again = station.local()
    assert again.wait(240) == 0, station.logs()
    log = (station.directory / "local.log").read_text()
    num_skipped = log.count("finished before, skipped")
    assert num_skipped >= 1, log
    report.resumed = f"the same command resumed: {num_skipped} finished records skipped"
    if "training resumes after epoch" in log:
        report.resumed += "; the training at its last step"


def killed_in_training(station: Station, report: Report) -> None:
    kill_local_run(station, student_is_training, "round-01/student", report)


def killed_in_prediction(station: Station, report: Report) -> None:
    kill_local_run(station, shards_are_written, "round-01/pseudo_labels/predictions", report)


def killed_in_selection(station: Station, report: Report) -> None:
    kill_local_run(station, is_selecting, "round-01/pseudo_labels", report)


def flow_killed_under_its_worker(station: Station, report: Report) -> None:
    station.start_worker()
    flow_run = station.start_run()
    await_that(lambda: student_is_training(station), "the student trains")
    station.kill(station.engine(flow_run))
    killed = time.monotonic()
    station.await_state(flow_run, "Crashed")
    report.observe(f"the worker reported Crashed after {time.monotonic() - killed:.0f} s")
    # the worker's second report, when its own child has ended, would end a retry that has already started
    worker_log = station.directory / "worker.log"
    await_that(lambda: worker_log.read_text().count("Check whether the flow run exceeded") == 2, "the second report")
    report.observe(f"and again after {time.monotonic() - killed:.0f} s")
    retry(station, flow_run, report)


def retry(station: Station, flow_run: str, report: Report) -> None:
    station.retry(flow_run)
    started = time.monotonic()
    station.await_state(flow_run, "Running")
    station.await_state(flow_run, "Completed")
    report.resumed = f"`prefect flow-run retry`: Completed after {time.monotonic() - started:.0f} s"


def kill_worker_and_flow(station: Station) -> str:
    worker = station.start_worker()
    flow_run = station.start_run()
    await_that(lambda: student_is_training(station), "the student trains")
    engine = station.engine(flow_run)
    worker.kill()
    station.kill(engine)
    worker.wait()
    return flow_run


def worker_and_flow_killed(station: Station, report: Report) -> None:
    flow_run = kill_worker_and_flow(station)
    time.sleep(5)
    assert station.state(flow_run) == "Running"
    report.observe("left as Running")
    listed = station.command("flows.operations.stuck")
    assert listed.returncode == 3 and "Running: dead: " in listed.stdout, listed.stdout + listed.stderr
    report.observe("`python -m flows.operations.stuck`: dead")
    marked = station.command("flows.operations.stuck", "--mark")
    assert marked.returncode == 0 and "set to Crashed" in marked.stdout, marked.stdout + marked.stderr
    assert station.state(flow_run) == "Crashed"
    report.observe("`--mark`: Crashed")
    station.start_worker()
    retry(station, flow_run, report)


def found_by_the_automation(station: Station, report: Report) -> None:
    automation = yaml.safe_load(AUTOMATION.read_text())
    automation["trigger"]["within"] = 60
    path = station.directory / "automation.yaml"
    path.write_text(yaml.safe_dump(automation))
    station.check(station.operator.run("automation", "create", "--from-file", str(path)))
    flow_run = kill_worker_and_flow(station)
    killed = time.monotonic()
    station.await_state(flow_run, "Crashed")
    report.observe(f"the automation set it to Crashed after {time.monotonic() - killed:.0f} s")
    station.start_worker()
    retry(station, flow_run, report)


def server_killed_and_restarted(station: Station, report: Report) -> None:
    station.start_worker()
    flow_run = station.start_run()
    await_that(lambda: teacher_is_training(station), "the teacher trains")
    station.kill_server()
    killed = time.monotonic()
    await_that(lambda: (station.run / "round-01/student/done.json").exists(), "the student is trained without a server")
    time.sleep(max(0.0, killed + 20 - time.monotonic()))
    report.observe(f"stages continued without a server; it was restarted after {time.monotonic() - killed:.0f} s")
    station.start_server()
    station.await_state(flow_run, "Completed")
    report.resumed = "the same flow run: Completed without a restart"


def server_killed_for_good(station: Station, report: Report) -> None:
    station.start_worker()
    flow_run = station.start_run(PREFECT_CLIENT_MAX_RETRIES="1")
    await_that(lambda: student_is_training(station), "the student trains")
    engine = station.engine(flow_run)
    station.kill_server()
    await_that(lambda: not Path(f"/proc/{engine}/exe").exists(), "the flow gives up", seconds=240)
    status = station.status()["status"]
    report.observe(f"with one retry instead of eight, the flow's process gave up; run.json: {status}")
    station.start_server()
    time.sleep(10)
    report.observe(f"on the restarted server the flow run was {station.state(flow_run)}")
    if station.state(flow_run) == "Running":
        marked = station.command("flows.operations.stuck", "--mark")
        assert "set to Crashed" in marked.stdout, marked.stdout + marked.stderr
        report.observe("`python -m flows.operations.stuck --mark`: Crashed")
    retry(station, flow_run, report)


def one_torchrun_process_killed(station: Station, report: Report) -> None:
    station.start_worker()
    flow_run = station.start_run()
    await_that(lambda: teacher_is_training(station), "the teacher trains")
    training = [pid for pid, command in station.flow_processes(flow_run).items() if "-u -m ssl_pipeline" in command]
    assert len(training) == 2, station.flow_processes(flow_run)
    station.kill(max(training))
    killed = time.monotonic()
    station.await_state(flow_run, "Failed")
    message = station.api(f"flow_runs/{flow_run}")["state"]["message"]
    assert "a training process ended with code" in message, message
    await_that(lambda: not station.flow_processes(flow_run), "all processes are gone")
    report.observe(
        f"Failed, and no process left, after {time.monotonic() - killed:.0f} s: “a training process ended …”"
    )
    retry(station, flow_run, report)


def cancel_at(station: Station, moment: Callable[[Station], bool], unfinished: str, report: Report) -> None:
    station.start_worker()
    flow_run = station.start_run()
    await_that(lambda: moment(station), moment.__name__, every=0.001)
    num_processes = len(station.flow_processes(flow_run))
    station.cancel(flow_run)
    requested = time.monotonic()
    await_that(lambda: not station.flow_processes(flow_run), "all processes are gone", seconds=60)
    gone = time.monotonic() - requested
    assert not (station.run / unfinished / "done.json").exists(), f"{unfinished} was finished before the cancel"
    station.await_state(flow_run, "Cancelled")
    assert station.status()["status"] == "cancelled"
    report.observe(
        f"{num_processes} {'processes' if num_processes > 1 else 'process'} gone after {gone:.0f} s, the flow run "
        f"Cancelled after {time.monotonic() - requested:.0f} s; run.json: cancelled"
    )
    again = station.local()
    assert again.wait(240) == 0, station.logs()
    report.resumed = "the same command resumed"


def cancelled_in_training(station: Station, report: Report) -> None:
    cancel_at(station, teacher_is_training, "round-00/teacher", report)


def cancelled_in_prediction(station: Station, report: Report) -> None:
    cancel_at(station, shards_are_written, "round-01/pseudo_labels/predictions", report)


def disk_full(station: Station, report: Report) -> None:
    """The run's disk is too small for the pixels, then for the teacher, then for the rest."""
    folder = station.directory / "runs"
    folder.mkdir()
    mount(folder, "400k")
    try:
        for size, stage in (("400k", "faces"), ("1300k", "round-00/teacher"), ("3m", None)):
            mount(folder, size, again=True)
            process = station.local()
            code = process.wait(240)
            log = (station.directory / "local.log").read_text()
            assert code == 1 and "Traceback" not in log, log
            message = next(line for line in log.splitlines() if "RunError" in line or "disk full" in line)
            assert "disk full" in message, log
            if stage is not None:
                assert not (station.run / stage / "done.json").exists()
            partial = [path.name for path in station.run.rglob("*.partial")]
            assert not partial, partial
            report.observe(
                f"{size}: “{message.partition(': ')[2].partition(' cannot')[0].replace(str(station.directory), '…')} cannot be written”"
            )
        mount(folder, "64m", again=True)
        assert station.local().wait(240) == 0, station.logs()
        backup = station.directory / "backup"
        shutil.copytree(folder, backup)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.copytree(backup, folder, dirs_exist_ok=True)
    report.resumed = "with space freed, the same command resumed"


def mount(folder: Path, size: str, *, again: bool = False) -> None:
    options = f"{'remount,' if again else ''}size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


LEASES = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}


def gpu_slot_released(station: Station, report: Report) -> None:
    """The holder of the limit's only slot is killed and the server restarted; the slot is released."""
    station.check(station.operator.run("gcl", "create", "gpu", "--limit", "1"))
    flow_run = kill_worker_and_flow(station)
    killed = time.monotonic()
    assert num_active_slots(station) == 1
    station.kill_server()
    station.start_server()
    assert num_active_slots(station) == 1
    station.command("flows.operations.stuck", "--mark")
    station.start_worker()
    station.retry(flow_run)
    station.await_state(flow_run, "Running")
    await_that(lambda: num_active_slots(station) == 0, "the slot is free", seconds=240, every=0.5)
    report.observe(
        f"the killed training's slot was released after {time.monotonic() - killed:.0f} s, across a server restart"
    )
    station.await_state(flow_run, "Completed")
    assert num_active_slots(station) == 0
    report.resumed = "the retried run waited, took the slot and completed; no slot is left occupied"


def num_active_slots(station: Station) -> int:
    return int(station.api("v2/concurrency_limits/gpu")["active_slots"])


CASES = (
    Case("Flow process, in training", "`kill -9` of the local command while the student trains", killed_in_training),
    Case("Flow process, in prediction", "`kill -9` when 4 of 25 shards are written", killed_in_prediction),
    Case("Flow process, in selection", "`kill -9` as soon as the last shard is written", killed_in_selection),
    Case("Flow process under a worker", "`kill -9` while the student trains", flow_killed_under_its_worker),
    Case("Worker and flow", "`kill -9` of both while the student trains", worker_and_flow_killed),
    Case(
        "Worker and flow, with the automation",
        "the same; `left_as_running.yaml` with 60 s instead of 300",
        found_by_the_automation,
        environment={"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
    ),
    Case("Server, restarted", "`kill -9` while the teacher trains", server_killed_and_restarted),
    Case(
        "Server, down for longer than the flow retries",
        "`kill -9` while the student trains",
        server_killed_for_good,
    ),
    Case(
        "One torchrun process",
        "`kill -9` of one of two training processes",
        one_torchrun_process_killed,
        two_processes=True,
    ),
    Case(
        "Cancel, in training",
        "state Cancelling through the API while two processes train",
        cancelled_in_training,
        two_processes=True,
    ),
    Case("Cancel, in prediction", "the same when 4 of 25 shards are written", cancelled_in_prediction),
    Case("Full disk", "the run's folder on a tmpfs that is too small, three times", disk_full, needs_root=True),
    Case(
        "A killed training's slot in the limit",
        "worker, flow and server killed while a training holds the only slot of `gpu`",
        gpu_slot_released,
        environment={"SSL_PIPELINE_GPU_LIMIT": "gpu", **LEASES},
    ),
)
