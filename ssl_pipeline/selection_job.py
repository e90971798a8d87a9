"""What the stage `select` does: gather the pool, the teacher's predictions and the unseen faces; select; write the manifest."""

from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config import RunConfig
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.labeling import predict_shards, read_shards
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.pseudo_labels.guards import selection_faults
from ssl_pipeline.pseudo_labels.manifest import (
    Manifest,
    ManifestIdentity,
    build_manifest,
    read_manifest,
    write_manifest,
)
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.unseen import UnseenFaces
from ssl_pipeline.runs import RunDir, digest_of, run_stage


def predict_unseen(predictor: Predictor, run: RunDir, directory: Path, *, identity: dict[str, Any]) -> dict[str, Any]:
    """Predict the validation faces as the pool is predicted; writes ``part-00000.parquet`` and a record of its own.

    Args:
        predictor: the teacher.
        run: the run's directory.
        directory: where to write.
        identity: what the predictions depend on.
    """
    faces = validation_faces(run)
    return run_stage(
        directory,
        inputs=identity,
        outputs=["part-00000.parquet"],
        work=lambda: predict_shards(
            predictor,
            faces,
            open_pixels(run.faces / "pixels.npy"),
            directory=directory,
            shard_size=max(len(faces), 1),
            identity=digest_of(identity),
        ),
    )


def validation_faces(run: RunDir) -> pd.DataFrame:
    """The labeled faces of the validation split, a face table."""
    labeled = read_faces(run.faces / "labeled.parquet")
    return labeled[labeled["split"] == "validation"]


def make_manifest(
    config: RunConfig, run: RunDir, round_index: int, *, faces_digest: str, teacher_digest: str
) -> Manifest:
    """Select among the round's predictions and write manifest.parquet, with the faults that the guards find."""
    directory, labels, settings = run.pseudo_labels(round_index), config.labels.space, config.selection
    pool, validation = read_faces(run.faces / "unlabeled.parquet"), validation_faces(run)
    labeled = read_faces(run.faces / "labeled.parquet")
    unseen = UnseenFaces(read_shards(directory / "unseen", validation), labels.encode(validation))
    training_codes = labels.encode(labeled[labeled["split"] == "train"])
    selection = select(
        read_shards(directory / "predictions", pool),
        labels.encode(pool),
        labels=labels,
        config=settings,
        image_ids=pool["image_id"],
        round_index=round_index,
        unseen=unseen,
        training_codes=training_codes[(training_codes >= 0).any(axis=1)],
    )
    rejected = pd.read_parquet(run.faces / "rejected.parquet")
    table = build_manifest(
        pool,
        selection,
        labels=labels,
        unreadable=rejected[rejected["role"] == "unlabeled"],
        identity=ManifestIdentity(
            run_name=config.run_name,
            round_index=round_index,
            faces_digest=faces_digest,
            teacher_digest=teacher_digest,
            selection_digest=digest_of(settings.model_dump(mode="json")),
        ),
        targets=settings.targets,
        settings=settings.model_dump(mode="json"),
        faults=selection_faults(selection, labels=labels, config=settings, unseen=unseen),
    )
    write_manifest(directory / "manifest.parquet", table)
    return read_manifest(directory / "manifest.parquet")
