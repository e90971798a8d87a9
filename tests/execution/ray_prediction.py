"""Prediction of shards that records each attempt."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ssl_pipeline.learning.shard_prediction import FaceShard, ShardPrediction
from tests.execution.ray_support import leave_trace


class TracedPrediction(ShardPrediction):
    """Predicts; the first attempt at part-00002 hangs."""

    folder = Path()

    def recipe(self) -> Callable[[], Callable[[FaceShard], int]]:
        return partial(_open_traced, super().recipe(), self.folder)


def _open_traced(recipe: Callable[[], ShardPrediction], folder: Path) -> Callable[[FaceShard], int]:
    work = recipe()

    def predict(shard: FaceShard) -> int:
        if (
            leave_trace(folder, shard.path.stem, threads=torch.get_num_threads()) == 1
            and shard.path.stem == "part-00002"
        ):
            time.sleep(600)
        return work(shard)

    return predict
