"""The stages of a cycle: paths and a config in, a small record out. Read, think, write, record.

Each skips itself while its record, its inputs and its outputs still match (see `runs.run_stage`). Their order, the
rounds and when to stop are the flows' business.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ssl_pipeline.config import RunConfig
from ssl_pipeline.config_metrics import metric_direction
from ssl_pipeline.config_selection import Agreement
from ssl_pipeline.config_training import RoleConfig
from ssl_pipeline.errors import ConfigError, PipelineError, list_of_faults
from ssl_pipeline.faces.dataset import LabeledSet, TrainingFaces
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.preparing import OUTPUT_NAMES, prepare_faces
from ssl_pipeline.faces.sources.reading import fingerprint
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.calibrating import calibrate_checkpoint
from ssl_pipeline.learning.device import check_processes, resolve_device
from ssl_pipeline.learning.labeling import check_image_size, predict_shards
from ssl_pipeline.learning.metrics import evaluate_predictions, without_tables
from ssl_pipeline.learning.model import check_architecture
from ssl_pipeline.learning.optimizers import check_optimizer
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.pseudo_labels.guards import stop_on
from ssl_pipeline.pseudo_labels.manifest import check_belongs, read_manifest
from ssl_pipeline.pseudo_labels.manifest_report import purity, summarize
from ssl_pipeline.pseudo_labels.merging import merge, write_training_table
from ssl_pipeline.reports.pictures import SCORE_PICTURES, draw_learning_curves, draw_scores
from ssl_pipeline.runs import RunDir, digest_file, digest_of, read_json, run_stage, write_json
from ssl_pipeline.selection_job import make_manifest, predict_unseen
from ssl_pipeline.training_job import TrainingJob, run_job

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Split = Literal["validation", "test"]


def check(config: RunConfig) -> None:
    """Refuse what can be refused before any work: models that cannot be built, devices that are not there.

    Raises:
        ConfigError: naming every fault.
    """
    faults = []
    try:
        resolve_device(config.device)
    except ConfigError as error:
        faults.append(str(error))
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
    if isinstance(config.selection, Agreement):
        faults.append(
            "'selection.type': agreement compares several teachers or views, and a run predicts with one teacher"
        )
    if faults:
        raise ConfigError(list_of_faults("the config asks for what is not there", faults))


def prepare(config: RunConfig, run: RunDir) -> Record:
    """Read the sources, split the labeled faces, take leaks out of the pool, decode every face once."""
    inputs = {
        "faces": config.faces,
        "labels": config.labels,
        "seed": config.seed,
        "sources": [fingerprint(source, root=config.faces.root) for source in config.faces.all_sources],
    }
    return run_stage(
        run.faces,
        inputs=inputs,
        outputs=OUTPUT_NAMES,
        work=lambda: prepare_faces(config.faces, config.labels, seed=config.seed, directory=run.faces),
    )


def train_teacher(config: RunConfig, run: RunDir) -> Record:
    """Train the first teacher on the human labels."""
    return _train(
        config, config.teacher, run, directory=run.teacher, inputs={"faces": faces_digest(run)}, round_index=0
    )


def predict(config: RunConfig, run: RunDir, round_index: int, teacher: Path) -> Record:
    """Give the teacher's class probabilities of every face of the pool, shard by shard, and of the validation faces."""
    directory = run.pseudo_labels(round_index) / "predictions"
    labels, prediction = config.labels.space, config.prediction
    predictor = Predictor.load(teacher, prediction, labels=labels, device=config.device)
    check_image_size(predictor.checkpoint, config.faces.image_size)
    pool = read_faces(run.faces / "unlabeled.parquet")
    num_shards = -(-len(pool) // prediction.shard_size)
    identity = {
        "teacher": predictor.checkpoint.digest,
        "faces": faces_digest(run),
        "prediction": prediction.model_dump(exclude={"batch_size"}),
        "device": str(resolve_device(config.device)),
    }
    predict_unseen(predictor, run, directory.with_name("unseen"), identity=identity)
    return run_stage(
        directory,
        inputs=identity,
        outputs=[f"part-{shard:05d}.parquet" for shard in range(num_shards)],
        work=lambda: predict_shards(
            predictor,
            pool,
            open_pixels(run.faces / "pixels.npy"),
            directory=directory,
            shard_size=prediction.shard_size,
            identity=digest_of(identity),
        ),
    )


def select(config: RunConfig, run: RunDir, round_index: int) -> Record:
    """Decide which pseudo-labels to keep. Reads predictions; writes manifest.parquet, then selection.json."""
    directory = run.pseudo_labels(round_index)
    predictions = read_json(directory / "predictions" / "done.json")
    inputs = {
        "predictions": predictions["outputs"],
        "unseen": read_json(directory / "unseen" / "done.json")["outputs"],
        "selection": config.selection,
        "labels": config.labels,
        "faces": faces_digest(run),
        "round": round_index,
        "run_name": config.run_name,
    }

    def work() -> Record:
        teacher = predictions["inputs"]["teacher"]
        manifest = make_manifest(config, run, round_index, faces_digest=faces_digest(run), teacher_digest=teacher)
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
        return {"counts": counts, "purity": summary["purity"], "faults": faults}

    return run_stage(directory, inputs=inputs, outputs=["manifest.parquet", "selection.json"], work=work)


def train_student(config: RunConfig, run: RunDir, round_index: int, manifest_path: Path | None = None) -> Record:
    """Train a student from fresh weights on the human labels and the accepted pseudo-labels.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: from 1.
        manifest_path: a manifest of this run; by default the round's own.
    """
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

    inputs = {"faces": faces_digest(run), "manifest": digest_file(path)}
    return _train(
        config, config.student, run, merge_labels, directory=directory, inputs=inputs, round_index=round_index
    )


def _train(
    config: RunConfig,
    role: RoleConfig,
    run: RunDir,
    training_table: Callable[[], Path | None] = lambda: None,
    *,
    directory: Path,
    inputs: Record,
    round_index: int,
) -> Record:
    """Train teacher (round 0) or student through the one loop."""
    seed = config.seed * 1000 + round_index  # a student of another round draws other weights
    name = "teacher" if round_index == 0 else f"student {round_index}"
    inputs = inputs | {"role": role.what_matters(), "labels": config.labels.space.to_dict(), "seed": str(seed)}
    inputs["device"] = str(resolve_device(config.device))
    inputs["calibration"] = [config.calibration, config.prediction.model_dump(exclude={"batch_size", "shard_size"})]

    def work() -> Record:
        job = TrainingJob(
            name=name,
            role=role,
            labels=config.labels,
            faces=run.faces,
            training_table=training_table(),
            directory=directory,
            seed=seed,
            device=config.device,
            inputs=digest_of(inputs),
        )
        result = run_job(job)
        draw_learning_curves(
            directory / "curves.png",
            pd.read_csv(directory / "history.csv"),
            title=name,
            metric=role.training.monitor,
            direction=metric_direction(role.training.monitor),
        )
        calibration = calibrate_checkpoint(
            result.checkpoint,
            TrainingFaces.from_directory(run.faces, labels=config.labels).validation,
            config.calibration,
            prediction=config.prediction,
            device=config.device,
        )
        return {
            "calibration": calibration,
            "best_epoch": result.best_epoch,
            "monitor": role.training.monitor,
            "best_metric": result.best_metric,
            "num_epochs": result.num_epochs,
            "resumed_from_epoch": result.resumed_from_epoch,
        }

    return run_stage(directory, inputs=inputs, outputs=["best.safetensors", "history.csv", "curves.png"], work=work)


def evaluate(config: RunConfig, run: RunDir, model_dir: Path, split: Split) -> Record:
    """Judge a model on a split of the labeled faces; writes ``<split>/scores.json`` and pictures beside its checkpoint.

    The record's result is the scores without their tables.

    The test split is for the end of a cycle, once for the teacher and once for the student.
    """
    directory = model_dir / split
    checkpoint = model_dir / "best.safetensors"
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(run),
        "prediction": config.prediction.model_dump(exclude={"batch_size", "shard_size"}),
    }

    def work() -> Record:
        predictor = Predictor.load(checkpoint, config.prediction, labels=config.labels.space, device=config.device)
        scores = score_split(predictor, config, run, split)
        write_json(directory / "scores.json", scores)
        model = str(model_dir.relative_to(run.root)) if model_dir.is_relative_to(run.root) else model_dir.name
        draw_scores(directory, scores, title=f"{model} on {split}")
        return without_tables(scores)

    return run_stage(directory, inputs=inputs, outputs=["scores.json", *SCORE_PICTURES], work=work)


def score_split(predictor: Predictor, config: RunConfig, run: RunDir, split: Split | Literal["all"]) -> Record:
    """Score a model on the fully known faces of a split, or on all labeled ones, with values per class and per group.

    Where the table knows the number behind an attribute, as the age, also by that.
    """
    labels = config.labels
    faces, pixels = read_faces(run.faces / "labeled.parquet"), open_pixels(run.faces / "pixels.npy")
    chosen = faces if split == "all" else faces[faces["split"] == split]
    judged = LabeledSet.from_faces(chosen, pixels, labels=labels, train=faces[faces["split"] == "train"])
    whole = chosen[chosen["pixel_row"].isin(judged.pixel_rows)]
    groups = whole[[name for name in [*labels.space.names, "origin"] if name in whole and whole[name].notna().any()]]
    probabilities = predictor.predict(pixels, judged.pixel_rows)
    return evaluate_predictions(probabilities, judged.codes, labels=labels.space, groups=groups, numbers=judged.numbers)


def gate(config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> Record:
    """Promote the round's student if its validation macro F1 is above the teacher's; writes gate.json."""
    student_dir = run.student(round_index)
    teacher = evaluate(config, run, teacher_dir, "validation")["result"]["macro_f1"]
    student = evaluate(config, run, student_dir, "validation")["result"]["macro_f1"]
    decision = {
        "teacher": str(teacher_dir.relative_to(run.root)),
        "student": str(student_dir.relative_to(run.root)),
        "teacher_macro_f1": teacher,
        "student_macro_f1": student,
        "promoted": student > teacher,
    }
    write_json(student_dir / "gate.json", decision)
    verdict = "promoted" if decision["promoted"] else "not promoted"
    logger.info(
        "round %d: student %s: validation macro F1 %.3f, teacher's %.3f", round_index, verdict, student, teacher
    )
    return decision


def faces_digest(run: RunDir) -> str:
    """One digest for all that `prepare` wrote.

    Raises:
        PipelineError: if nothing was prepared.
    """
    if not (run.faces / "done.json").is_file():
        raise PipelineError(f"{run.faces}: no faces are prepared here; run flows.train_teacher with this config first")
    return digest_of(read_json(run.faces / "done.json")["outputs"])
