"""Drawing the units of a masked set: one after the other, in fresh processes where they are many, or on a Ray cluster."""

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
from ssl_pipeline.synthetic.masks.pictures import Unit, UnitResult, make_pictures

MAX_UNITS_IN_ONE_PROCESS = 64
UNITS_IN_A_SHARD = 64
"""Of a Ray worker: some seconds of drawing."""


def draw_units(
    units: Sequence[Unit], config: MaskingConfig, finder: LandmarkFinder, execution: ExecutionConfig
) -> list[UnitResult]:
    """Draw the units, with a bar on a terminal; results in the units' order, wherever they were drawn.

    Raises:
        RunError: if a process that draws dies.
        PipelineError: of a Ray cluster; see `execution.shards.map_shards`.
    """
    with ProgressBar("drawing masks", len(units), unit="people") as bar:
        if isinstance(execution, InProcess):
            results = []
            for result in _drawn_here(units, config, finder):
                results.append(result)
                bar.advance()
            return results
        starts = range(0, len(units), UNITS_IN_A_SHARD)
        shards = (units[start : start + UNITS_IN_A_SHARD] for start in starts)
        work, directory = ShardDrawing(config, finder), config.folder
        parts = map_shards(work, shards, execution, directory=directory, on_done=lambda part: bar.advance(len(part)))
        return [result for part in parts for result in part]


@dataclass(frozen=True)
class ShardDrawing:
    """The work on a shard of units (see `execution.work.ShardWork`)."""

    config: MaskingConfig
    finder: LandmarkFinder
    num_threads = 1
    on_gpu = False

    def __call__(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Draw the pictures of each unit that are not there yet."""
        return [make_pictures(unit, self.config, self.finder) for unit in units]

    def recipe(self) -> Callable[[], "ShardDrawing"]:
        """Name the landmarks to open elsewhere."""
        return partial(_open_elsewhere, self.config)


def _open_elsewhere(config: MaskingConfig) -> ShardDrawing:
    return ShardDrawing(config, landmark_finder(config.landmarks, root=config.root))


def _drawn_here(units: Sequence[Unit], config: MaskingConfig, finder: LandmarkFinder) -> Iterator[UnitResult]:
    processes = min(config.processes or os.cpu_count() or 1, len(units))
    one = processes <= 1 or len(units) <= MAX_UNITS_IN_ONE_PROCESS
    with nullcontext() if one else _processes(processes, config) as pool:
        try:
            yield from (
                (make_pictures(unit, config, finder) for unit in units)
                if pool is None
                else pool.map(_draw_unit, units, chunksize=8)
            )
        except BrokenProcessPool:
            raise RunError(
                "a process that draws masks ended before its work; run again to go on (a script that calls "
                "build_masked_faces needs `if __name__ == '__main__':`, or masking.processes: 1)"
            ) from None


def _processes(number: int, config: MaskingConfig) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(number, mp_context=get_context("spawn"), initializer=_start_process, initargs=(config,))


_work: dict[str, Any] = {}
"""Of a drawing process: the config, and the landmarks opened once."""


def _start_process(config: MaskingConfig) -> None:
    _work["config"], _work["finder"] = config, landmark_finder(config.landmarks, root=config.root)


def _draw_unit(unit: Unit) -> UnitResult:
    return make_pictures(unit, _work["config"], _work["finder"])
