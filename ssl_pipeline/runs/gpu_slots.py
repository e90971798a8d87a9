"""How a stage that works waits its turn: whoever runs the stages may say how a place on a GPU is taken.

A stage asks for places only when it has work to do: one that skips itself takes none. Alone, a stage waits for nobody;
the flows set a limit that their server keeps.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

TakeSlots = Callable[[int], AbstractContextManager[None]]
"""From how many GPUs are wanted to a context that is entered when they are free, and frees them when it is left."""

_take: ContextVar[TakeSlots] = ContextVar("take_gpu_slots", default=lambda _: nullcontext())


@contextmanager
def provide_gpu_slots(take: TakeSlots) -> Iterator[None]:
    """Have the stages inside this context take their places by `take`."""
    token = _take.set(take)
    try:
        yield
    finally:
        _take.reset(token)


def gpu_slots(num_gpus: int) -> AbstractContextManager[None]:
    """Wait for so many GPUs, and hold them inside the context."""
    return _take.get()(num_gpus)
