"""Connection to a Ray cluster: one started on this machine for a stage, or an existing one.

Ray runs any code that reaches its ports. A cluster started here listens on loopback only and requires a token.
"""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_pipeline.config.execution import RayExecution
from ssl_pipeline.errors import ConfigError

MISSING_RAY = "execution.type: ray needs the extra: pip install 'ssl-pipeline[ray]'"

_CONNECT_TIMEOUT_SECONDS = 5.0
_DEFAULT_TOKEN = Path(".ray") / "auth_token"
_LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
_STORE_BYTES = 128 * 2**20  # shards are lists of rows; Ray's default is a third of the memory


def check_reachable(address: str) -> None:
    """Refuse an address at which nothing answers; Ray itself would retry for minutes.

    Raises:
        ConfigError: naming the address.
    """
    try:
        socket.create_connection(_split_address(address), timeout=_CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, OverflowError):
        raise ConfigError(
            f"execution.address: nothing answers at {address}; start the cluster's head there (ray start --head), "
            "or omit the address to use a cluster of this machine"
        ) from None


@contextmanager
def connected(execution: RayExecution) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster. A connection that is already open is reused and left open.

    Raises:
        ConfigError: if Ray is not installed, or the cluster cannot be reached or refuses the connection.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if execution.address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on loopback only; read at import
    try:
        import ray
    except ImportError:
        raise ConfigError(MISSING_RAY) from None
    if ray.is_initialized():
        yield ray
        return
    with _sigterm_handler_restored():
        _check_interface(ray, execution.address)
        if execution.address is None:
            _start(ray)
        else:
            _connect(ray, execution.address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    home_token = Path.home() / _DEFAULT_TOKEN
    if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) and not home_token.is_file():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # kept until this process ends: Ray reads it once
    ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **_QUIET)


def _connect(ray: Any, address: str) -> None:
    if address != "auto":
        check_reachable(address)
    try:
        ray.init(address=address, **_QUIET)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise ConfigError(
            f"execution.address: {address} refuses the connection ({reason}); use the same versions of Ray and Python as "
            "the cluster, and, if it was started with RAY_AUTH_MODE=token, set RAY_AUTH_MODE=token and the same "
            "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN here"
        ) from None


def _check_interface(ray: Any, address: str | None) -> None:
    """Refuse a process that imported Ray earlier for the other kind of cluster: Ray fixes the interface at its import."""
    on_loopback = ray.util.get_node_ip_address() in _LOOPBACK_HOSTS
    is_remote = address not in (None, "auto") and _split_address(str(address))[0] not in _LOOPBACK_HOSTS
    if (is_remote and on_loopback) or (address is None and not on_loopback):
        raise ConfigError(
            "execution.address: this process has imported Ray for another kind of cluster (of this machine, or of "
            "several); run again in a new process"
        )


def _split_address(address: str) -> tuple[str, int]:
    """Split ``host:port``.

    >>> _split_address("[::1]:6379")
    ('::1', 6379)
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def _sigterm_handler_restored() -> Iterator[None]:
    """Restore SIGTERM's handler, which `ray.init` replaces: whoever runs the stage cancels it by that signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
