"""A Ray cluster for a while: one of this machine alone, started and ended here, or one that is there already.

Ray runs whatever those who reach its ports send it. A cluster of ours listens on loopback only, and asks for a token.
"""

import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_pipeline.config.execution import RayExecution
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.execution.answering import answers, check_answers, split_address
from ssl_pipeline.execution.work import MISSING_RAY

_STORE_BYTES = 128 * 2**20  # shards travel as lists of rows; Ray would set a third of the memory aside
_DEFAULT_TOKEN = Path(".ray") / "auth_token"


def import_ray() -> Any:
    """Import Ray, which then reports to nobody.

    Raises:
        ConfigError: if it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(MISSING_RAY) from None
    return ray


@contextmanager
def connected(execution: RayExecution) -> Iterator[Any]:
    """Give the module `ray`, connected; a connection that was open before is used and left open.

    Raises:
        ConfigError: if there is no such cluster, or it does not let us in.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    with _handlers_kept():
        if execution.address is None:
            _start(ray)
        else:
            _connect(ray, execution.address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    home = Path.home() / _DEFAULT_TOKEN
    if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) and not home.is_file():
        # for as long as this process lives: Ray reads a process's token once
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    with _loopback(ray):
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **_quiet())


def _connect(ray: Any, address: str) -> None:
    only_loopback = False
    if address != "auto":
        check_answers(address)
        host, port = split_address(address)
        # Ray takes loopback for this machine's outer address, at which a cluster kept to loopback does not answer
        only_loopback = host in ("localhost", "127.0.0.1", "::1") and not answers(ray.util.get_node_ip_address(), port)
    try:
        with _loopback(ray, only_loopback):
            ray.init(address=address, **_quiet())
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        words = " ".join(str(error).split()).split(". ")[0]
        raise ConfigError(
            f"execution.address: {address} does not let us in ({words}); it needs the same versions of Ray and Python, "
            "and where it was started with RAY_AUTH_MODE=token, RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN_PATH or "
            "RAY_AUTH_TOKEN here"
        ) from None


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def _loopback(ray: Any, wanted: bool = True) -> Iterator[None]:
    """Let Ray take 127.0.0.1 for this machine's address, by which it listens on loopback alone.

    It does so by itself on systems where it offers no clusters; on Linux it turns every loopback address that it is given
    into an outer one and listens on all interfaces.
    """
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = before and not wanted
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put SIGTERM's handler back, which Ray replaces: whoever runs the stage cancels it by that signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
