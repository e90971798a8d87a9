"""Draw the pictures of a masked set: in this process, in several processes, or on a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.execution.shards import map_shards
from ssl_pipeline.runs.progress import ProgressBar
from ssl_pipeline.synthetic.masks.landmarks import LandmarkFinder, landmark_finder
from ssl_pipeline.synthetic.masks.picture_files import GroupResult, HostGroup, draw_pictures

MAX_GROUPS_IN_ONE_PROCESS = 64
GROUPS_PER_SHARD = 64
"""Work of a Ray worker at a time: a few seconds."""


def draw_groups(
    groups: Sequence[HostGroup], config: MaskingConfig, finder: LandmarkFinder, execution: ExecutionConfig
) -> list[GroupResult]:
    """Draw the groups, with a progress bar on a terminal; return the results in the groups' order.

    Raises:
        RunError: if a drawing process dies.
        PipelineError: if a Ray cluster fails; see `execution.shards.map_shards`.
    """
    with ProgressBar("drawing masks", len(groups), unit="people") as bar:
        if isinstance(execution, InProcess):
            results = []
            for result in _draw_here(groups, config, finder):
                results.append(result)
                bar.advance()
            return results
        starts = range(0, len(groups), GROUPS_PER_SHARD)
        shards = (groups[start : start + GROUPS_PER_SHARD] for start in starts)
        work, directory = ShardDrawing(config, finder), config.folder
        parts = map_shards(work, shards, execution, directory=directory, on_done=lambda part: bar.advance(len(part)))
        return [result for part in parts for result in part]


@dataclass(frozen=True)
class ShardDrawing:
    """Work on a shard of groups (see `execution.work.ShardWork`)."""

    config: MaskingConfig
    finder: LandmarkFinder
    num_threads = 1
    on_gpu = False

    def __call__(self, groups: Sequence[HostGroup]) -> list[GroupResult]:
        """Draw the missing pictures of each group."""
        return [draw_pictures(group, self.config, self.finder) for group in groups]

    def recipe(self) -> Callable[[], "ShardDrawing"]:
        """Return a function that builds the same work on a worker."""
        return partial(_shard_drawing, self.config)


def _shard_drawing(config: MaskingConfig) -> ShardDrawing:
    return ShardDrawing(config, landmark_finder(config.landmarks, root=config.root))


def _draw_here(groups: Sequence[HostGroup], config: MaskingConfig, finder: LandmarkFinder) -> Iterator[GroupResult]:
    num_processes = min(config.processes or os.cpu_count() or 1, len(groups))
    in_this_process = num_processes <= 1 or len(groups) <= MAX_GROUPS_IN_ONE_PROCESS
    with nullcontext() if in_this_process else _start_pool(num_processes, config) as pool:
        try:
            yield from (
                (draw_pictures(group, config, finder) for group in groups)
                if pool is None
                else pool.map(_draw_group, groups, chunksize=8)
            )
        except BrokenProcessPool:
            raise RunError(
                "a process that draws masks ended unexpectedly; run again to continue (a script that calls "
                "build_masked_faces needs `if __name__ == '__main__':`, or masking.processes: 1)"
            ) from None


def _start_pool(num_processes: int, config: MaskingConfig) -> ProcessPoolExecutor:
    context = get_context("spawn")
    return ProcessPoolExecutor(num_processes, mp_context=context, initializer=_start_process, initargs=(config,))


_work: dict[str, Any] = {}
"""Of a drawing process: the config and the landmark finder, which is opened once."""


def _start_process(config: MaskingConfig) -> None:
    _work["config"], _work["finder"] = config, landmark_finder(config.landmarks, root=config.root)


def _draw_group(group: HostGroup) -> GroupResult:
    return draw_pictures(group, _work["config"], _work["finder"])
