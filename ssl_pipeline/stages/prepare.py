"""Preparation of a run's faces: sources, splits, leakage, pixels."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.faces.cropper import detector_identity
from ssl_pipeline.faces.preparation import OUTPUT_NAMES, prepare_faces
from ssl_pipeline.faces.sources.corrections import digest_correction
from ssl_pipeline.faces.sources.reading import fingerprint
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import finished_stage, run_stage
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedFaces:
    """Counts of the prepared faces; their tables are in `RunDir.faces`."""

    counts: Mapping[str, Any]
    """Faces read, used, rejected and per split, see `prepare_faces`."""
    skipped: bool


def prepare(config: RunConfig, run: RunDir) -> PreparedFaces:
    """Read the sources, split the labeled faces, remove leaked faces from the pool, and decode every face once.

    Run `stages.draw` first for sources of type `drawn` and for masked sets.
    """
    record = run_stage(
        run.faces,
        version=VERSIONS["prepare"],
        inputs=_inputs(config),
        outputs=OUTPUT_NAMES,
        work=lambda: prepare_faces(config.faces, config.labels, seed=config.seed, directory=run.faces),
    )
    if not record.skipped:
        _log_counts(record.result)
    return PreparedFaces(record.result, record.skipped)


def _log_counts(counts: Mapping[str, Any]) -> None:
    """Log what became of every file: the splits, and what of the pool is left out and why."""
    splits = ", ".join(f"{number:,} {split}" for split, number in counts["labeled"].items() if number)
    logger.info("labeled faces: %s", splits)
    pool = [own for own in counts["sources"].values() if own["role"] == "unlabeled"]
    left_out = {
        "unusable": sum(own["rejected"] for own in pool),
        "no images": sum(own["passed_over"] for own in pool),
        "filtered": sum(own["filtered"] for own in pool),
        "over the limit": sum(own["beyond_limit"] for own in pool),
        "removed, see faces/leakage.csv": sum(counts["leakage"].values()),
    }
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items() if number)
    num_found = sum(own["found"] for own in pool)
    logger.info("pool: %d of %d files found%s", counts["unlabeled"], num_found, f"; {reasons}" if reasons else "")


def is_prepared(config: RunConfig, run: RunDir) -> bool:
    """Return whether a run has the faces of this config, i.e. whether `prepare` would skip itself."""
    try:
        finished_stage(run.faces, inputs={**_inputs(config), "version": VERSIONS["prepare"]}, cure="")
    except RunError:
        return False
    return True


def _inputs(config: RunConfig) -> dict[str, Any]:
    return {
        "faces": config.faces,
        "labels": config.labels,
        "seed": config.seed,
        "sources": [fingerprint(source, root=config.faces.root) for source in config.faces.all_sources],
        "corrections": [digest_correction(path) for path in config.faces.correction_paths],
        "face_detector": detector_identity(config.faces.cropping),
    }
