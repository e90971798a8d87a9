"""Workers of a Ray cluster, each with the work made ready once; they are handed shards, and a lost one costs its shard.

Workers are Ray's actors and not tasks: a GPU belongs to one for its life, so that it may keep a network there, and to
kill one really ends what it does.
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
_SECONDS_TO_SAY_WE_WAIT = 30


@dataclass(frozen=True)
class _Answer:
    """What came of a shard: its result, or the user's mistake that it met."""

    result: Any = None
    error: PipelineError | None = None


@dataclass(frozen=True)
class _Surroundings:
    """What a worker must find where it runs, as this process has it."""

    working_directory: str
    directory: Path
    probe: str
    versions: dict[str, str]


class Worker:
    """The far end: a process of a Ray cluster."""

    def open(self, surroundings: _Surroundings, recipe: Callable[[], Callable[[Any], Any]]) -> _Answer:
        """Make the work ready, unless this machine lacks what it needs."""
        try:
            _check(surroundings)
            self._work = recipe()
        except PipelineError as error:
            return _Answer(error=error)
        return _Answer()

    def do(self, shard: Any) -> _Answer:
        """Work on a shard."""
        try:
            return _Answer(self._work(shard))
        except PipelineError as error:
            return _Answer(error=error)


def map_with_ray(
    work: ShardWork[ShardT, ResultT],
    shards: Iterable[ShardT],
    execution: RayExecution,
    *,
    directory: Path,
    on_done: Callable[[ResultT], object] | None,
) -> list[ResultT]:
    """Do as `shards.map_shards` says."""
    left = enumerate(shards)
    first = next(left, None)
    if first is None:
        return []
    with connected(execution) as ray, _surroundings(directory) as surroundings:
        cpus = execution.num_cpus_per_shard or work.num_threads
        gpus = execution.num_gpus_per_shard if work.on_gpu else 0
        room = _room(ray, num_cpus=cpus, num_gpus=gpus)
        pool = _Pool(ray, cpus, gpus, ray.put(surroundings), ray.put(work.recipe()), execution.max_retries)
        begun = [first, *islice(left, room - 1)]
        logger.info("%d workers on Ray, %d CPUs and %g GPUs each", len(begun), cpus, gpus)
        try:
            results = {}
            for number, result in pool.run(begun, left):
                results[number] = result
                if on_done is not None:
                    on_done(result)
        finally:
            pool.kill()
    return [results[number] for number in sorted(results)]


@dataclass
class _Pool:
    """The near end. `running` is what each worker is at: a shard and its number, or None while it makes ready."""

    ray: Any
    num_cpus: int
    num_gpus: float
    surroundings: Any
    recipe: Any
    max_retries: int
    running: dict[Any, tuple[Any, tuple[int, Any] | None]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    workers: list[Any] = field(default_factory=list)
    losses: Counter[int | None] = field(default_factory=Counter)

    def run(self, again: list[tuple[int, Any]], left: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Yield the shards' numbers and results; `again` holds those to begin with, and those of lost workers."""
        for _ in again:
            self._hire()
        while again or any(task is not None for _, task in self.running.values()):
            reference = self._next()
            worker, task = self.running.pop(reference)
            try:
                answer = self.ray.get(reference)
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError) as error:
                self._lose(worker, task, error)
                again.extend([task] if task is not None else [])
                if self.idle and again:  # where a machine was lost, there may be no room for another worker
                    self._hand(self.idle.pop(), again.pop(0))
                else:
                    self._hire()
                continue
            if answer.error is not None:
                raise answer.error
            if task is None:
                del self.losses[None]
            else:
                yield task[0], answer.result
            following = again.pop(0) if again else next(left, None)
            if following is None:
                self.idle.append(worker)
            else:
                self._hand(worker, following)

    def kill(self) -> None:
        """End the workers, whatever they are at."""
        for worker in self.workers:
            with suppress(Exception):  # a connection that is lost has lost its workers, too
                self.ray.kill(worker)

    def _hand(self, worker: Any, task: tuple[int, Any]) -> None:
        self.running[worker.do.remote(task[1])] = worker, task

    def _hire(self) -> None:
        options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_restarts": 0, "max_task_retries": 0}
        worker = self.ray.remote(Worker).options(**options).remote()
        self.workers.append(worker)
        self.running[worker.open.remote(self.surroundings, self.recipe)] = worker, None

    def _next(self) -> Any:
        """Wait for one of the workers; say so if there is no room for any."""
        none_works = all(task is None for _, task in self.running.values())
        ready, _ = self.ray.wait(list(self.running), timeout=_SECONDS_TO_SAY_WE_WAIT if none_works else None)
        if not ready:
            logger.warning(
                "no worker is ready: they load, or wait for %d free CPUs, %g GPUs", self.num_cpus, self.num_gpus
            )
            ready, _ = self.ray.wait(list(self.running))
        return ready[0]

    def _lose(self, worker: Any, task: tuple[int, Any] | None, error: Exception) -> None:
        self.workers.remove(worker)
        with suppress(Exception):  # it may live on behind a broken line
            self.ray.kill(worker)
        number = None if task is None else task[0]
        what = "a worker that made ready" if number is None else f"the worker of shard {number}"
        self.losses[number] += 1
        if self.losses[number] > self.max_retries:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{what} was lost {self.losses[number]} times (execution.max_retries {self.max_retries}): {reason[:400]} … "
                "Workers need this environment and memory enough; run again to go on from the finished shards"
            ) from None
        logger.warning("%s was lost; it is begun again (%d of %d)", what, self.losses[number], self.max_retries)


def _room(ray: Any, *, num_cpus: int, num_gpus: float) -> int:
    """How many workers the cluster's machines hold.

    Raises:
        ConfigError: if none has room for one, with what each has.
    """
    machines = [node for node in ray.nodes() if node["Alive"]]
    room, shown = 0, []
    for machine in machines:
        cpus, gpus = machine["Resources"].get("CPU", 0), machine["Resources"].get("GPU", 0)
        room += int(min(cpus // num_cpus, gpus // num_gpus if num_gpus else cpus // num_cpus))
        shown.append(f"{machine['NodeManagerAddress']} {cpus:g} CPUs and {gpus:g} GPUs")
    if room == 0:
        raise ConfigError(
            f"execution: a worker takes {num_cpus} CPUs and {num_gpus:g} GPUs of one machine; the cluster has: "
            f"{', '.join(shown)}; lower num_cpus_per_shard (or OMP_NUM_THREADS, from which it follows) and "
            "num_gpus_per_shard, or add machines"
        )
    return room


@contextmanager
def _surroundings(directory: Path) -> Iterator[_Surroundings]:
    """Leave a file in the directory, for the workers to find."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob(f"{_PROBE}*"):  # of a process that was killed
        stale.unlink(missing_ok=True)
    probe = directory.absolute() / f"{_PROBE}{secrets.token_hex(8)}"
    probe.touch()
    try:
        yield _Surroundings(str(Path.cwd()), probe.parent, probe.name, _versions())
    finally:
        probe.unlink(missing_ok=True)


def _check(surroundings: _Surroundings) -> None:
    """Refuse a machine on which the work would fail or leave other bytes; and stand where relative paths begin."""
    with suppress(OSError):  # where all paths are absolute, none is needed
        os.chdir(surroundings.working_directory)
    host, directory = socket.gethostname(), surroundings.directory
    if not (directory / surroundings.probe).is_file() or not os.access(directory, os.W_OK):
        raise RunError(
            f"{directory}: the worker on {host} does not see this directory, or may not write there; put the run on a file "
            "system that all machines of the cluster mount at the same path"
        )
    here = _versions()
    others = [
        f"{name} {here[name]} for {wanted}" for name, wanted in surroundings.versions.items() if here[name] != wanted
    ]
    if others:
        raise RunError(
            f"the worker on {host} has {', '.join(others)}: other versions give other bytes; install the same there"
        )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"ssl-pipeline": __version__, "python": platform.python_version(), **packages}
