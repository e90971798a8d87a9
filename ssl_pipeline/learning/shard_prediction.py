"""Prediction of a pool in shards: one file per shard, skipped when it is finished."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.run import Device, PredictionConfig
from ssl_pipeline.errors import CheckpointError, ConfigError, RunError
from ssl_pipeline.execution.shards import IN_PROCESS, map_shards
from ssl_pipeline.faces.pixels import mapped_file, open_pixels
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.engine import version_of_engine
from ssl_pipeline.learning.predict import CheckpointPredictor, View
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.progress import ProgressBar
from ssl_pipeline.runs.uploads import request_upload

logger = logging.getLogger(__name__)

KEY = b"ssl_pipeline.shard"


def check_image_size(checkpoint: Checkpoint, image_size: int) -> None:
    """Check that a model was trained on faces of this size.

    Raises:
        CheckpointError: with both sizes.
    """
    if checkpoint.image_size != image_size:
        raise CheckpointError(
            f"{checkpoint.path}: trained on faces of {checkpoint.image_size} pixels, faces.image_size is {image_size}; "
            f"--set faces.image_size={checkpoint.image_size}, or train again"
        )


@dataclass(frozen=True)
class FaceShard:
    """Faces of one shard, and the file for their probabilities.

    Attributes:
        path: the file to write.
        image_ids: of B faces.
        pixel_rows: int [B], their rows in the pixel array.
    """

    path: Path
    image_ids: list[str]
    pixel_rows: IntArray

    @classmethod
    def of(cls, path: Path, faces: pd.DataFrame) -> Self:
        """Build from the shard's rows of a face table."""
        return cls(path, faces["image_id"].tolist(), faces["pixel_row"].to_numpy(np.int64))


@dataclass(frozen=True)
class ShardPrediction:
    """Predict a `FaceShard` and write its file (an `execution.work.ShardWork`)."""

    predictor: CheckpointPredictor
    pixels: npt.NDArray[np.uint8]
    identity: str
    on_batch: Callable[[int], None] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.predictor.compute.device.type == "cuda"

    @property
    def num_threads(self) -> int:
        """Number of torch threads; on a CPU, the last bits of the probabilities may depend on it."""
        return 1 if self.on_gpu else torch.get_num_threads()

    def __call__(self, shard: FaceShard) -> int:
        """Predict and write a shard; return its number of faces."""
        probabilities = self.predictor.predict(self.pixels, shard.pixel_rows, on_batch=self.on_batch)
        write_shard(shard.path, shard.image_ids, probabilities, self.identity)
        return len(shard.image_ids)

    def recipe(self) -> Callable[[], "ShardPrediction"]:
        """Return a function that rebuilds this work in another process, with the same precision and number of threads."""
        if (pixels := mapped_file(self.pixels)) is None:
            raise ValueError("pixels: expected a memory map, which other processes can open, got an array")
        return partial(
            _open_work,
            self.predictor.checkpoint.path,
            digest=self.predictor.checkpoint.digest,
            engine_version=version_of_engine(self.predictor.config.engine),
            config=self.predictor.config.model_copy(update={"precision": self.predictor.compute.precision}),
            device="cuda" if self.on_gpu else "cpu",
            views=self.predictor.views,
            member=self.predictor.member,
            pixels=pixels,
            identity=self.identity,
            num_threads=self.num_threads,
        )


def _open_work(
    checkpoint: Path,
    *,
    digest: str,
    engine_version: str,
    config: PredictionConfig,
    device: Device,
    views: Sequence[View],
    member: str | None,
    pixels: Path,
    identity: str,
    num_threads: int,
) -> ShardPrediction:
    torch.set_num_threads(num_threads)
    predictor = replace(CheckpointPredictor.load(checkpoint, config, device=device), views=views, member=member)
    if predictor.checkpoint.digest != digest:
        raise CheckpointError(f"{checkpoint}: this machine has another file than the machine that runs the stage")
    if (version := version_of_engine(config.engine)) != engine_version:
        raise ConfigError(
            f"this machine has {config.engine} {version}, the machine that runs the stage {engine_version}: other versions "
            "give other bytes; install the same on both"
        )
    return ShardPrediction(predictor, open_pixels(pixels), identity)


def predict_shards(
    predictor: CheckpointPredictor,
    faces: pd.DataFrame,
    pixels: npt.NDArray[np.uint8],
    *,
    directory: Path,
    shard_size: int,
    identity: str,
    execution: ExecutionConfig = IN_PROCESS,
    name: str = "labeling",
) -> dict[str, int]:
    """Write image_id and class probabilities, float32 [K], to ``part-00000.parquet``, …, in the order of `faces`.

    Args:
        predictor: the teacher.
        faces: a face table.
        pixels: uint8 [M, S, S, 3]; a memory map, unless predicted in this process.
        directory: of the shards; finished ones with the same identity are skipped.
        shard_size: faces per shard.
        identity: digest of everything that the probabilities depend on.
        name: the task's name in progress reports.
        execution: where the shards are predicted; does not change their bytes.

    Returns:
        ``num_shards, num_skipped, num_faces``.

    Raises:
        PipelineError: see `execution.shards.map_shards`.
    """
    num_shards = -(-len(faces) // shard_size)
    parts = [_part(directory, shard) for shard in range(num_shards)]
    for stale in set(directory.glob("part-*.parquet")) - set(parts):
        stale.unlink()
    open_shards = [shard for shard, part in enumerate(parts) if not _is_finished(part, identity)]
    shards = (
        FaceShard.of(parts[shard], faces.iloc[shard * shard_size : (shard + 1) * shard_size]) for shard in open_shards
    )
    num_open = sum(min(shard_size, len(faces) - n * shard_size) for n in open_shards)
    with ProgressBar(name, num_open, unit="faces") as bar:

        def advance(num_faces: int) -> None:
            bar.advance(num_faces)
            request_upload()

        in_process = isinstance(execution, InProcess)
        work = ShardPrediction(predictor, pixels, identity, on_batch=advance if in_process else None)
        map_shards(work, shards, execution, directory=directory, on_done=None if in_process else advance)
    return {"num_shards": num_shards, "num_skipped": num_shards - len(open_shards), "num_faces": len(faces)}


def read_shards(directory: Path, faces: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Read the class probabilities of `faces`, float32 [N, K].

    Raises:
        RunError: if the shards contain other faces.
    """
    parts = sorted(directory.glob("part-*.parquet"), key=lambda path: int(path.stem.removeprefix("part-")))
    others = RunError(f"{directory}: the predictions are of other faces; delete this folder and run again")
    probabilities, start = np.zeros((len(faces), 0), np.float32), 0
    for path in parts:  # one at a time: image ids as Python's texts take more memory than probabilities
        table = pq.read_table(path)
        rows = slice(start, start := start + len(table))
        if table["image_id"].to_pylist() != faces["image_id"].iloc[rows].tolist():
            raise others
        found = np.asarray(table["class_probabilities"].combine_chunks().flatten()).reshape(len(table), -1)
        if not rows.start:
            probabilities = np.empty((len(faces), found.shape[1]), found.dtype)
        probabilities[rows] = found
    if start != len(faces) or not parts:
        raise others
    return probabilities


def _part(directory: Path, shard: int) -> Path:
    return directory / f"part-{shard:05d}.parquet"


def _is_finished(path: Path, identity: str) -> bool:
    if not path.is_file():
        return False
    try:
        return (pq.read_schema(path).metadata or {}).get(KEY) == identity.encode()
    except pa.ArrowInvalid:
        return False


def write_shard(path: Path, image_ids: list[str], probabilities: npt.NDArray[np.float32], identity: str) -> None:
    """Write a shard's class probabilities, float32 [N, K], marked with their `identity`."""
    num_classes = probabilities.shape[1]
    column: Any = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), num_classes)
    table = pa.table({"image_id": pa.array(image_ids, pa.string()), "class_probabilities": column})
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata({KEY: identity.encode()}), temporary)
