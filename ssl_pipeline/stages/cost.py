"""What a model costs: its size, and how many faces it predicts per second, measured in the run."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.embedders import OnnxEmbedder
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.vote import FeatureHead, Vote
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.versions import VERSIONS

NUM_FACES, MIN_SECONDS, MAX_PASSES = 64, 1.0, 10


def measure_cost(config: RunConfig, run: RunDir, model_dir: Path) -> dict[str, Any]:
    """Measure a model's size and speed once; kept in the record of ``cost/`` next to its checkpoint.

    Every model predicts the same validation faces with the settings of `prediction`, from pixels in memory. Heads compute
    their features, as for a new image.

    Returns:
        JSON-able. ``num_models`` of a vote, else 1; ``num_parameters``, None with an ONNX file, which does not tell;
        ``num_bytes`` of the checkpoint; ``faces_per_second``, None for a vote that cannot predict new images; ``device``.
    """
    checkpoint, device = model_dir / "best.safetensors", str(resolve_device(config.device))
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(config, run),
        "prediction": config.prediction.fingerprint_fields(exclude=()),
        "device": device,
    }

    def work() -> dict[str, Any]:
        predictor = CheckpointPredictor.load(
            checkpoint, config.prediction, labels=config.labels.space, device=config.device
        )
        labeled, model = read_faces(run.faces / "labeled.parquet"), predictor.checkpoint.model
        rows = labeled.loc[labeled["split"] == "validation", "pixel_row"].to_numpy(np.int64)[:NUM_FACES]
        return {
            "num_models": len(model.members) if isinstance(model, Vote) else 1,
            "num_parameters": num_parameters(model),
            "num_bytes": checkpoint.stat().st_size,
            "faces_per_second": _faces_per_second(predictor, run, rows) if _predicts_new_images(model) else None,
            "device": device,
        }

    record = run_stage(model_dir / "cost", version=VERSIONS["cost"], inputs=inputs, outputs=[], work=work)
    return dict(record.result)


def num_parameters(model: FaceClassifier | Vote) -> int | None:
    """Count the parameters of a model, those of a vote's heads and embedders included; None with an ONNX file."""
    heads = [part for part in model.modules() if isinstance(part, FeatureHead)]
    if any(isinstance(head.embedder, OnnxEmbedder) for head in heads):
        return None
    in_heads = sum(head.weights.numel() + head.bias.numel() for head in heads)  # buffers
    return in_heads + sum(parameter.numel() for parameter in model.parameters())


def _predicts_new_images(model: FaceClassifier | Vote) -> bool:
    return all(part.embedder is not None for part in model.modules() if isinstance(part, FeatureHead))


def _faces_per_second(predictor: CheckpointPredictor, run: RunDir, rows: IntArray) -> float:
    """Time passes over the faces after one that warms up."""
    pixels = np.array(open_pixels(run.faces / "pixels.npy")[rows])  # in memory: no stored features
    positions = np.arange(len(pixels))
    predictor.predict(pixels, positions)
    started, num_passes = time.perf_counter(), 0
    while num_passes < MAX_PASSES and time.perf_counter() - started < MIN_SECONDS:
        predictor.predict(pixels, positions)
        num_passes += 1
    return num_passes * len(pixels) / (time.perf_counter() - started)
