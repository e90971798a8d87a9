"""One training a GPU: a place is taken from a limit that the server keeps, when a training has work to do."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from ssl_pipeline.errors import ConfigError

logger = logging.getLogger("ssl_pipeline.limits")  # the library's name, so that the UI shows the lines

LIMIT_VARIABLE = "SSL_PIPELINE_GPU_LIMIT"
# A killed training keeps its place for so long at most. Renewed at three quarters of it: a server may be away for a
# quarter before a place is given to somebody else.
_LEASE_SECONDS = 120


@contextmanager
def gpu_slots(num_gpus: int) -> Iterator[None]:
    """Hold so many places of the limit ``gpu``, or of the one that SSL_PIPELINE_GPU_LIMIT names, while the context lasts.

    Without such a limit on the server, or with an empty name, nobody waits.

    Raises:
        ConfigError: if the limit is smaller than what is asked for.
    """
    name = os.environ.get(LIMIT_VARIABLE, "gpu")
    size = _size_of(name) if name else None
    if size is None:
        yield
        return
    if num_gpus > size:
        raise ConfigError(
            f"training.num_processes {num_gpus}: each takes a place of the limit '{name}', which has {size}; lower "
            f"num_processes, or raise it: prefect gcl update {name} --limit {num_gpus}"
        )
    logger.info("takes %d of the %d places of the limit '%s', when they are free", num_gpus, size, name)
    holder = ConcurrencyLeaseHolder(type="flow_run", id=UUID(flow_run.id)) if flow_run.id else None
    with concurrency(name, occupy=num_gpus, lease_duration=_LEASE_SECONDS, holder=holder):
        yield


def _size_of(name: str) -> int | None:
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return None
    return limit.limit if limit.active else None
