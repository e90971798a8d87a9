"""`make deploy` refuses in words what it cannot do; that it brings all up is tried with a real server elsewhere."""

import json
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows.operations import deploy


def test_a_port_where_something_else_listens_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(deploy.DeployError, match=f"port {port}: something that is no Prefect server listens there"):
            deploy._check_free(port)


class _Server(BaseHTTPRequestHandler):
    """Answers as a Prefect server does whose pool has no worker yet, and then one."""

    worker_is_there = False

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        pool = {"name": "local", "status": "READY" if type(self).worker_is_there else "NOT_READY"}
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


def test_somebody_elses_server_is_left_alone(
    port_of_a_server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(deploy, "_prefect", lambda *_: pytest.fail("something was changed there"))
    with pytest.raises(deploy.DeployError, match="a Prefect server that this checkout did not start answers there"):
        deploy.up(port_of_a_server)
    assert not list(tmp_path.iterdir())


def test_a_worker_is_waited_for_until_the_server_has_heard_of_it(
    port_of_a_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not deploy._has_worker(port_of_a_server)
    monkeypatch.setattr(_Server, "worker_is_there", True)
    assert deploy._has_worker(port_of_a_server)


def test_a_worker_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(deploy.DeployError, match=f"the worker did not come up; its words are in {tmp_path}/worker.log"):
        deploy._wait_for("worker", lambda: False, tmp_path)


def test_a_second_server_on_another_port_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy._pid_file(tmp_path, "server").write_text(f"{os.getpid()}\n")
    deploy._port_file(tmp_path).write_text("4200\n")
    monkeypatch.setattr(deploy, "_lives", lambda path: True)
    with pytest.raises(deploy.DeployError, match="a server of this checkout runs on port 4200; give --port 4200"):
        deploy._check_no_other_port(tmp_path, 4300)
    deploy._check_no_other_port(tmp_path, 4200)
    monkeypatch.setattr(deploy, "_lives", lambda path: False)
    deploy._check_no_other_port(tmp_path, 4300)


def test_a_process_number_that_is_another_programs_by_now_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = deploy._pid_file(tmp_path, "worker")
    assert not deploy._lives(path)
    path.write_text("1\n")
    assert not deploy._lives(path)
