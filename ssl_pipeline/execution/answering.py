"""Whether anything answers at an address: asked before Ray is, which would go on asking for minutes."""

import socket

from ssl_pipeline.errors import ConfigError

SECONDS_TO_ANSWER = 5.0


def split_address(address: str) -> tuple[str, int]:
    """Part ``host:port``.

    >>> split_address("[::1]:6379")
    ('::1', 6379)
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def answers(host: str, port: int) -> bool:
    """Whether a connection can be opened."""
    try:
        socket.create_connection((host, port), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError):
        return False
    return True


def check_answers(address: str) -> None:
    """Refuse an address at which nothing answers.

    Raises:
        ConfigError: naming it.
    """
    if not answers(*split_address(address)):
        raise ConfigError(
            f"execution.address: nothing answers at {address}; start the cluster's head there (ray start --head), "
            "or leave the address out for a cluster of this machine alone"
        )
