"""Draws stage: how often a student's training draws each face of the pool, by resemblance to the labeled faces and by guessed class."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.resemblance import balance_classes, draws_by_odds, labeled_log_odds
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.checkpoint import digest_checkpoint
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.learning.predict import CheckpointPredictor, has_fixed_features, pooled_features
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.runs.records import StageRecord, faces_digest, run_stage
from ssl_pipeline.stages.round_faces import RoundFaces
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)

DRAWS = "draws.parquet"


def weigh_draws(config: RunConfig, run: RunDir, round_index: int) -> Path | None:
    """Weigh the draws of a round's pool; writes ``draws/draws.parquet`` beside the round's predictions.

    Its columns: image_id; log_odds, see `evaluation.resemblance.labeled_log_odds`; weight, relative to the mean.

    Returns:
        The file; None without `student.draws`.
    """
    settings = config.student.draws
    if settings is None:
        return None
    teacher = (
        run.teacher if round_index == 1 else run.student(round_index - 1)
    ) / TRAINED  # features need no calibration
    directory = run.pseudo_labels(round_index) / "draws"
    inputs = {
        "faces": faces_digest(config, run),
        "teacher": digest_checkpoint(teacher),
        "draws": settings.model_dump(mode="json"),
        "precision": config.prediction.precision,
        "device": str(resolve_device(config.device)),
        "seed": config.seed,
    }
    if settings.class_balance:
        predictions = StageRecord.read(run.pseudo_labels(round_index) / "predictions")
        inputs["predictions"] = digest_of([predictions.inputs, predictions.outputs])

    def work() -> dict[str, Any]:
        predictor = CheckpointPredictor.load(
            teacher, config.prediction, labels=config.labels.space, device=config.device
        )
        labeled, pool = (read_faces(run.faces / f"{name}.parquet") for name in ("labeled", "unlabeled"))
        # a trained network knows its training faces by heart: in its features they would resemble nothing else
        splits = ["train", "validation"] if has_fixed_features(predictor.model) else ["validation"]
        tables, pixels = [pool, labeled[labeled["split"].isin(splits)]], open_pixels(run.faces / "pixels.npy")
        features = [pooled_features(predictor, pixels, table["pixel_row"].to_numpy(np.int64)) for table in tables]
        log_odds = labeled_log_odds(*features, units=independent_units(pd.concat(tables)), seed=config.seed)
        draws = draws_by_odds(log_odds, min_effective_share=settings.min_effective_share)
        weights = draws.weights
        if settings.class_balance:
            guessed = RoundFaces(config, run, round_index).pool_probabilities.astype(np.float64)
            weights = balance_classes(weights, guessed, exponent=settings.class_balance)
        frame = pd.DataFrame({"image_id": pool["image_id"], "log_odds": log_odds, "weight": weights})
        with atomic_path(directory / DRAWS) as temporary:
            frame.to_parquet(temporary, index=False)
        logger.info(
            "round %d: draws by resemblance: odds to the power of %.2f, worth %.0f %% of the pool",
            round_index,
            draws.exponent,
            100 * draws.effective_share,
        )
        return {"exponent": draws.exponent, "effective_share": draws.effective_share}

    run_stage(directory, version=VERSIONS["draws"], inputs=inputs, outputs=[DRAWS], work=work)
    return directory / DRAWS


def read_draws(path: Path) -> "pd.Series[float]":
    """Read the weights of `weigh_draws`, by image id."""
    return pd.read_parquet(path).set_index("image_id")["weight"]
