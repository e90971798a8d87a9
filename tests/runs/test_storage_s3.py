"""The full cycle kept on a local S3 server over HTTP: another machine repeats no stage and loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import StorageError
from ssl_pipeline.runs.storage.remote import RemoteDirectory
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from tests.cycle_config import draw_and_prepare, write_tiny_config

pytest.importorskip("s3fs", reason="needs the extra [s3]")
moto_server = pytest.importorskip("moto.server", reason="needs moto with flask and flask-cors")

pytestmark = pytest.mark.slow

KEPT = (
    "round-01/pseudo_labels/manifest.parquet",
    "round-00/teacher/best.safetensors",
    "round-01/student/best.safetensors",
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start a server with a bucket named `bucket`, and set the environment to reach it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        patch.setenv("AWS_ENDPOINT_URL", url)
        import s3fs

        s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True).mkdir("bucket")
        yield url
        server.stop()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


def config_on(machine: Path, raw: Path, endpoint: str | None, *, name: str = "tiny") -> Path:
    """Write the tiny cycle's config for a machine with the disk `machine`."""
    machine.mkdir(exist_ok=True)
    storage = {
        "url": "s3://bucket/runs",
        "options": {"endpoint_url": endpoint},
        "every_seconds": 0.1,
    }
    return write_tiny_config(machine, root=raw, run_name=name, storage=storage if endpoint else None)


def run_cycle(config: RunConfig) -> tuple[dict[str, bytes], list[bool]]:
    """Run a cycle; returns its files, and for each stage whether it was skipped."""
    with open_run(config) as run:
        records = [
            draw_and_prepare(config, run),
            train_teacher(config, run),
            predict(config, run, 1, run.teacher / "best.safetensors"),
            select(config, run, 1),
            train_student(config, run, 1),
        ]
        finish(config, run, [RoundOutcome(1, gate=gate(config, run, 1, run.teacher))])
    return {name: (run.root / name).read_bytes() for name in KEPT}, [record.skipped for record in records]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> dict[str, bytes]:
    """Files of the cycle without a storage."""
    return run_cycle(load_config(config_on(tmp_path_factory.mktemp("alone"), raw, None)))[0]


def test_another_machine_with_an_empty_disk_skips_every_stage(
    tmp_path: Path, raw: Path, endpoint: str, expected: dict[str, bytes]
) -> None:
    first, skipped = run_cycle(load_config(config_on(tmp_path / "first", raw, endpoint)))
    assert first == expected
    assert not any(skipped)
    second, skipped = run_cycle(load_config(config_on(tmp_path / "second", raw, endpoint)))
    assert second == expected
    assert all(skipped)
    here, there = (
        {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
        for root in (tmp_path / "first/runs/tiny", tmp_path / "second/runs/tiny")
    )
    assert here == there

    url = "s3://bucket/runs/tiny/round-01/pseudo_labels/manifest.parquet"
    shown = CliRunner().invoke(app, ["manifest", "summary", url])
    assert shown.exit_code == 0, shown.output
    assert "100" in shown.output


TRAIN_UNTIL_EPOCH_2 = """
import sys, time
from pathlib import Path
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.learning.loop import TrainingLoop
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare
run_epoch = TrainingLoop.run_epoch
def run_two_epochs(self, *args, **kwargs):
    if self.progress.epoch == 2:
        time.sleep(600)
    return run_epoch(self, *args, **kwargs)
TrainingLoop.run_epoch = run_two_epochs
config = load_config(Path(sys.argv[1]), overrides=["storage.lock_seconds=1"])
with open_run(config) as run:
    draw_and_prepare(config, run)
    train_teacher(config, run)
"""


def test_a_machine_lost_during_training_costs_only_what_was_not_uploaded_and_changes_no_byte(
    tmp_path: Path, raw: Path, endpoint: str, expected: dict[str, bytes]
) -> None:
    lost = config_on(tmp_path / "lost", raw, endpoint, name="lost")
    remote = RemoteDirectory("s3://bucket/runs/lost", {"endpoint_url": endpoint})
    process = subprocess.Popen([sys.executable, "-c", TRAIN_UNTIL_EPOCH_2, str(lost)], start_new_session=True)
    try:
        wait_for(lambda: process.poll() is not None or "round-00/teacher/last.pt" in remote.sizes())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stored = remote.sizes()
    assert {"faces/done.json", "round-00/teacher/trained.safetensors", "round-00/teacher/last.pt"} <= set(stored)
    assert "round-00/teacher/done.json" not in stored
    time.sleep(2.1)  # the lost machine's lock expires

    other = config_on(tmp_path / "other", raw, endpoint, name="lost")
    config = load_config(other, overrides=["storage.lock_seconds=1"])
    with open_run(config) as run:
        assert draw_and_prepare(config, run).skipped
        record = train_teacher(config, run)
    assert record.resumed_from_epoch > 0
    assert (run.teacher / "best.safetensors").read_bytes() == expected["round-00/teacher/best.safetensors"]
    assert {"round-00/teacher/done.json", "run.json"} <= set(remote.sizes())


def test_a_missing_bucket_is_refused_before_any_work(tmp_path: Path, raw: Path, endpoint: str) -> None:
    config = load_config(config_on(tmp_path / "x", raw, endpoint), overrides=["storage.url=s3://nowhere/runs"])
    with pytest.raises(StorageError, match=r"s3://nowhere/runs/tiny/lock\.json: cannot be written"), open_run(config):
        raise AssertionError("no run without its storage")


def wait_for(condition: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
