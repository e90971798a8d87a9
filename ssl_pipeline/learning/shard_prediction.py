"""Predict a pool of faces in shards: each is one file, finished once, so that a lost process costs one shard."""

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
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.errors import CheckpointError, RunError
from ssl_pipeline.execution.shards import IN_PROCESS, map_shards
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.device import Device
from ssl_pipeline.learning.predict import CheckpointPredictor, View
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.progress import ProgressBar
from ssl_pipeline.runs.uploads import request_upload

logger = logging.getLogger(__name__)

KEY = b"ssl_pipeline.shard"


def check_image_size(checkpoint: Checkpoint, image_size: int) -> None:
    """Refuse a model that was trained on faces of another size than those at hand.

    Raises:
        CheckpointError: naming both sizes.
    """
    if checkpoint.image_size != image_size:
        raise CheckpointError(
            f"{checkpoint.path}: trained on faces of {checkpoint.image_size} pixels, faces.image_size is {image_size}; "
            f"set faces.image_size={checkpoint.image_size} or train again"
        )


@dataclass(frozen=True)
class FaceShard:
    """Faces that are predicted together, and the file that their probabilities go to.

    Attributes:
        path: of the part.
        image_ids: of B faces.
        pixel_rows: int [B], where their pixels lie.
    """

    path: Path
    image_ids: list[str]
    pixel_rows: IntArray

    @classmethod
    def of(cls, path: Path, faces: pd.DataFrame) -> Self:
        """Take the faces of a piece of a face table."""
        return cls(path, faces["image_id"].tolist(), faces["pixel_row"].to_numpy(np.int64))


@dataclass(frozen=True)
class ShardPrediction:
    """The work on a `FaceShard` (see `execution.work.ShardWork`): predict its faces, write its part, count them."""

    predictor: CheckpointPredictor
    pixels: npt.NDArray[np.uint8]
    identity: str
    on_batch: Callable[[int], None] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the network computes on a GPU."""
        return self.predictor.compute.device.type == "cuda"

    @property
    def num_threads(self) -> int:
        """Threads that the probabilities are computed with: on a CPU their last bits may depend on it."""
        return 1 if self.on_gpu else torch.get_num_threads()

    def __call__(self, shard: FaceShard) -> int:
        """Predict and write; returns the number of faces."""
        probabilities = self.predictor.predict(self.pixels, shard.pixel_rows, on_batch=self.on_batch)
        write_shard(shard.path, shard.image_ids, probabilities, self.identity)
        return len(shard.image_ids)

    def recipe(self) -> Callable[[], "ShardPrediction"]:
        """Name the files to open elsewhere, and whatever this process has chosen that the bytes depend on."""
        if not isinstance(self.pixels, np.memmap) or self.pixels.filename is None:
            raise ValueError("pixels: other processes open them by their file; expected a memory map")
        return partial(
            _open_elsewhere,
            self.predictor.checkpoint.path,
            digest=self.predictor.checkpoint.digest,
            config=self.predictor.config.model_copy(update={"precision": self.predictor.compute.precision}),
            device="cuda" if self.on_gpu else "cpu",
            views=self.predictor.views,
            pixels=Path(self.pixels.filename),
            identity=self.identity,
            num_threads=self.num_threads,
        )


def _open_elsewhere(
    checkpoint: Path,
    *,
    digest: str,
    config: PredictionConfig,
    device: Device,
    views: Sequence[View],
    pixels: Path,
    identity: str,
    num_threads: int,
) -> ShardPrediction:
    torch.set_num_threads(num_threads)
    predictor = replace(CheckpointPredictor.load(checkpoint, config, device=device), views=views)
    if predictor.checkpoint.digest != digest:
        raise CheckpointError(f"{checkpoint}: another file on this machine than on the one that runs the stage")
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
    """Write ``part-00000.parquet``, …: image_id and class probabilities, float32 [K], in the order of `faces`.

    Args:
        predictor: the teacher.
        faces: a face table.
        pixels: uint8 [M, S, S, 3]; with an execution elsewhere, a memory map.
        directory: where the shards lie. Finished ones of the same identity are left as they are.
        shard_size: faces in a shard.
        identity: digest of everything that the probabilities depend on.
        name: what whoever watches is told.
        execution: where the shards are predicted; their bytes do not depend on it.

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

        here = isinstance(execution, InProcess)
        work = ShardPrediction(predictor, pixels, identity, on_batch=advance if here else None)
        map_shards(work, shards, execution, directory=directory, on_done=None if here else advance)
    return {"num_shards": num_shards, "num_skipped": num_shards - len(open_shards), "num_faces": len(faces)}


def read_shards(directory: Path, faces: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Read the class probabilities of `faces`, float32 [N, K], and make sure that they are theirs.

    Raises:
        RunError: if the shards hold other faces.
    """
    tables = [pq.read_table(path) for path in sorted(directory.glob("part-*.parquet"))]
    table = pa.concat_tables(tables)
    if table["image_id"].to_pylist() != faces["image_id"].tolist():
        raise RunError(f"{directory}: predictions of other faces; delete this folder and run again")
    lists = table["class_probabilities"].combine_chunks()
    return np.asarray(lists.flatten()).reshape(len(table), -1)


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
    """Write class probabilities, float32 [N, K], of these faces, for what `identity` says that they depend on."""
    num_classes = probabilities.shape[1]
    column: Any = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), num_classes)
    table = pa.table({"image_id": pa.array(image_ids, pa.string()), "class_probabilities": column})
    with atomic_path(path) as beside:
        pq.write_table(table.replace_schema_metadata({KEY: identity.encode()}), beside)
