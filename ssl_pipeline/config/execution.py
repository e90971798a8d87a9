"""Config section `execution`: where the shards of the pool and of a masked set are worked on."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ssl_pipeline.config.base import ADDRESS, Section


class InProcess(Section):
    """In the process that runs the stage, one shard after the other."""

    type: Literal["in_process"] = "in_process"


class RayExecution(Section):
    """On the machines of a Ray cluster (the extra ``[ray]``): the same shards, the same bytes.

    Every worker must see the run directory, the faces and the checkpoint under the same paths as this process.
    """

    type: Literal["ray"] = "ray"
    address: str | None = Field(default=None, pattern=ADDRESS)
    """``host:port`` of a cluster's head; ``auto`` for the cluster that this machine belongs to. None starts a cluster of
    this machine for the stage, reachable from this machine only, and stops it afterwards."""
    num_cpus_per_shard: int | None = Field(default=None, ge=1)
    """Cores per worker. None takes the number of threads of the work: if the network computes on the CPU, that of this
    process (OMP_NUM_THREADS), since the last bits of a probability may depend on it; else one."""
    num_gpus_per_shard: float = Field(default=0, ge=0, le=1)
    """GPUs per worker; with 0.5 two workers share a GPU. Drawing masks takes none."""
    max_retries: int = Field(default=3, ge=0)
    """How often a shard is repeated after its worker was lost, before the stage fails."""


def _type_alone(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


ExecutionConfig = Annotated[InProcess | RayExecution, Field(discriminator="type"), BeforeValidator(_type_alone)]
"""A section, or its type alone: ``execution: ray``."""
