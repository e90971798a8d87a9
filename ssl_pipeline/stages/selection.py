"""Selection stage: predictions in, manifest and reports out; the share of labels that changed between rounds."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import EnsembleAgreement
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.evaluation.shift import acceptance_by_group, compare_predictions
from ssl_pipeline.faces.table import FacesInOrder
from ssl_pipeline.pseudo_labels.difference import difference
from ssl_pipeline.pseudo_labels.guards import is_refused, selection_faults, stop_on
from ssl_pipeline.pseudo_labels.manifest_columns import FACE_COLUMNS
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity, open_manifest
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import Selection
from ssl_pipeline.pseudo_labels.selection import select as select_labels
from ssl_pipeline.pseudo_labels.summary import TrueCodes, precision, summarize
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, write_json
from ssl_pipeline.runs.records import faces_digest, run_stage
from ssl_pipeline.stages.calibrate import PLOT, plot
from ssl_pipeline.stages.review import check_selected, decided_selection
from ssl_pipeline.stages.round_faces import RoundFaces
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionResult:
    """The result of a round's selection."""

    manifest: Path
    counts: Mapping[str, int]
    """candidates = accepted + rejected + unreadable."""
    precision: Mapping[str, Any] | None
    """See `summary.precision`; None if no truth of the pool is known."""
    faults: tuple[str, ...]
    """Violations of the guards."""
    refused: bool
    """Whether no student may be trained on it, see `guards.is_refused`."""
    skipped: bool


@dataclass(frozen=True)
class ChangedLabels:
    """The share of a round's accepted labels that are new or changed since the previous round."""

    round_index: int
    share: float
    """In [0, 1]; 0 without accepted labels."""
    should_continue: bool
    """Whether the share exceeds `min_changed_labels`, so that another student is trained."""
    words: str


def select(config: RunConfig, run: RunDir, round_index: int) -> SelectionResult:
    """Select pseudo-labels. Reads predictions; writes manifest.parquet, shift.json, then selection.json.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: from 1.

    Raises:
        SelectionError: if a guard refuses a threshold that a person set, or the strategy lacks an input.
    """
    directory = run.pseudo_labels(round_index)
    settings, change, inputs = decided_selection(config, run, round_index)
    shift = inputs["shift"]
    config = config.model_copy(update={"selection": settings})

    def work() -> dict[str, Any]:
        faces = RoundFaces(config, run, round_index, pool_columns=["image_id", "origin", *config.labels.space.names])
        selection = _write_manifest(faces, config, run, round_index, shift=shift, change=change)
        manifest = open_manifest(directory / "manifest.parquet")
        (directory / "shift.json").unlink(missing_ok=True)
        if shift is not None:
            _write_shift(directory / "shift.json", shift, faces, config, run, selection)
            _log_shift(shift, round_index)
        summary = summarize(manifest)
        truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
        summary["precision"] = precision(manifest, truth) if len(truth) else None
        _, summary["calibration"] = faces.mean_calibration
        plot(directory / PLOT, summary["calibration"], title="Mean of the fold teachers on validation")
        write_json(directory / "selection.json", summary)
        counts = summary["counts"]
        logger.info("round %d: accepted %d of %d candidates", round_index, counts["accepted"], counts["candidates"])
        faults = summary["selection"]["faults"]
        if change:  # the person is asked again
            stop_on(faults, config.selection)
        for fault in faults:
            logger.warning("round %d: %s", round_index, fault)
        return {"counts": counts, "precision": summary["precision"], "faults": faults, **change}

    outputs = ["manifest.parquet", "selection.json", *(["shift.json"] if shift is not None else [])]
    try:
        record = run_stage(
            directory, version=VERSIONS["select"], inputs=inputs, outputs=outputs, optional_outputs=[PLOT], work=work
        )
    except SelectionError as error:
        if not change:
            raise
        raise SelectionError(
            f"{error}\n  with the threshold that a person set; to change it: ssl-pipeline cycle resume {run.root}"
        ) from None
    result = record.result
    return SelectionResult(
        directory / "manifest.parquet",
        result["counts"],
        result["precision"],
        tuple(result["faults"]),
        refused=is_refused(result["faults"], settings),
        skipped=record.skipped,
    )


def changed_label_share(config: RunConfig, run: RunDir, round_index: int) -> ChangedLabels:
    """Compare a round's accepted labels with those of the previous round."""
    for index in (round_index - 1, round_index):
        check_selected(config, run, index)
    before, after = (
        open_manifest(run.pseudo_labels(index) / "manifest.parquet") for index in (round_index - 1, round_index)
    )
    counts = pd.DataFrame(difference(before, after)["per_attribute"]).T
    num_new, num_kept = int(counts["gained"].sum() + counts["changed"].sum()), int(counts["kept"].sum())
    share = num_new / max(num_new + num_kept, 1)
    should_continue = share > config.min_changed_labels
    words = (
        f"{num_new:,} of {num_new + num_kept:,} accepted labels of round {round_index} ({100 * share:.1f} %) are new or "
        f"changed since the previous round{'' if should_continue else '; too few for another student: the rounds end'}"
    )
    logger.info("round %d: %s", round_index, words)
    return ChangedLabels(round_index, share, should_continue, words)


def _write_manifest(
    faces: RoundFaces,
    config: RunConfig,
    run: RunDir,
    round_index: int,
    *,
    shift: dict[str, Any] | None,
    change: dict[str, Any],
) -> Selection:
    """Select from the round's predictions and write manifest.parquet.

    Args:
        faces: of the round.
        config: of the run.
        run: the run's directory.
        round_index: from 1.
        shift: see `assess_shift`.
        change: settings changed in a review, recorded with the settings.
    """
    directory, labels, settings = run.pseudo_labels(round_index), config.labels.space, config.selection
    pool = faces.pool
    unlike = shift["separability"] if shift is not None and shift["strong"] else ""
    withheld = config.guarantee_withheld(faces.held_out.name, round_index) or unlike
    held_out = replace(faces.held_out, withheld=withheld)
    training_codes = labels.encode(faces.train)
    selection = select_labels(
        faces.pool_probabilities,
        labels.encode(pool),
        labels=labels,
        config=settings,
        image_ids=pool["image_id"],
        round_index=round_index,
        held_out=held_out,
        members=faces.member_probabilities if isinstance(settings, EnsembleAgreement) else None,
        training_codes=training_codes[(training_codes >= 0).any(axis=1)],
    )
    rejected = pd.read_parquet(run.faces / "rejected.parquet")
    tables = build_manifest(
        pool,
        selection,
        labels=labels,
        unreadable=rejected[rejected["role"] == "unlabeled"],
        identity=ManifestIdentity(
            run_name=config.run_name,
            round_index=round_index,
            faces_digest=faces_digest(config, run),
            teacher_digest=faces.teacher_digest,
            selection_digest=digest_of(settings.model_dump(mode="json")),
        ),
        targets=settings.targets,
        settings={**settings.model_dump(mode="json"), **change},
        faults=selection_faults(selection, labels=labels, config=settings, held_out=held_out),
        shift=shift,
        read_rows=FacesInOrder(run.faces / "unlabeled.parquet", FACE_COLUMNS).take,
    )
    write_manifest(directory / "manifest.parquet", tables)
    return selection


def _write_shift(
    path: Path, shift: Mapping[str, Any], faces: RoundFaces, config: RunConfig, run: RunDir, selection: Selection
) -> None:
    """Write separability, predictions of pool and validation, and acceptance per origin and attribute value.

    Labels that the config hides from training are used for this report, as they are for the reported precision.
    """
    labels, known = config.labels.space, selection.known
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
    hidden = TrueCodes(truth, labels).of(faces.pool["image_id"])
    groups = labels.decode(np.where(known, selection.attribute_codes, hidden))
    groups.insert(0, "origin", faces.pool["origin"].astype("category"))
    write_json(
        path,
        {
            **shift,
            "predictions": compare_predictions(faces.pool_probabilities, faces.validation_probabilities, labels=labels),
            "acceptance": acceptance_by_group(groups, selection.accepted, ~known),
        },
    )


def _log_shift(shift: Mapping[str, Any], round_index: int) -> None:
    level = logging.WARNING if shift["strong"] else logging.INFO
    logger.log(level, "round %d: shift: %s", round_index, shift["words"])
