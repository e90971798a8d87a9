"""The stages of a cycle: paths and a config in, a small record out. Read, think, write, record.

Each skips itself while its record, its inputs and its outputs still match (see `runs.run_stage`). Their order, the
rounds and when to stop are the flows' business.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.config import RunConfig
from ssl_pipeline.config_calibration import CalibrationConfig, NoCalibration
from ssl_pipeline.config_execution import ExecutionConfig
from ssl_pipeline.config_masking import MaskingConfig
from ssl_pipeline.config_metrics import metric_direction
from ssl_pipeline.config_training import RoleConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, SelectionError, list_of_faults
from ssl_pipeline.execution.shards import IN_PROCESS, check_execution
from ssl_pipeline.faces.dataset import TrainingFaces
from ssl_pipeline.faces.framing import detector_identity
from ssl_pipeline.faces.preparing import OUTPUT_NAMES, prepare_faces
from ssl_pipeline.faces.sources.corrections import digest_correction
from ssl_pipeline.faces.sources.reading import fingerprint
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.calibrating import calibrate_checkpoint
from ssl_pipeline.learning.device import check_processes, resolve_device
from ssl_pipeline.learning.model import check_architecture
from ssl_pipeline.learning.optimizers import check_optimizer
from ssl_pipeline.masking.masked_set import build_masked_faces
from ssl_pipeline.pseudo_labels.guards import stop_on
from ssl_pipeline.pseudo_labels.manifest import check_belongs, read_manifest
from ssl_pipeline.pseudo_labels.manifest_report import purity, summarize
from ssl_pipeline.pseudo_labels.merging import merge, write_training_table
from ssl_pipeline.reports.calibration_picture import draw_calibration
from ssl_pipeline.reports.pictures import draw_learning_curves
from ssl_pipeline.review import with_decision
from ssl_pipeline.runs import RunDir, digest_file, digest_of, faces_digest, run_stage, write_json
from ssl_pipeline.selection_job import (
    RoundFaces,
    make_manifest,
    measure_shift,
    members_of,
    predict_faces,
    write_shift,
)
from ssl_pipeline.selection_review import check_accepted, selection_inputs, standing_decision
from ssl_pipeline.slots import gpu_slots
from ssl_pipeline.training_job import TrainingJob, run_job

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def check(config: RunConfig) -> None:
    """Refuse what can be refused before any work: models that cannot be built or found, devices that are not there.

    Raises:
        ConfigError: naming every fault.
    """
    faults = []
    try:
        check_execution(config.execution, device=resolve_device(config.device).type)
    except ConfigError as error:
        faults.append(str(error))
    try:
        detector_identity(config.faces.cropping)
    except FaceTableError as error:
        faults.append(f"'faces.cropping': {error}")
    for key, role in (("teacher", config.teacher), ("student", config.student)):
        try:
            check_architecture(role.model)
        except ConfigError as error:
            faults.append(f"'{key}.model': {error}")
            continue
        try:
            check_optimizer(role)
        except ConfigError as error:
            faults.append(f"'{key}.training.optimizer': {error}")
        try:
            check_processes(role.training.num_processes, config.device)
        except ConfigError as error:
            faults.append(f"'{key}.training': {error}")
    if faults:
        raise ConfigError(list_of_faults("the config asks for what is not there", faults))


def draw_masks(masked_sets: Sequence[MaskingConfig], execution: ExecutionConfig = IN_PROCESS) -> list[Record]:
    """Draw masks on faces: build each masked set, or what is missing of it."""
    return [build_masked_faces(masked_set, execution=execution) for masked_set in masked_sets]


def prepare(config: RunConfig, run: RunDir) -> Record:
    """Read the sources, split the labeled faces, take leaks out of the pool, decode every face once."""
    inputs = {
        "faces": config.faces,
        "labels": config.labels,
        "seed": config.seed,
        "sources": [fingerprint(source, root=config.faces.root) for source in config.faces.all_sources],
        "corrections": [digest_correction(path) for path in config.faces.correction_paths],
        "face_detector": detector_identity(config.faces.cropping),
    }
    return run_stage(
        run.faces,
        inputs=inputs,
        outputs=OUTPUT_NAMES,
        work=lambda: prepare_faces(config.faces, config.labels, seed=config.seed, directory=run.faces),
    )


def train_teacher(config: RunConfig, run: RunDir) -> Record:
    """Train the first teacher on the human labels."""
    return train_model(config, config.teacher, run, Training("teacher", run.teacher, seed=config.seed * 1000))


def predict(config: RunConfig, run: RunDir, round_index: int, teacher: Path) -> Record:
    """Give the class probabilities of every face of the pool, shard by shard, and of the validation faces.

    The run's first teacher is stood for by those of `out_of_fold`, if there are any. Where several teachers or views are
    members of a round, each predicts by itself.
    """
    directory, prediction = run.pseudo_labels(round_index) / "predictions", config.prediction
    members = members_of(config, run, teacher)
    digests = list(dict.fromkeys(member.digest for member in members.values()))
    faces = RoundFaces(run, round_index)
    identity = {
        "teacher": digests[0] if len(digests) == 1 else digest_of(digests),
        "members": list(members),
        "faces": faces_digest(run),
        "prediction": prediction.model_dump(exclude={"batch_size"}),
        "device": str(resolve_device(config.device)),
    }
    predict_faces(
        members,
        faces.validation,
        run,
        directory.with_name("unseen"),
        shard_size=len(faces.validation),
        identity=identity,
        execution=IN_PROCESS,
        what="labeling validation faces",
    )
    first = next(iter(members.values()))
    measure_shift(first, faces, config, run, directory.with_name("shift"), identity=identity)
    return predict_faces(
        members,
        faces.pool,
        run,
        directory,
        shard_size=prediction.shard_size,
        identity=identity,
        execution=config.execution,
    )


def select(config: RunConfig, run: RunDir, round_index: int) -> Record:
    """Decide which pseudo-labels to keep. Reads predictions; writes manifest.parquet, shift.json, then selection.json."""
    directory = run.pseudo_labels(round_index)
    inputs = selection_inputs(config, run, round_index)
    decision = standing_decision(config, run, round_index)
    selection, change = with_decision(config.selection, decision)
    shift, inputs = inputs["shift"], inputs | {"selection": selection, **change}
    config = config.model_copy(update={"selection": selection})

    def work() -> Record:
        faces = RoundFaces(run, round_index)
        manifest = make_manifest(
            faces,
            config,
            run,
            round_index,
            shift=shift,
            change=change,
        )
        if shift is None:
            (directory / "shift.json").unlink(missing_ok=True)
        else:
            write_shift(directory / "shift.json", faces, config, run, manifest)
            logger.log(
                logging.WARNING if shift["strong"] else logging.INFO, "round %d: shift: %s", round_index, shift["words"]
            )
        summary = summarize(manifest)
        truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
        summary["purity"] = purity(manifest, truth) if len(truth) else None
        write_json(directory / "selection.json", summary)
        counts = summary["counts"]
        logger.info("round %d: accepted %d of %d candidates", round_index, counts["accepted"], counts["candidates"])
        faults = summary["selection"]["faults"]
        stop_on(faults, config.selection)
        for fault in faults:
            logger.warning("round %d: %s", round_index, fault)
        return {"counts": counts, "purity": summary["purity"], "faults": faults, **change}

    outputs = ["manifest.parquet", "selection.json", *(["shift.json"] if shift is not None else [])]
    try:
        return run_stage(directory, inputs=inputs, outputs=outputs, work=work)
    except SelectionError as error:
        if not change:
            raise
        raise SelectionError(
            f"{error}\n  so it is by the threshold that a person set; to decide again: ssl-pipeline cycle resume {run.root}"
        ) from None


def train_student(config: RunConfig, run: RunDir, round_index: int, manifest_path: Path | None = None) -> Record:
    """Train a student from fresh weights on the human labels and the accepted pseudo-labels.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: from 1.
        manifest_path: a manifest of this run; by default the round's own.

    Raises:
        ReviewPending: if a person has to decide on the round's own first.
        ReviewError: if it was rejected.
    """
    if manifest_path is None:
        check_accepted(config, run, round_index)
    directory, labels = run.student(round_index), config.labels.space
    path = manifest_path or run.pseudo_labels(round_index) / "manifest.parquet"
    manifest = read_manifest(path)
    check_belongs(manifest, labels=labels, faces_digest=faces_digest(run), run_name=config.run_name)

    def merge_labels() -> Path:
        labeled = read_faces(run.faces / "labeled.parquet")
        table = merge(
            labeled[labeled["split"] == "train"], read_faces(run.faces / "unlabeled.parquet"), manifest, labels=labels
        )
        write_training_table(directory / "training.parquet", table)
        return directory / "training.parquet"

    training = Training(
        f"student {round_index}",
        directory,
        seed=config.seed * 1000 + round_index,  # a student of another round draws other weights
        inputs={"manifest": digest_file(path)},
    )
    return train_model(config, config.student, run, training, merge_labels)


@dataclass(frozen=True)
class Training:
    """One of a run's trainings."""

    name: str
    directory: Path
    seed: int
    inputs: Record = field(default_factory=dict)
    """What it depends on beside the config and the faces."""
    calibrated: bool = True
    """On the validation faces, if the config asks for calibration."""


def train_model(
    config: RunConfig,
    role: RoleConfig,
    run: RunDir,
    training: Training,
    training_table: Callable[[], Path | None] = lambda: None,
) -> Record:
    """Train a model through the one loop; `training_table` writes what it learns from, by default the human labels."""
    directory = training.directory
    calibration = config.calibration if training.calibrated else NoCalibration(type="none")
    inputs = {
        "faces": faces_digest(run),
        **training.inputs,
        "role": role.what_matters(),
        "labels": config.labels.space.to_dict(),
        "seed": str(training.seed),
        "device": str(resolve_device(config.device)),
        "calibration": [calibration, config.prediction.model_dump(exclude={"batch_size", "shard_size"})],
    }

    def work() -> Record:
        job = TrainingJob(
            name=training.name,
            role=role,
            labels=config.labels,
            faces=run.faces,
            training_table=training_table(),
            directory=directory,
            seed=training.seed,
            device=config.device,
            inputs=digest_of(inputs),
        )
        result = run_job(job)
        _draw_curves(directory, title=training.name, monitor=role.training.monitor)
        return {
            "calibration": _calibrate(
                result.checkpoint, calibration, config, run, title=f"{training.name} on validation"
            ),
            "best_epoch": result.best_epoch,
            "monitor": role.training.monitor,
            "best_metric": result.best_metric,
            "num_epochs": result.num_epochs,
            "resumed_from_epoch": result.resumed_from_epoch,
        }

    return run_stage(
        directory,
        inputs=inputs,
        outputs=["best.safetensors", "history.csv", "curves.png"],
        if_made=["calibration.png"],
        work=work,
        around=gpu_slots(role.training.num_processes),
    )


def _draw_curves(directory: Path, *, title: str, monitor: str) -> None:
    history, direction = pd.read_csv(directory / "history.csv"), metric_direction(monitor)
    draw_learning_curves(directory / "curves.png", history, title=title, metric=monitor, direction=direction)


def _calibrate(
    checkpoint: Path, calibration: CalibrationConfig, config: RunConfig, run: RunDir, *, title: str
) -> Record | None:
    """Calibrate a checkpoint on the validation faces; draws calibration.png beside it where it was done."""
    validation = TrainingFaces.from_directory(run.faces, labels=config.labels).validation
    about = calibrate_checkpoint(
        checkpoint, validation, calibration, prediction=config.prediction, device=config.device
    )
    if about is not None and "before" in about:
        draw_calibration(checkpoint.with_name("calibration.png"), about, title=title)
    return about
