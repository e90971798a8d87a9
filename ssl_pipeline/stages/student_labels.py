"""The student's labels: the compared student labels the pool once more, and they are compared with its teacher's."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.pseudo_labels.difference import difference
from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.review import check_selected
from ssl_pipeline.stages.selection import select

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudentLabels:
    """The pool as a student labels it; in ``pseudo_labels`` of the round after the student's, as if that were its teacher."""

    student: int
    """The student's round."""
    round_index: int
    """The manifest's."""
    manifest: Path
    counts: Mapping[str, int]
    """candidates = accepted + rejected + unreadable."""
    precision: Mapping[str, Any] | None
    """See `summary.precision`; None if no truth of the pool is known."""
    faults: tuple[str, ...]
    """Violations of the guards, e.g. that a precision guarantee is withheld."""
    difference: Mapping[str, Any]
    """To the manifest that the student was trained on; see `pseudo_labels.difference.difference`."""


def label_pool_again(config: RunConfig, run: RunDir, round_index: int) -> StudentLabels | None:
    """Let the student of a round label the pool, by the config's selection; promoted or not, nobody trains on it here.

    The predictions and the selection are those of the next round, which begins with them if there is one.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: of the student, from 1.

    Returns:
        None if the selection cannot be made of one network's predictions.

    Raises:
        RunError: if the student, or the selection that it was trained on, has not finished.
    """
    if not config.student_can_label:
        logger.warning(
            "round %d: its student does not label the pool: ensemble_agreement needs several views of one network; "
            "--set prediction.horizontal_flip=true",
            round_index,
        )
        return None
    predict(config, run, round_index + 1, run.student(round_index) / "best.safetensors")
    selected = select(config, run, round_index + 1)
    check_selected(config, run, round_index)
    before = open_manifest(run.pseudo_labels(round_index) / "manifest.parquet")
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
    changes = difference(before, open_manifest(selected.manifest), truth=truth if len(truth) else None)
    logger.info("round %d: its student labels the pool: %s", round_index, selected.manifest)
    return StudentLabels(
        student=round_index,
        round_index=round_index + 1,
        manifest=selected.manifest,
        counts=selected.counts,
        precision=selected.precision,
        faults=selected.faults,
        difference=changes,
    )
