"""One map over shards. A shard is worked on as a whole, leaves its own files, and can be worked on again at no harm."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import assert_never

from ssl_pipeline.config.execution import ExecutionConfig, InProcess, RayExecution
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.execution.ray_cluster import MISSING_RAY, check_reachable
from ssl_pipeline.execution.work import ResultT, ShardT, ShardWork

IN_PROCESS = InProcess()


def check_execution(execution: ExecutionConfig, *, device: str) -> None:
    """Refuse what can be refused before any work: no Ray, a cluster that does not answer, GPUs for work on the CPU.

    Args:
        execution: the config's section.
        device: ``cpu`` or ``cuda``, where the network computes.

    Raises:
        ConfigError: naming the fault and its cure.
    """
    if isinstance(execution, InProcess):
        return
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(MISSING_RAY)
    if device == "cpu" and execution.num_gpus_per_shard > 0:
        raise ConfigError(
            f"execution.num_gpus_per_shard: {execution.num_gpus_per_shard:g} GPUs for a network that computes on the CPU; "
            "set it to 0, or set device: cuda on a machine that has a GPU"
        )
    if device == "cuda" and execution.num_gpus_per_shard == 0:
        raise ConfigError(
            "execution.num_gpus_per_shard: 0 for a network that computes on a GPU; set it to 1, or to a part that "
            "workers share"
        )
    if execution.address not in (None, "auto"):
        check_reachable(execution.address)


def map_shards(
    work: ShardWork[ShardT, ResultT],
    shards: Iterable[ShardT],
    execution: ExecutionConfig,
    *,
    directory: Path,
    on_done: Callable[[ResultT], object] | None = None,
) -> list[ResultT]:
    """Work on every shard.

    Args:
        work: what to do.
        shards: read when there is a worker for them, so that they need not fit into memory together.
        execution: where.
        directory: in which the work leaves its files; every worker must see it.
        on_done: told each result, in this process, as its shard is finished.

    Returns:
        The results in the order of the shards.

    Raises:
        PipelineError: what the work raised, wherever it ran; the shards that were finished stay finished.
        ConfigError: if the cluster is not to be had, or has no room for a shard.
        RunError: if a worker does not see the directory, or a shard's workers are lost again and again.
    """
    match execution:
        case InProcess():
            results = []
            for shard in shards:
                results.append(work(shard))
                if on_done is not None:
                    on_done(results[-1])
            return results
        case RayExecution():
            from ssl_pipeline.execution.ray_workers import map_with_ray

            return map_with_ray(work, shards, execution, directory=directory, on_done=on_done)
        case _:
            assert_never(execution)
