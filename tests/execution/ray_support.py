"""A local Ray cluster of two nodes with a token, and work on shards that records each attempt.

Nothing here imports torch, so that workers start fast.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ssl_pipeline.errors import FaceTableError

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests-alone-0123456789"
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
cluster.add_node(**machine)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def cluster_of_two() -> Iterator[str]:
    """Yield the address; the cluster ends with the block, or with this process."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(30)


def leave_trace(folder: Path, shard: str, **more: int) -> int:
    """Record an attempt at a shard with its process and its node's process. Returns the number of attempts so far."""
    folder.mkdir(exist_ok=True)
    number = len(list(folder.glob(f"{shard}-*")))
    temporary = folder / f".{shard}-{number}"
    temporary.write_text(json.dumps({"shard": shard, "pid": os.getpid(), "parent": os.getppid(), **more}))
    temporary.rename(folder / f"{shard}-{number}")
    return number + 1


def traces(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("[!.]*"))]


def kill_worker_of(folder: Path, shard: str) -> threading.Thread:
    """Start a thread that waits for an attempt at a shard and kills its process with SIGKILL."""

    def kill() -> None:
        trace = folder / f"{shard}-0"
        while not trace.exists():
            time.sleep(0.02)
        os.kill(json.loads(trace.read_text())["pid"], 9)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@dataclass(frozen=True)
class Errand:
    """Work without faces; the name of a shard is what to do."""

    folder: Path
    on_gpu: bool = False
    num_threads: int = 1

    def __call__(self, shard: str, /) -> str:
        attempt = leave_trace(self.folder, shard)
        while shard.startswith("hold") and attempt == 1 and not (self.folder / ".release").exists():
            time.sleep(0.05)
        if shard == "die":
            os._exit(1)
        if shard == "sleep":
            time.sleep(600)
        if shard == "refuse":
            raise FaceTableError("shard 3: what, where, got, cure")
        return shard.upper()

    def recipe(self) -> "Callable[[], Errand]":
        return partial(Errand, self.folder)
