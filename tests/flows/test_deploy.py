"""`make deploy` refuses in words what it cannot do; that it brings all up is tried with a real server elsewhere."""

import os
import socket
from pathlib import Path

import pytest

from flows import deploy


def test_a_port_where_something_else_listens_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(deploy.DeployError, match=f"port {port}: something that is no Prefect server listens there"):
            deploy._check_free(port)


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
