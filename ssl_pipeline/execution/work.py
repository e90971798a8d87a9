"""The protocol of work on shards, for this process or another one."""

from collections.abc import Callable
from typing import Protocol, TypeVar

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")
ShardT_contra = TypeVar("ShardT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class ShardWork(Protocol[ShardT_contra, ResultT_co]):
    """Work on shards, callable in this process, with a recipe to build it in another one."""

    @property
    def num_threads(self) -> int:
        """Number of threads that it computes with."""

    @property
    def on_gpu(self) -> bool:
        """Whether it needs a GPU."""

    def __call__(self, shard: ShardT_contra, /) -> ResultT_co:
        """Work on one shard; files are written atomically."""

    def recipe(self) -> Callable[[], Callable[[ShardT_contra], ResultT_co]]:
        """Return a picklable factory of the same work: small, with paths that both processes see."""
