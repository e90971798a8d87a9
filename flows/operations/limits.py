"""One training per GPU: slots of a global concurrency limit on the Prefect server."""

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

logger = logging.getLogger("ssl_pipeline.limits")  # Prefect forwards the loggers of this name to the UI

LIMIT_VARIABLE = "SSL_PIPELINE_GPU_LIMIT"
# A killed training keeps its slot for at most this long. A lease is renewed after three quarters of it, so the server
# may be unreachable for a quarter before another training gets the slot.
_LEASE_SECONDS = 120


@contextmanager
def gpu_slots(num_gpus: int) -> Iterator[None]:
    """Hold slots of the limit ``gpu``, or of the limit that SSL_PIPELINE_GPU_LIMIT names, inside the context.

    Does nothing if the server has no such limit or the name is empty.

    Raises:
        ConfigError: if the limit has fewer than `num_gpus` slots.
    """
    name = os.environ.get(LIMIT_VARIABLE, "gpu")
    num_slots = _num_slots(name) if name else None
    if num_slots is None:
        yield
        return
    if num_gpus > num_slots:
        raise ConfigError(
            f"training.num_processes {num_gpus}: each needs a slot of the limit '{name}', which has {num_slots}; lower "
            f"num_processes, or raise the limit: prefect gcl update {name} --limit {num_gpus}"
        )
    logger.info("waiting for %d of %d slots of the limit '%s'", num_gpus, num_slots, name)
    holder = ConcurrencyLeaseHolder(type="flow_run", id=UUID(flow_run.id)) if flow_run.id else None
    with concurrency(name, occupy=num_gpus, lease_duration=_LEASE_SECONDS, holder=holder):
        yield


def _num_slots(name: str) -> int | None:
    """Return the size of a limit; None if it does not exist or is inactive."""
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return None
    return limit.limit if limit.active else None
