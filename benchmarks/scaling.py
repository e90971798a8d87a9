"""The cost of labeling shards by Ray instead of in this process.

python -m benchmarks.scaling            (needs the extra [ray])

A small network with random weights labels random faces of 64 pixels, two shards by default, in this process and on a
cluster of this machine. Empty work measures the cost of a shard apart from its faces.
"""

import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

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

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
IMAGE_SIZE, SHARD_SIZE, NUM_EMPTY_SHARDS = 64, 4096, 200


@dataclass(frozen=True)
class EmptyWork:
    """Work that receives rows and does nothing."""

    num_threads: int = 1
    on_gpu: bool = False

    def __call__(self, shard: tuple[list[str], np.ndarray], /) -> int:
        """Count the rows."""
        return len(shard[0])

    def recipe(self) -> "Callable[[], EmptyWork]":
        """Return the constructor."""
        return EmptyWork


def seconds_of(work: Callable[[], object]) -> float:
    """Time one call."""
    return timeit.timeit(work, number=1)


def measure_labeling(directory: Path, num_faces: int, architecture: str) -> tuple[float, float, bool]:
    """Return the seconds in this process and by Ray, and whether both wrote the same bytes."""
    torch.manual_seed(0)
    config = ModelConfig(architecture=architecture)
    model = build_model(config, labels=LABELS, image_size=IMAGE_SIZE)
    checkpoint = directory / "best.safetensors"
    save_checkpoint(checkpoint, model, model_config=config, image_size=IMAGE_SIZE, cropping=None)
    shape = (num_faces, IMAGE_SIZE, IMAGE_SIZE, 3)
    pixels = np.lib.format.open_memmap(directory / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    pixels[:] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows = np.arange(num_faces)
    faces = pd.DataFrame({"image_id": [f"pool:{row:08d}.jpg" for row in rows], "pixel_row": rows})
    predictor = CheckpointPredictor.load(checkpoint, PredictionConfig(), device="cpu")
    seconds, contents = [], []
    for name, execution in (("in_process", IN_PROCESS), ("ray", RayExecution())):
        predict = partial(predict_shards, predictor, faces, pixels, shard_size=SHARD_SIZE, identity="a")
        seconds.append(seconds_of(partial(predict, directory=directory / name, execution=execution)))
        contents.append([path.read_bytes() for path in sorted((directory / name).glob("part-*"))])
    return seconds[0], seconds[1], contents[0] == contents[1]


def main(
    num_faces: Annotated[int, typer.Option("--faces")] = 2 * SHARD_SIZE,
    architecture: Annotated[str, typer.Option()] = "wrn16_2",
) -> None:
    """Print the seconds."""
    rows = ([f"pool:{row:08d}.jpg" for row in range(SHARD_SIZE)], np.arange(SHARD_SIZE))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def empty_shards(count: int) -> float:
            shards = [rows] * count
            return seconds_of(lambda: map_shards(EmptyWork(), shards, RayExecution(), directory=directory))

        here, ray, same = measure_labeling(directory, num_faces, architecture)
        cluster = empty_shards(1)
        with connected(RayExecution()):  # with the cluster already up, workers and shards alone are measured
            few, many = empty_shards(2), empty_shards(NUM_EMPTY_SHARDS)
    milliseconds = 1000 * (many - few) / (NUM_EMPTY_SHARDS - 2)
    print(f"{architecture}, {IMAGE_SIZE} px, {num_faces:,} faces, {torch.get_num_threads()} threads per process")
    print(f"in this process {here:.1f} s ({num_faces / here:.0f} faces/s), by Ray {ray:.1f} s; same bytes: {same}")
    print(f"start and end of a cluster of this machine, with workers that load nothing: {cluster:.1f} s")
    print(f"its workers alone: {few:.1f} s; a shard of {SHARD_SIZE} rows: {milliseconds:.1f} ms")


if __name__ == "__main__":
    typer.run(main)
