"""Predict a pool of faces in shards: each is one file, finished once, so that a lost process costs one shard."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from ssl_pipeline.errors import CheckpointError, RunError
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.runs import atomic_path

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


def predict_shards(
    predictor: Predictor,
    faces: pd.DataFrame,
    pixels: npt.NDArray[np.uint8],
    *,
    directory: Path,
    shard_size: int,
    identity: str,
) -> dict[str, int]:
    """Write ``part-00000.parquet``, …: image_id and class probabilities, float32 [K], in the order of `faces`.

    Args:
        predictor: the teacher.
        faces: a face table.
        pixels: uint8 [M, S, S, 3].
        directory: where the shards lie. Finished ones of the same identity are left as they are.
        shard_size: faces in a shard.
        identity: digest of everything that the probabilities depend on.

    Returns:
        ``num_shards, num_skipped, num_faces``.
    """
    starts = range(0, len(faces), shard_size)
    num_skipped = 0
    for stale in set(directory.glob("part-*.parquet")) - {_part(directory, shard) for shard in range(len(starts))}:
        stale.unlink()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("labeling", total=len(faces))
        for shard, start in enumerate(starts):
            rows = faces.iloc[start : start + shard_size]
            if _is_finished(_part(directory, shard), identity):
                num_skipped += 1
                bar.advance(task, len(rows))
                continue
            probabilities = predictor.predict(
                pixels, rows["pixel_row"].to_numpy(np.int64), on_batch=lambda num: bar.advance(task, num)
            )
            write_shard(_part(directory, shard), rows["image_id"].tolist(), probabilities, identity)
    return {"num_shards": len(starts), "num_skipped": num_skipped, "num_faces": len(faces)}


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
