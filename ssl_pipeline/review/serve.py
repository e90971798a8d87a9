"""Serve the review page on this machine: socket, address with its token, and the server."""

import secrets
import socket
import webbrowser
import zlib
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ssl_pipeline.errors import ConfigError
from ssl_pipeline.review.app import Review, create_app
from ssl_pipeline.review.faces import read_review_faces, reviewed_round
from ssl_pipeline.review.guard import Guard
from ssl_pipeline.review.queues import LABEL_ERRORS, open_queue
from ssl_pipeline.review.similar import SimilarFaces
from ssl_pipeline.review.votes import Votes
from ssl_pipeline.runs.directory import RunDir

LOOPBACK = "127.0.0.1"


def open_review(
    run: RunDir,
    *,
    round_index: int | None = None,
    queue: str = "all",
    num: int = 100,
    seed: int = 0,
    reviewer: str = "",
) -> Review:
    """Open a run for a review.

    Args:
        run: the run.
        round_index: whose manifest is reviewed; None: see `reviewed_round`.
        queue: see `open_queue`.
        num: labels of an audit.
        seed: of an audit.
        reviewer: preset name.

    Raises:
        ManifestError: if the manifest is missing or damaged, or an audit cannot be sampled.
        RunError: if the faces or the queue's file cannot be used.
    """
    round_index = reviewed_round(run) if round_index is None else round_index
    faces = read_review_faces(run, round_index)
    opened = open_queue(queue, faces, run, num=num, seed=seed)
    votes = Votes(run.answers, faces, only_queue=opened.name if opened.is_audit else None)
    similar = SimilarFaces(run, faces, opened, round_index)
    queues = ["audit", *(["label-errors"] if (run.root / LABEL_ERRORS).is_file() else [])]
    return Review(faces, opened, votes, similar, run.root, reviewer, [name for name in queues if name != queue])


def guarded_app(review: Review, *, token: str, host: str, port: int) -> ASGIApp:
    """Return the application behind its guard."""
    hosts = {f"{_bracketed(host)}:{port}"}
    if _is_loopback(host):
        hosts |= {f"{name}:{port}" for name in (LOOPBACK, "localhost", "[::1]")}
    if port == 80:
        hosts |= {name.removesuffix(":80") for name in hosts}
    return Guard(create_app(review), token=token, hosts=hosts, cookie=f"ssl_review_{port}")


def serve(
    review: Review, *, host: str = LOOPBACK, port: int = 0, open_browser: bool = True, tell: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C.

    Args:
        review: what is served.
        host: the address to listen on, and the only one that a browser may name.
        port: 0 for the run's own, see `port_of`; a free one if it is taken.
        open_browser: open the page.
        tell: is called with the page's address, which carries the token.

    Raises:
        ConfigError: if the address cannot be listened on.
    """
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - refused
        raise ConfigError(f"--host {host}: name the one address by which a browser reaches this machine")
    listener = _listen(host, port, preferred=port_of(review.run_root))
    port = int(listener.getsockname()[1])
    token = secrets.token_urlsafe(24)
    server = uvicorn.Server(
        uvicorn.Config(
            guarded_app(review, token=token, host=host, port=port),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
    )
    address = f"http://{_bracketed(host)}:{port}/?token={token}"
    tell(address)
    if open_browser:
        webbrowser.open(address)
    with listener:
        server.run(sockets=[listener])


def port_of(root: Path) -> int:
    """Return the port of a run: the same each time, since browsers keep unsaved answers per address and port."""
    return 20_000 + zlib.crc32(str(root.resolve()).encode()) % 10_000


def _listen(host: str, port: int, *, preferred: int) -> socket.socket:
    if port == 0:
        with suppress(ConfigError):
            return _listen(host, preferred, preferred=preferred)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # who opens the address before the server runs waits, and is not refused
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; give another --port, or none") from None
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
