"""What it costs to work on shards by Ray instead of in this process, and what a billion faces would take on paper.

python -m benchmarks.scaling            (needs the extra [ray])

Two shards' worth of random faces of 64 pixels are labeled by a small network with random weights, in this process and on
a cluster of this machine; work that does nothing tells what a shard costs beside its faces.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ssl_pipeline.config.execution import RayExecution
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.execution.ray_cluster import connected
from ssl_pipeline.execution.shards import IN_PROCESS, map_shards
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import predict_shards

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
SIZE, SHARD_SIZE, NUM_EMPTY = 64, 4096, 200


@dataclass(frozen=True)
class Nothing:
    """Work that is handed rows, and does nothing."""

    num_threads: int = 1
    on_gpu: bool = False

    def __call__(self, shard: tuple[list[str], np.ndarray], /) -> int:
        """Count them."""
        return len(shard[0])

    def recipe(self) -> "Callable[[], Nothing]":
        """Need nothing elsewhere."""
        return partial(Nothing)


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def label(directory: Path, num_faces: int, architecture: str) -> tuple[float, float, bool]:
    """Seconds in this process and by Ray, and whether the parts are the same bytes."""
    torch.manual_seed(0)
    config = ModelConfig(architecture=architecture)
    checkpoint = directory / "best.safetensors"
    save_checkpoint(
        checkpoint, build_model(config, labels=SPACE, image_size=SIZE), model_config=config, image_size=SIZE
    )
    pixels = np.lib.format.open_memmap(
        directory / "pixels.npy", mode="w+", dtype=np.uint8, shape=(num_faces, SIZE, SIZE, 3)
    )
    pixels[:] = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    rows = np.arange(num_faces)
    faces = pd.DataFrame({"image_id": [f"pool:{row:08d}.jpg" for row in rows], "pixel_row": rows})
    predictor = CheckpointPredictor.load(checkpoint, PredictionConfig(), device="cpu")
    seconds, parts = [], []
    for name, execution in (("here", IN_PROCESS), ("ray", RayExecution())):
        predict = partial(predict_shards, predictor, faces, pixels, shard_size=SHARD_SIZE, identity="a")
        seconds.append(seconds_of(partial(predict, directory=directory / name, execution=execution)))
        parts.append([path.read_bytes() for path in sorted((directory / name).glob("part-*"))])
    return seconds[0], seconds[1], parts[0] == parts[1]


def main() -> None:
    """Print what was measured."""
    options = argparse.ArgumentParser()
    options.add_argument("--faces", type=int, default=2 * SHARD_SIZE)
    options.add_argument("--architecture", default="wrn16_2")
    given = options.parse_args()
    rows = ([f"pool:{row:08d}.jpg" for row in range(SHARD_SIZE)], np.arange(SHARD_SIZE))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        here, ray, same = label(directory, given.faces, given.architecture)
        whole = seconds_of(lambda: map_shards(Nothing(), [rows], RayExecution(), directory=directory))
        with connected(RayExecution()):  # open already: what is left is workers and shards
            few = seconds_of(lambda: map_shards(Nothing(), [rows] * 2, RayExecution(), directory=directory))
            many = seconds_of(lambda: map_shards(Nothing(), [rows] * NUM_EMPTY, RayExecution(), directory=directory))
    print(f"{given.architecture}, {SIZE} px, {given.faces:,} faces, {torch.get_num_threads()} threads a process")
    print(f"in this process {here:.1f} s ({given.faces / here:.0f} faces/s), by Ray {ray:.1f} s; same bytes: {same}")
    print(f"a cluster of this machine, started and ended, with workers that load nothing: {whole:.1f} s")
    print(
        f"its workers alone: {few:.1f} s; a shard of {SHARD_SIZE} rows: {1000 * (many - few) / (NUM_EMPTY - 2):.1f} ms"
    )


if __name__ == "__main__":
    main()
