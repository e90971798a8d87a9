"""Map over shards, in this process or by Ray. Work on a shard writes its own files and is safe to repeat."""

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
    """Check the config before any work: Ray is installed, the cluster answers, GPUs agree with the device.

    Args:
        execution: the config's section.
        device: ``cpu``, ``cuda`` or ``mps``, where the network computes.

    Raises:
        ConfigError: if one of these fails.
    """
    if isinstance(execution, InProcess):
        return
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(MISSING_RAY)
    if device == "cpu" and execution.num_gpus_per_shard > 0:
        raise ConfigError(
            f"execution.num_gpus_per_shard: {execution.num_gpus_per_shard:g} GPUs for a network that computes on the CPU; "
            "--set execution.num_gpus_per_shard=0, or --set device=cuda on a machine with a GPU"
        )
    if device == "cuda" and execution.num_gpus_per_shard == 0:
        raise ConfigError(
            "execution.num_gpus_per_shard: 0 for a network that computes on a GPU; "
            "--set execution.num_gpus_per_shard=1, or a fraction to share a GPU"
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
        work: the work on one shard.
        shards: consumed lazily, one per free worker.
        execution: the config's section.
        directory: where the work writes its files; every worker must see it.
        on_done: called with each result, in this process, as soon as its shard is finished.

    Returns:
        The results in the order of the shards.

    Raises:
        PipelineError: raised by the work, with its own message; finished shards are kept.
        ConfigError: if the cluster cannot be reached, or has no room for a worker.
        RunError: if a worker does not see the directory, or a shard loses more than `max_retries` workers.
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
