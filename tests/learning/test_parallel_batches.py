"""Batches side by side on a processor's cores: their order, their sizes, and the cores that each may take."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ssl_pipeline.learning.parallel_batches import map_batches, split_rows

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=[1, 2, 8])
def num_cores(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_rows", [0, 1, 3, 65])
def test_the_results_come_in_order_from_every_row(num_cores: int, num_rows: int) -> None:
    batches = split_rows(np.arange(num_rows), 256, CPU)
    assert all(0 < len(batch) <= 16 for batch in batches)
    assert len(batches) >= min(num_cores, 4, num_rows)  # no thread is idle while another has all
    got = list(map_batches(lambda rows: rows + 1, batches, device=CPU))
    assert np.concatenate([np.zeros(0, int), *got]).tolist() == list(range(1, num_rows + 1))


def test_each_thread_takes_its_share_of_the_cores_and_changes_no_others(num_cores: int) -> None:
    together = threading.Barrier(min(num_cores, 4), timeout=20)  # passed only by as many batches at a time

    def work(rows: np.ndarray) -> int:
        together.wait()
        return torch.get_num_threads()

    shares = list(map_batches(work, split_rows(np.arange(128), 16, CPU), device=CPU))
    assert shares == [{1: 1, 2: 1, 8: 2}[num_cores]] * 8
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [num_cores, num_cores]


def test_a_failure_reaches_the_caller_and_ends_the_work(num_cores: int) -> None:
    begun = []

    def work(rows: np.ndarray) -> None:
        begun.append(rows[0])
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(map_batches(work, split_rows(np.arange(1600), 16, CPU), device=CPU))
    assert len(begun) < 30


def test_a_gpu_computes_one_batch_at_a_time_of_the_size_asked_for() -> None:
    batches = split_rows(np.arange(600), 256, CUDA)
    assert [len(batch) for batch in batches] == [256, 256, 88]
    main = threading.get_ident()
    assert list(map_batches(lambda rows: threading.get_ident(), batches, device=CUDA)) == [main] * 3
