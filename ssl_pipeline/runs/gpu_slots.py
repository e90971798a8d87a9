"""GPU slots: a limit on concurrent GPU stages that the flows provide.

A stage takes slots only when it has work to do, not when it skips itself. Without a provider, stages never wait; the
flows provide a limit that the Prefect server enforces.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

TakeSlots = Callable[[int], AbstractContextManager[None]]
"""Number of GPUs → a context that waits for them on entry and frees them on exit."""

_take: ContextVar[TakeSlots] = ContextVar("take_gpu_slots", default=lambda _: nullcontext())


@contextmanager
def provide_gpu_slots(take: TakeSlots) -> Iterator[None]:
    """Let stages inside this context take their slots through `take`."""
    token = _take.set(take)
    try:
        yield
    finally:
        _take.reset(token)


def gpu_slots(num_gpus: int) -> AbstractContextManager[None]:
    """Return a context that waits for this number of GPUs and holds them."""
    return _take.get()(num_gpus)
