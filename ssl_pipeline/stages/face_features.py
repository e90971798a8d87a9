"""Face features stage: the input of the last layer of a trained model of the run, for chosen faces."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.checkpoint import digest_checkpoint
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.learning.vote import Vote
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.runs.records import StageRecord, run_stage
from ssl_pipeline.stages.versions import VERSIONS

FOLDER, FEATURES = "face_features", "features.npy"


def face_features(config: RunConfig, run: RunDir, model_dir: Path, rows: IntArray) -> npt.NDArray[np.float32]:
    """Compute the features of faces by a model of the run; the same rows asked again are read from the run.

    A vote's features are those of its first network, or of its first head where it has none.

    Args:
        config: of the run.
        run: the run's directory.
        model_dir: the folder of the model, e.g. ``run.student(1)``.
        rows: int [N], rows of ``faces/pixels.npy``.

    Returns:
        float32 [N, D], in the order of `rows`.

    Raises:
        CheckpointError: if the checkpoint is missing, or its backbone gives no features.
        RunError: if the faces are not prepared.
    """
    checkpoint = model_dir / "best.safetensors"
    inputs = {
        "checkpoint": digest_checkpoint(checkpoint),
        "pixels": StageRecord.read(run.faces).outputs["pixels.npy"],
        "rows": digest_of(rows.tolist()),
        "precision": config.prediction.precision,
        "device": str(resolve_device(config.device)),
    }
    directory = model_dir / FOLDER / inputs["rows"][:12]

    def work() -> dict[str, Any]:
        predictor = _of_network(CheckpointPredictor.load(checkpoint, config.prediction, device=config.device))
        features = pooled_features(predictor, open_pixels(run.faces / "pixels.npy"), rows)
        with atomic_path(directory / FEATURES) as partial, open(partial, "wb") as file:
            np.save(file, features, allow_pickle=False)
        return {"num_faces": len(features), "num_features": features.shape[1]}

    run_stage(directory, version=VERSIONS["face_features"], inputs=inputs, outputs=[FEATURES], work=work)
    return np.asarray(np.load(directory / FEATURES, allow_pickle=False), np.float32)


def _of_network(predictor: CheckpointPredictor) -> CheckpointPredictor:
    """Return the predictor of the first network of a vote; another predictor as it is."""
    members = predictor.checkpoint.model.members if isinstance(predictor.checkpoint.model, Vote) else ()
    network = next((member.name for member in members if isinstance(member.model, FaceClassifier)), None)
    return predictor if network is None else replace(predictor, member=network)
