"""Small batches computed side by side on a processor's cores, by threads with a share of the cores each.

A network that computes one batch on all cores waits at every layer for the slowest of them, which may just decode an image
or run Python. Threads with a batch each never wait for one another, and a small batch's activations stay in the cache.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from ssl_pipeline.labels import IntArray

ResultT = TypeVar("ResultT")

_MAX_THREADS = 4
"""More cores make them wider: Python runs in one thread at a time, and each holds the activations of a batch."""
_FACES_ON_A_CPU = 16


def split_rows(rows: IntArray, batch_size: int, device: torch.device) -> list[IntArray]:
    """Split rows into batches of up to `batch_size`; on a CPU of 16 at most, and at least one for each thread."""
    if device.type == "cpu":
        batch_size = min(batch_size, _FACES_ON_A_CPU, -(-len(rows) // _num_threads(device)) or 1)
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def map_batches(
    work: Callable[[IntArray], ResultT], batches: list[IntArray], *, device: torch.device
) -> Iterator[ResultT]:
    """Yield the results of `work` for each batch, in order; on a CPU up to four batches are computed at a time.

    Autocast and inference mode belong to a thread: `work` must set its own.
    """
    num_threads = min(_num_threads(device), len(batches))
    if num_threads <= 1:
        yield from map(work, batches)
        return
    cores = torch.get_num_threads() // num_threads

    def take_share() -> None:
        torch.get_num_threads()  # torch sets a new thread's number at its first use, which must not come later
        threadpool_limits(cores, user_api="openmp")  # this thread's alone; torch.set_num_threads is for all to come

    waiting: deque[Future[ResultT]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="batches", initializer=take_share)
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _num_threads(device: torch.device) -> int:
    return min(torch.get_num_threads(), _MAX_THREADS) if device.type == "cpu" else 1
