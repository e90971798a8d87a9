"""Map over shards on Ray actors. A lost actor is replaced, and only the shard that it worked on is repeated.

Actors, not tasks: an actor prepares the work once (e.g. loads a network), keeps its GPU and can be killed at any time.
Ray's own restarts are off: until Ray notices that a machine is gone, they only use up the retries.
"""

import logging
import os
import platform
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from ssl_pipeline import __version__
from ssl_pipeline.config.execution import RayExecution
from ssl_pipeline.errors import ConfigError, PipelineError, RunError
from ssl_pipeline.execution.ray_cluster import connected
from ssl_pipeline.execution.work import ResultT, ShardT, ShardWork

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "pandas")
_PROBE = ".seen-by-workers-"
_START_WARNING_SECONDS = 30


@dataclass(frozen=True)
class Requirements:
    """What a worker must find on its machine, as in the process that runs the stage."""

    working_directory: str
    directory: Path
    probe: str
    """Name of a file in `directory`."""
    versions: dict[str, str]


class Worker:
    """An actor: prepares the work with its first shard, then takes one shard after the other."""

    def __init__(self, requirements: Requirements, recipe: Callable[[], Callable[[Any], Any]]) -> None:
        self._requirements, self._recipe = requirements, recipe
        self._work: Callable[[Any], Any] | None = None

    def run(self, shard: Any) -> Any:
        """Return the result of a shard.

        Raises:
            RunError: if this machine does not meet the requirements.
        """
        if self._work is None:
            _check(self._requirements)
            self._work = self._recipe()
        return self._work(shard)


def map_with_ray(
    work: ShardWork[ShardT, ResultT],
    shards: Iterable[ShardT],
    execution: RayExecution,
    *,
    directory: Path,
    on_done: Callable[[ResultT], object] | None,
) -> list[ResultT]:
    """Work on every shard; see `shards.map_shards`."""
    tasks = enumerate(shards)
    first = next(tasks, None)
    if first is None:
        return []
    num_cpus = execution.num_cpus_per_shard or work.num_threads
    num_gpus = execution.num_gpus_per_shard if work.on_gpu else 0
    with connected(execution) as ray, _requirements(directory) as requirements:
        capacity = _capacity(ray, num_cpus=num_cpus, num_gpus=num_gpus)
        actor = ray.remote(Worker).options(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0, max_task_retries=0)
        pool = _Pool(ray, partial(actor.remote, requirements, work.recipe()), execution.max_retries)
        for task in (first, *islice(tasks, capacity - 1)):
            pool.submit(pool.start_worker(), task)
        logger.info("%d Ray workers, %d CPUs and %g GPUs each", len(pool.running), num_cpus, num_gpus)
        results: dict[int, ResultT] = {}
        try:
            pool.warn_if_none_starts()
            for number, result in pool.results(tasks):
                results[number] = result
                if on_done is not None:
                    on_done(result)
        finally:
            pool.kill()
    return [results[number] for number in sorted(results)]


@dataclass
class _Pool:
    """The workers, each with one shard at a time."""

    ray: Any
    start_worker: Callable[[], Any]
    max_retries: int
    running: dict[Any, tuple[Any, tuple[int, Any]]] = field(default_factory=dict)
    """Reference of a result → its worker and task: the shard's number and the shard."""
    num_losses: Counter[int] = field(default_factory=Counter)

    def submit(self, worker: Any, task: tuple[int, Any]) -> None:
        """Give a worker a shard."""
        self.running[worker.run.remote(task[1])] = worker, task

    def warn_if_none_starts(self) -> None:
        """Log if the cluster has no room yet for any worker."""
        starting = [worker.__ray_ready__.remote() for worker, _ in self.running.values()]
        if not self.ray.wait(starting, timeout=_START_WARNING_SECONDS)[0]:
            logger.warning("no Ray worker has started yet; they wait for free CPUs or GPUs of the cluster")

    def results(self, tasks: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Yield the number and the result of each shard as it finishes; `tasks` are the shards not yet submitted."""
        while self.running:
            (reference,), _ = self.ray.wait(list(self.running))
            worker, task = self.running[reference]
            try:
                result = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, PipelineError) else error from None
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError) as error:
                self._count_loss(task[0], error)
                self._end(worker)
                self.submit(self.start_worker(), task)
            else:
                yield task[0], result
                if (following := next(tasks, None)) is None:
                    self._end(worker)  # a lost worker's successor may need its CPUs
                else:
                    self.submit(worker, following)
            del self.running[reference]

    def kill(self) -> None:
        """End all workers at once."""
        for worker, _ in self.running.values():
            self._end(worker)

    def _end(self, worker: Any) -> None:
        with suppress(Exception):  # a lost connection has lost its workers, too
            self.ray.kill(worker)

    def _count_loss(self, number: int, error: Exception) -> None:
        self.num_losses[number] += 1
        if self.num_losses[number] > self.max_retries:
            reason = " ".join(str(error).split())[:400]
            raise RunError(
                f"the worker of shard {number} was lost {self.num_losses[number]} times (execution.max_retries "
                f"{self.max_retries}): {reason} … Workers need this environment and enough memory; run again to go on from "
                "the finished shards"
            ) from None
        logger.warning(
            "the worker of shard %d was lost; repeating the shard (%d of %d)",
            number,
            self.num_losses[number],
            self.max_retries,
        )


def _capacity(ray: Any, *, num_cpus: int, num_gpus: float) -> int:
    """Return how many workers fit on the cluster's machines.

    Raises:
        ConfigError: if not even one fits, with the resources of each machine.
    """
    capacity, descriptions = 0, []
    for machine in ray.nodes():
        if machine["Alive"]:
            cpus, gpus = machine["Resources"].get("CPU", 0), machine["Resources"].get("GPU", 0)
            capacity += int(min(cpus // num_cpus, gpus // num_gpus if num_gpus else cpus // num_cpus))
            descriptions.append(f"{machine['NodeManagerAddress']} {cpus:g} CPUs and {gpus:g} GPUs")
    if capacity == 0:
        raise ConfigError(
            f"execution: a worker takes {num_cpus} CPUs and {num_gpus:g} GPUs of one machine; the cluster has: "
            f"{', '.join(descriptions)}; lower num_cpus_per_shard (default: OMP_NUM_THREADS) and num_gpus_per_shard, or "
            "add machines"
        )
    return capacity


@contextmanager
def _requirements(directory: Path) -> Iterator[Requirements]:
    """Leave a file in the directory for the workers to find."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob(f"{_PROBE}*"):  # left by a killed process
        stale.unlink(missing_ok=True)
    probe = directory.absolute() / f"{_PROBE}{secrets.token_hex(8)}"
    probe.touch()
    try:
        yield Requirements(str(Path.cwd()), probe.parent, probe.name, _versions())
    finally:
        probe.unlink(missing_ok=True)


def _check(requirements: Requirements) -> None:
    """Refuse a machine on which the work would fail or write other bytes; change to the stage's working directory."""
    with suppress(OSError):  # only relative paths need it
        os.chdir(requirements.working_directory)
    host, directory = socket.gethostname(), requirements.directory
    if not (directory / requirements.probe).is_file() or not os.access(directory, os.W_OK):
        raise RunError(
            f"{directory}: the worker on {host} cannot see this directory, or cannot write to it; put the run on a file "
            "system that all machines of the cluster mount at the same path"
        )
    installed = _versions()
    mismatches = [
        f"{name} {installed[name]} instead of {expected}"
        for name, expected in requirements.versions.items()
        if installed[name] != expected
    ]
    if mismatches:
        raise RunError(
            f"the worker on {host} has {', '.join(mismatches)}: other versions give other bytes; install the same there"
        )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"ssl-pipeline": __version__, "python": platform.python_version(), **packages}
