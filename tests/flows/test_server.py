"""The server of a local run: the named one, a running one of this user's, or none."""

import json
import logging
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import prefect
import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_PORT,
    get_current_settings,
    temporary_settings,
)

from flows.operations import server
from flows.operations.server import check_server, chosen_server, find_server
from ssl_pipeline.errors import PipelineError


class _Server(BaseHTTPRequestHandler):
    """A stand-in for a Prefect server."""

    status, version = 200, prefect.__version__

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/api/admin/version" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.version).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API of a server at Prefect's usual port, which no setting names."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(server, "running_port", lambda: None)
    stand_in = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    Thread(target=stand_in.serve_forever, daemon=True).start()
    with temporary_settings(updates={PREFECT_SERVER_API_PORT: stand_in.server_port, PREFECT_API_URL: None}):
        yield f"http://127.0.0.1:{stand_in.server_port}/api"
    stand_in.shutdown()
    stand_in.server_close()


def test_a_running_server_is_used_without_credentials_and_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prefect.ssl_pipeline")
    logging.getLogger("prefect.ssl_pipeline").addHandler(caplog.handler)  # Prefect's loggers do not propagate
    with temporary_settings(updates={PREFECT_API_AUTH_STRING: "me:secret"}), chosen_server():
        assert PREFECT_API_URL.value() == url
        assert PREFECT_API_AUTH_STRING.value() is None
    assert f"Using the Prefect server that runs at {url}; to start a temporary one" in caplog.text
    assert not PREFECT_API_URL.value()


def test_the_server_of_this_folder_comes_before_the_usual_port(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "running_port", lambda: 9)
    assert find_server() == url  # nothing listens at the folder's
    port = PREFECT_SERVER_API_PORT.value()
    monkeypatch.setattr(server, "running_port", lambda: port)
    with temporary_settings(updates={PREFECT_SERVER_API_PORT: 9}):
        assert find_server() == url


def test_an_empty_setting_looks_for_no_server_and_the_temporary_one_is_lean(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    with temporary_settings(updates={PREFECT_API_URL: ""}), chosen_server():
        assert PREFECT_API_URL.value() is None  # Prefect's clients of events would take "" for an address
        given_on = get_current_settings().to_environment_variables(exclude_unset=True)  # to a temporary server
        assert given_on["PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED"] == "False"


@pytest.mark.parametrize(
    ("status", "version", "is_used"),
    [
        (200, prefect.__version__, True),
        (200, "3.999.0", True),
        (200, "3.7.9", False),  # Prefect warns of a server older than the client
        (200, "4.0.0", False),
        (200, "0+unknown", False),
        (200, ["not Prefect's"], False),
        (401, prefect.__version__, False),
        (404, prefect.__version__, False),
    ],
)
def test_only_a_server_that_prefect_accepts_is_used(
    status: int, version: str, is_used: bool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Server, "status", status)
    monkeypatch.setattr(_Server, "version", version)
    assert find_server() == (url if is_used else None)


def test_another_users_server_is_not_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert find_server() is None


def test_a_server_that_does_not_answer_is_named_with_the_cure() -> None:
    nowhere = temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"})
    with nowhere, pytest.raises(PipelineError) as error:
        check_server()
    message = str(error.value)
    assert message.startswith("PREFECT_API_URL=http://127.0.0.1:9/api: no Prefect server answers there (ConnectError")
    assert message.endswith("run without one: set PREFECT_API_URL to nothing: PREFECT_API_URL= ssl-pipeline run …")


def test_a_temporary_server_that_does_not_start_is_one_message_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.operations.server.find_server", lambda: None)
    with (
        temporary_settings(updates={PREFECT_API_URL: ""}),
        pytest.raises(PipelineError, match=r"temporary server did not start in \d+ seconds; .*deploy up"),
        chosen_server(),
    ):
        raise RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server.")
    with (
        temporary_settings(updates={PREFECT_API_URL: ""}),
        pytest.raises(RuntimeError, match="another"),
        chosen_server(),
    ):
        raise RuntimeError("another")
