"""First paint and page calls of the review page for a large pool, and 20 decisions a second across kills; writes docs/review-page.md.

    python -m benchmarks.review_growth

The run has random faces of 16 × 16 pixels and a manifest of random predictions. The server is a process of its own; first
paint is from the command to the first page of faces, and from the browser's request to it.
"""

import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.random_run import write_random_run
from benchmarks.tables import markdown_table

RATE = 20
"""Decisions per second."""
CALLS = {
    "a page of 200, least sure first": "/api/faces?sort=unsure",
    "the next page": "/api/faces?sort=unsure&after=400",
    "a page of one value, rejected, surest first": "/api/faces?sort=sure&status=rejected&value.mask=wear",
    "a search in the image ids": "/api/faces?search=0099",
    "numbers beside all filters": "/api/counts",
    "what changed": "/api/changes",
    "all behind one face, the first time": "/api/face/77",
    "all behind another face": "/api/face/78",
    "a picture": "/faces/{digest}/123/small",
}


@contextmanager
def served(root: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Start the command for a run and yield a client with its cookie, once it answers."""
    command = [
        sys.executable,
        "-m",
        "ssl_pipeline.cli.main",
        "review",
        str(root),
        "--no-browser",
        "--reviewer",
        "bench",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            with httpx.Client(base_url=address.partition("/?")[0], timeout=120) as client:
                client.get(address).raise_for_status()
                yield client, process
        finally:
            process.kill()


def measure(root: Path) -> list[list[str]]:
    """Measure the first page and the calls after it: what, seconds, and again, seconds."""
    started, rows = time.monotonic(), []
    with served(root) as (client, _):
        rows.append(["from the command to the page", f"{time.monotonic() - started:.2f}", ""])
        digest = client.get("/api/session").json()["picture"].removeprefix("faces/")
        for name, path in CALLS.items():
            seconds = []
            for _ in range(2):
                started = time.monotonic()
                client.get(path.format(digest=digest)).raise_for_status()
                seconds.append(f"{time.monotonic() - started:.3f}")
            rows.append([name, *seconds])
    return rows


def decide_across_kills(root: Path, *, seconds: int, num_kills: int) -> dict[str, Any]:
    """Send 20 decisions a second, kill the server without warning, start it again; count what was confirmed and is kept."""
    confirmed: list[str] = []
    latencies: list[float] = []
    elapsed = 0.0
    for _ in range(num_kills):
        with served(root) as (client, process):
            queue = client.get("/api/session").json()["queue"]["name"]
            started = time.monotonic()
            for step in range(seconds * RATE):
                time.sleep(max(0.0, started + step / RATE - time.monotonic()))
                answer = {
                    **{"id": uuid.uuid4().hex, "row": len(latencies), "attribute": "mask", "decision": "label"},
                    **{"value": "wear", "reviewer": "bench", "time": "2026-01-01T00:00:00Z", "queue": queue},
                }
                sent = time.monotonic()
                confirmed += client.post("/api/answers", json=[answer]).raise_for_status().json()["saved"]
                latencies.append(time.monotonic() - sent)
            elapsed += time.monotonic() - started
            process.send_signal(signal.SIGKILL)
    kept = {json.loads(line)["id"] for line in (root / "answers.jsonl").read_text().splitlines()}
    return {
        "sent": len(latencies),
        "confirmed": len(confirmed),
        "lost": len(set(confirmed) - kept),
        "rate": len(latencies) / elapsed,
        "median": statistics.median(latencies),
        "slowest": max(latencies),
    }


def main(
    faces: Annotated[int, typer.Option(help="Faces of the pool.")] = 1_000_000,
    seconds: Annotated[int, typer.Option(help="Of decisions before each kill.")] = 15,
    kills: Annotated[int, typer.Option(help="How often the server is killed.")] = 3,
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/review-page.md"),
) -> None:
    """Write a run, measure it, and write the tables."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "large"
        write_random_run(root, num_pool=faces)
        rows = measure(root)
        decisions = decide_across_kills(root, seconds=seconds, num_kills=kills)
    text = [
        f"`python -m benchmarks.review_growth --faces {faces}`, 2 cores, seconds:",
        "",
        *markdown_table(["", "first", "again"], "lrr", rows),
        "",
        f"{RATE} decisions a second were asked for and {decisions['rate']:.1f} reached, each sent after the one before was "
        f"on the disk (median {1000 * decisions['median']:.0f} ms, slowest {decisions['slowest']:.1f} s: the first one sorts "
        f"the faces). The server was killed {kills} times without warning (`kill -9`): {decisions['sent']:,} sent, "
        f"{decisions['confirmed']:,} confirmed, {decisions['lost']:,} of the confirmed ones lost.",
    ]
    if out.is_file():
        replace_section(out, "review-growth", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    typer.run(main)
