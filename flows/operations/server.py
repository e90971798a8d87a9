"""The Prefect server of a local run: the one that PREFECT_API_URL names, one that already runs here, or a temporary one."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx
import prefect
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_BLOCKS_REGISTER_ON_START,
    PREFECT_API_KEY,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_SERVER_API_PORT,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED,
    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED,
    temporary_settings,
)

from ssl_pipeline.errors import PipelineError

from .deploy import running_port

logger = get_logger("ssl_pipeline")  # for the terminal: no flow runs yet

_TEMPORARY = "set PREFECT_API_URL to nothing: PREFECT_API_URL= ssl-pipeline run …"
_LEAN: dict[Any, Any] = {
    PREFECT_API_BLOCKS_REGISTER_ON_START: False,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED: False,
    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED: False,
}
"""A temporary server keeps flow runs, logs and pages, and does nothing else that outlives it: no events, no automations."""

_ANSWER_SECONDS = 1.0  # a port where nothing listens refuses at once


@contextmanager
def chosen_server() -> Iterator[None]:
    """Use the server of PREFECT_API_URL inside the context, else a running one of this user on this machine, if any.

    An empty PREFECT_API_URL looks for none. Without a server, Prefect starts a temporary one, here a lean one.

    Raises:
        PipelineError: naming the server and the cure, if it does not answer, or a temporary one does not start.
    """
    check_server()
    updates: dict[Any, Any] = {}
    unset: set[Any] = set()
    if not PREFECT_API_URL.value():
        updates, unset = _LEAN, {PREFECT_API_URL}  # Prefect's clients of events would take "" for an address
        if "PREFECT_API_URL" not in os.environ and (url := find_server()):
            logger.info("Using the Prefect server that runs at %s; to start a temporary one, %s", url, _TEMPORARY)
            # a server that nobody named gets no credentials
            updates, unset = {PREFECT_API_URL: url}, {PREFECT_API_KEY, PREFECT_API_AUTH_STRING}
    with temporary_settings(updates=updates, restore_defaults=unset):
        try:
            yield
        except httpx.TransportError as error:
            raise _no_server(f"{type(error).__name__}: {error}") from None
        except RuntimeError as error:
            if "ephemeral Prefect API server" not in str(error):
                raise
            seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
            raise PipelineError(
                f"Prefect's temporary server did not start in {seconds} seconds; try again when this machine is less busy, "
                "wait longer with PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=900, or start a server that stays: "
                "python -m ssl_pipeline_flows.operations.deploy up"
            ) from None


def check_server() -> None:
    """Check that a Prefect server answers at PREFECT_API_URL, if it is set.

    Raises:
        PipelineError: naming the variable and the cure.
    """
    url = PREFECT_API_URL.value()
    if not url:
        return
    try:
        status = httpx.get(
            f"{url.rstrip('/')}/health", timeout=20, verify=not PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value()
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _no_server(f"{type(error).__name__}: {error}") from None
    if status == httpx.codes.NOT_FOUND or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _no_server(f"status {status}")


def _no_server(reason: str) -> PipelineError:
    return PipelineError(
        f"PREFECT_API_URL={PREFECT_API_URL.value()}: no Prefect server answers there ({reason}); start it, or run without "
        f"one: {_TEMPORARY}"
    )


def find_server() -> str | None:
    """Return the API's URL of a server that `deploy up` started from this folder, else of one at Prefect's usual port.

    Only a server of this user counts, and only one that is not older than the Prefect here.
    """
    for port in dict.fromkeys([running_port(), PREFECT_SERVER_API_PORT.value()]):
        if port is not None and _is_mine(port) and (version := _server_version(port)) is not None:
            url = f"http://127.0.0.1:{port}/api"
            if _is_compatible(version):
                return url
            logger.info("The server at %s is not used: Prefect %s, here %s", url, version, prefect.__version__)
    return None


def _server_version(port: int) -> str | None:
    """Return the version of the Prefect server at a port; None if there is none, or it asks for a password."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)  # httpx and urllib may ask a proxy
    try:
        connection.request("GET", "/api/admin/version")
        answer = connection.getresponse()
        version = json.loads(answer.read(100)) if answer.status == httpx.codes.OK else None
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return version if isinstance(version, str) else None


def _is_compatible(version: str) -> bool:
    """Return whether a server's version has the client's major number and is not older: what Prefect itself asks for."""
    server, client = (
        [int(number) for number in re.findall(r"\d+", text)[:3]] for text in (version, prefect.__version__)
    )
    return server[:1] == client[:1] and server >= client


def _is_mine(port: int) -> bool:
    """Return whether this user's process listens at a port of 127.0.0.1; where the system does not tell, True."""
    try:
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return True
    sockets = [line.split() for line in lines]
    return any(
        int(fields[1].partition(":")[2], 16) == port and fields[3] == "0A" and int(fields[7]) == os.getuid()
        for fields in sockets
    )
