"""Prediction stage: class probabilities of pool and validation faces by each member of a round; shift measurement."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.execution import ExecutionConfig
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import EnsembleAgreement
from ssl_pipeline.evaluation.shift import separability
from ssl_pipeline.execution.shards import IN_PROCESS
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.inference.framing import warn_of_other_cropping
from ssl_pipeline.learning.checkpoint import digest_checkpoint, warn_if_unfinished
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.engine import EngineDifference, torch_engine
from ssl_pipeline.learning.predict import CheckpointPredictor, feature_digests, pooled_features
from ssl_pipeline.learning.shard_prediction import check_image_size, predict_shards
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of
from ssl_pipeline.runs.records import StageRecord, faces_digest, finished_stage, run_stage
from ssl_pipeline.stages.round_faces import FOLD, SINGLE, RoundFaces, parts_of
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)

_ENGINE_FACES = 64
_SHIFT_SEED = 11  # independent of other samples with the run's seed


@dataclass(frozen=True)
class PoolPredictions:
    """The result of a round's prediction; the shards are in ``predictions`` of `RunDir.pseudo_labels`."""

    num_faces: int
    seconds: float
    skipped: bool


def predict(config: RunConfig, run: RunDir, round_index: int, teacher: Path) -> PoolPredictions:
    """Predict the pool shard by shard, and the validation faces, by each member of the round.

    With `out_of_fold`, the fold teachers replace the run's first teacher.

    Raises:
        CheckpointError: if a checkpoint is missing or does not match the run.
    """
    directory, prediction = run.pseudo_labels(round_index) / "predictions", config.prediction
    members = _members(config, run, teacher)
    digests = list(dict.fromkeys(member.digest for member in members.values()))
    faces = RoundFaces(config, run, round_index)
    in_parts = config.guarantees_out_of_fold and next(iter(members)).startswith(FOLD)
    identity = {
        "teacher": digests[0] if len(digests) == 1 else digest_of(digests),
        "members": list(members),
        "in_parts": in_parts,
        "faces": faces_digest(config, run),
        "prediction": prediction.fingerprint_fields(),
        "device": str(resolve_device(config.device)),
    }
    first = next(iter(members.values()))
    if prediction.engine != "torch":
        compare_engines(first, faces, config, run, directory.with_name("engine"), identity=identity)
    _predict_faces(
        members,
        faces.unseen,
        run,
        directory.with_name("held_out"),
        shard_size=len(faces.unseen),
        identity=identity,
        execution=IN_PROCESS,
        task_name="labeling held-out faces",
    )
    measure_shift(first, faces, config, run, directory.with_name("shift"), identity=identity)
    record = _predict_faces(
        members,
        faces.pool,
        run,
        directory,
        shard_size=prediction.shard_size,
        identity=identity,
        execution=config.execution,
    )
    return PoolPredictions(len(faces.pool), record.seconds, record.skipped)


@dataclass(frozen=True)
class Member:
    """A teacher or view of a round, loaded only if it has something to predict."""

    digest: str
    """Of its checkpoint."""
    load: Callable[[], CheckpointPredictor]
    """Raises CheckpointError if the checkpoint does not match the run."""


def _members(config: RunConfig, run: RunDir, teacher: Path) -> dict[str, Member]:
    """Return the members of a round by the folder of their predictions: the teacher, its views or members, or the fold teachers.

    Raises:
        CheckpointError: if a checkpoint is missing.
        RunError: if a training of the run has not finished.
    """

    @cache  # shared by the views of one teacher
    def load(path: Path, member: str | None = None) -> CheckpointPredictor:
        predictor = CheckpointPredictor.load(path, config.prediction, labels=config.labels.space, device=config.device)
        check_image_size(predictor.checkpoint, config.faces.image_size)
        warn_of_other_cropping(predictor.checkpoint, config.faces.crop_rules)
        return predictor if member is None else replace(predictor, member=member)

    cure = f"train it first: {run.command}"

    def member(path: Path, view: int | None = None) -> Member:
        return Member(digest_checkpoint(path), lambda: load(path) if view is None else load(path).by_view()[view])

    if config.out_of_fold is not None and teacher.resolve().parent == run.teacher.resolve():
        folds = [f"{FOLD}{fold}" for fold in range(config.out_of_fold.num_folds)]
        finished_stage(run.out_of_fold, cure=cure)
        return {name: member(run.out_of_fold / f"{name}.safetensors") for name in folds}
    if teacher.resolve().is_relative_to(run.root.resolve()) and teacher.is_file():
        finished_stage(teacher.parent / "calibration", cure=cure)
    warn_if_unfinished(teacher)
    by_teacher = config.network_teacher is None and teacher.resolve().parent == run.teacher.resolve()
    if isinstance(config.selection, EnsembleAgreement) and by_teacher:
        return {
            name: Member(digest_checkpoint(teacher), partial(load, teacher, name)) for name in config.named_teachers
        }
    if isinstance(config.selection, EnsembleAgreement):
        return {f"view-{view}": member(teacher, view) for view in range(len(config.prediction.views))}
    return {SINGLE: member(teacher)}


def _predict_faces(
    members: dict[str, Member],
    faces: pd.DataFrame,
    run: RunDir,
    directory: Path,
    *,
    shard_size: int,
    identity: dict[str, Any],
    execution: ExecutionConfig,
    task_name: str = "labeling",
) -> StageRecord:
    """Predict faces by each member, shard by shard.

    Several members have a folder and a record each, and one record for all. They predict every face each, or, if
    ``identity["in_parts"]``, one part of the faces each, see `parts_of`.

    Args:
        members: by the folder inside `directory` for their shards, "." for a single member.
        faces: a face table.
        run: the run's directory.
        directory: target folder.
        shard_size: faces per shard.
        identity: inputs that the predictions depend on.
        execution: where to compute.
        task_name: shown with the progress.
    """
    parts = parts_of(faces, len(members)) if identity["in_parts"] else None

    def predict(index: int, name: str, member: Member) -> StageRecord:
        own = faces if parts is None else faces[parts == index]
        outputs = [f"part-{shard:05d}.parquet" for shard in range(-(-len(own) // shard_size))]
        inputs = identity if name == SINGLE else {**identity, "member": name}
        return run_stage(
            directory / name,
            version=VERSIONS["predict"],
            inputs=inputs,
            outputs=outputs,
            work=lambda: predict_shards(
                member.load(),
                own,
                open_pixels(run.faces / "pixels.npy"),
                directory=directory / name,
                shard_size=shard_size,
                identity=digest_of(inputs),
                execution=execution,
                name=task_name if name == SINGLE else f"{task_name} by {name}",
            ),
        )

    records = {name: predict(index, name, member) for index, (name, member) in enumerate(members.items())}
    if list(records) == [SINGLE]:
        return records[SINGLE]
    inputs = {**identity, "outputs": {name: record.outputs for name, record in records.items()}}
    work = lambda: {"num_faces": len(faces)}  # noqa: E731
    return run_stage(directory, version=VERSIONS["predict"], inputs=inputs, outputs=[], work=work)


def compare_engines(
    member: Member,
    faces: RoundFaces,
    config: RunConfig,
    run: RunDir,
    directory: Path,
    *,
    identity: dict[str, Any],
) -> None:
    """Predict some validation faces by torch and by the engine; the difference is kept in the stage's record.

    Args:
        member: the teacher, or one of the members.
        faces: of the round.
        config: of the run.
        run: the run's directory.
        directory: of the record.
        identity: inputs that the predictions depend on.

    Raises:
        CheckpointError: if they differ by more than rounding.
    """

    def work() -> dict[str, Any]:
        predictor, pixels = member.load(), open_pixels(run.faces / "pixels.npy")
        positions = np.linspace(0, len(faces.validation) - 1, min(_ENGINE_FACES, len(faces.validation))).astype(int)
        rows = faces.validation["pixel_row"].to_numpy(np.int64)[positions]
        expected = replace(predictor, engine=torch_engine).predict(pixels, rows)
        difference = EngineDifference.between(predictor.predict(pixels, rows), expected)
        heads = feature_digests(predictor.model)
        logger.info(
            "engine %s: on %d validation faces, %.1f %% get another label than from torch, a probability changes by at most %.2g%s",
            config.prediction.engine,
            difference.num_faces,
            100 * difference.differing_labels,
            difference.largest_difference,
            "; heads on features stay with torch" if heads else "",
        )
        difference.check(config.prediction.engine, predictor.compute.precision)
        return asdict(difference)

    run_stage(directory, version=VERSIONS["predict"], inputs=identity, outputs=[], work=work)


def measure_shift(
    member: Member,
    faces: RoundFaces,
    config: RunConfig,
    run: RunDir,
    directory: Path,
    *,
    identity: dict[str, Any],
) -> None:
    """Measure how well the teacher's features separate the pool from the validation faces; kept in the stage's record.

    Args:
        member: the teacher, or one of the members.
        faces: of the round.
        config: of the run; without `shift`, nothing is measured.
        run: the run's directory.
        directory: of the record.
        identity: inputs that the features depend on.
    """
    settings = config.shift
    if settings is None:
        return

    def work() -> dict[str, Any]:
        rng = np.random.default_rng((config.seed, _SHIFT_SEED))
        pixels, predictor, samples = open_pixels(run.faces / "pixels.npy"), member.load(), []
        for table in (faces.pool, faces.validation):
            rows = np.sort(rng.choice(len(table), size=min(settings.max_faces, len(table)), replace=False))
            samples.append(table.iloc[rows])
        pool, validation = (
            pooled_features(predictor, pixels, sample["pixel_row"].to_numpy(np.int64)) for sample in samples
        )
        return asdict(separability(pool, validation, units=independent_units(pd.concat(samples)), seed=config.seed))

    inputs = {**identity, "max_faces": settings.max_faces, "seed": config.seed}
    run_stage(directory, version=VERSIONS["shift"], inputs=inputs, outputs=[], work=work)
