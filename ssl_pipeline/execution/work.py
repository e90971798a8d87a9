"""What work on shards must offer to be done here or in another process."""

from collections.abc import Callable
from typing import Protocol, TypeVar

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")
ShardT_contra = TypeVar("ShardT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class ShardWork(Protocol[ShardT_contra, ResultT_co]):
    """Work that is ready to be done in this process, and knows how to be made ready in another one."""

    @property
    def num_threads(self) -> int:
        """Threads that it computes with."""

    @property
    def on_gpu(self) -> bool:
        """Whether it needs a GPU."""

    def __call__(self, shard: ShardT_contra, /) -> ResultT_co:
        """Work on one shard; what it leaves, it leaves by atomic writes."""

    def recipe(self) -> Callable[[], Callable[[ShardT_contra], ResultT_co]]:
        """Give what makes the same work ready in another process: small, and of paths that both see."""
