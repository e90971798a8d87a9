"""`deploy`: prefect.yaml in any folder, and what is refused; test_wheel.py starts a real server."""

import json
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from flows.operations import deploy
from tests.flows.conftest import ROOT


def test_a_port_where_something_else_listens_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            deploy.DeployError, match=f"port {port}: a program that is not a Prefect server listens there"
        ):
            deploy._check_free(port)


class _Server(BaseHTTPRequestHandler):
    """A stand-in for a Prefect server whose pool has no worker, or has one."""

    has_worker = False

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        pool = {"name": "local", "status": "READY" if type(self).has_worker else "NOT_READY"}
        self.wfile.write(b"true" if self.path.endswith("/health") else json.dumps(pool).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def port_of_a_server() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_another_folders_server_is_left_alone(
    port_of_a_server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(deploy, "_prefect", lambda *_: pytest.fail("something was changed there"))
    with pytest.raises(
        deploy.DeployError, match="a Prefect server that was not started from this folder listens there"
    ):
        deploy.up(port_of_a_server)
    assert not list((tmp_path / "home").iterdir())


def test_a_worker_counts_once_the_server_has_its_heartbeat(
    port_of_a_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not deploy._has_worker(port_of_a_server)
    monkeypatch.setattr(_Server, "has_worker", True)
    assert deploy._has_worker(port_of_a_server)


def test_a_worker_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(deploy.DeployError, match=f"the worker did not start; its log is {tmp_path}/worker.log"):
        deploy._wait_for("worker", lambda: False, tmp_path)


def test_a_second_server_on_another_port_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy._pid_file(tmp_path, "server").write_text(f"{os.getpid()}\n")
    deploy._port_file(tmp_path).write_text("4200\n")
    monkeypatch.setattr(deploy, "_is_alive", lambda path: True)
    with pytest.raises(deploy.DeployError, match="a server of this folder runs on port 4200; give --port 4200"):
        deploy._check_no_other_port(tmp_path, 4300)
    deploy._check_no_other_port(tmp_path, 4200)
    monkeypatch.setattr(deploy, "_is_alive", lambda path: False)
    deploy._check_no_other_port(tmp_path, 4300)


def test_a_reused_process_number_does_not_count_as_alive(tmp_path: Path) -> None:
    path = deploy._pid_file(tmp_path, "worker")
    assert not deploy._is_alive(path)
    path.write_text("1\n")
    assert not deploy._is_alive(path)


def test_init_writes_deployments_with_module_entry_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    deploy.init(folder)
    deployments = yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]
    assert {deployment["entrypoint"].partition(":")[0] for deployment in deployments} == {
        f"ssl_pipeline_flows.{name}"
        for name in ("full_cycle", "build_masked_faces", "train_teacher", "pseudo_label", "train_student")
    }
    deploy.init(folder)
    assert capsys.readouterr().out.count(f"{folder / 'prefect.yaml'}: deployments of all flows; next: python -m ") == 2


def test_init_never_overwrites_another_prefect_yaml(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("name: other\n")
    with pytest.raises(deploy.DeployError, match=r"prefect.yaml: exists and differs; keep it and add the deployments"):
        deploy.init(tmp_path)
    assert (tmp_path / "prefect.yaml").read_text() == "name: other\n"


def test_the_checkout_has_the_deployments_that_init_writes() -> None:
    assert (ROOT / "prefect.yaml").read_text() == deploy.DEPLOYMENTS.read_text()
