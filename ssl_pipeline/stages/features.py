"""Features stage: the features of all faces of the run, by an embedder or from the user's table."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import EmbeddingTeacher, FeaturesTeacher
from ssl_pipeline.faces.feature_table import features_of_faces
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.device import Compute, resolve_device
from ssl_pipeline.learning.embedders import build_embedder, embed_faces, embedding_digest
from ssl_pipeline.learning.stored_features import FEATURES
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_file, digest_of
from ssl_pipeline.runs.progress import ProgressBar
from ssl_pipeline.runs.records import StageRecord, faces_digest, run_stage
from ssl_pipeline.stages.versions import VERSIONS


def compute_features(config: RunConfig, run: RunDir, name: str, teacher: EmbeddingTeacher) -> StageRecord:
    """Write the features of all faces of the run to ``features/<name>/features.npy``, float32 [M, D].

    M is the number of rows of ``pixels.npy``. The stage's input `embedding` is the digest of the features.

    Raises:
        FaceTableError: if faces are missing in the user's table.
        CheckpointError: if the network cannot be used.
    """
    directory = run.features / name
    inputs = {
        "faces": faces_digest(config, run),
        "pixels": StageRecord.read(run.faces).outputs["pixels.npy"],
        "embedding": features_digest(teacher),
        "precision": config.prediction.precision,
        "device": str(resolve_device(config.device)),
    }

    def work() -> dict[str, Any]:
        pixels = open_pixels(run.faces / "pixels.npy")
        faces = pd.concat([read_faces(run.faces / f"{table}.parquet") for table in ("labeled", "unlabeled")])
        faces = faces[faces["pixel_row"] >= 0].drop_duplicates("pixel_row").sort_values("pixel_row")
        rows = faces["pixel_row"].to_numpy(np.int64)
        if isinstance(teacher, FeaturesTeacher):
            vectors = features_of_faces(teacher.file, teacher.column, faces)
        else:
            vectors = _embed(teacher, pixels, rows, config, name)
        features = np.zeros((len(pixels), vectors.shape[1]), np.float32)
        features[rows] = vectors
        with atomic_path(directory / FEATURES) as partial, open(partial, "wb") as file:
            np.save(file, features, allow_pickle=False)
        return {"num_faces": len(rows), "num_features": vectors.shape[1]}

    return run_stage(directory, version=VERSIONS["features"], inputs=inputs, outputs=[FEATURES], work=work)


def features_digest(teacher: EmbeddingTeacher) -> str:
    """Digest what the features of a face depend on: the content of the file, and the settings."""
    if isinstance(teacher, FeaturesTeacher):
        return digest_of(["table", teacher.column, digest_file(teacher.file)])
    return embedding_digest(teacher.embedding)


def _embed(
    teacher: Any, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], config: RunConfig, name: str
) -> npt.NDArray[np.float32]:
    compute = Compute.build(config.device, config.prediction.precision)
    with ProgressBar(f"features {name}", len(rows), unit="faces") as bar:
        return embed_faces(
            build_embedder(teacher.embedding),
            pixels,
            rows,
            compute=compute,
            batch_size=config.prediction.batch_size,
            on_batch=bar.advance,
        )
