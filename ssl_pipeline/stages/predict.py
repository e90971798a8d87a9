"""Prediction stage: class probabilities of pool and validation faces by each member of a round; shift measurement."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.execution import ExecutionConfig
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import EnsembleAgreement
from ssl_pipeline.evaluation.shift import separability
from ssl_pipeline.execution.shards import IN_PROCESS
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.framing import warn_of_other_cropping
from ssl_pipeline.learning.checkpoint import digest_checkpoint, warn_if_unfinished
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.learning.shard_prediction import check_image_size, predict_shards, read_shards
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of
from ssl_pipeline.runs.records import StageRecord, faces_digest, finished_stage, run_stage
from ssl_pipeline.stages.versions import VERSIONS

_SHIFT_SEED = 11  # independent of other samples with the run's seed
_FOLD = "fold-"


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
    faces = RoundFaces(run, round_index)
    identity = {
        "teacher": digests[0] if len(digests) == 1 else digest_of(digests),
        "members": list(members),
        "faces": faces_digest(config, run),
        "prediction": prediction.model_dump(exclude={"batch_size"}),
        "device": str(resolve_device(config.device)),
    }
    _predict_faces(
        members,
        faces.validation,
        run,
        directory.with_name("held_out"),
        shard_size=len(faces.validation),
        identity=identity,
        execution=IN_PROCESS,
        task_name="labeling validation faces",
    )
    first = next(iter(members.values()))
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


class RoundFaces:
    """The faces of a round and their predictions, read on first access."""

    def __init__(self, run: RunDir, round_index: int) -> None:
        self._run, self._directory = run, run.pseudo_labels(round_index)

    @cached_property
    def pool(self) -> pd.DataFrame:
        """The face table of the pool."""
        return read_faces(self._run.faces / "unlabeled.parquet")

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The face table of the labeled faces, all splits."""
        return read_faces(self._run.faces / "labeled.parquet")

    @property
    def validation(self) -> pd.DataFrame:
        """The labeled faces of the validation split."""
        return self.labeled[self.labeled["split"] == "validation"]

    @property
    def held_out(self) -> pd.DataFrame:
        """The labeled faces that held-out predictions exist for: of the training split if out of fold, else validation."""
        return self.train if self.is_out_of_fold else self.validation

    @property
    def train(self) -> pd.DataFrame:
        """The labeled faces of the training split."""
        return self.labeled[self.labeled["split"] == "train"]

    @cached_property
    def is_out_of_fold(self) -> bool:
        """Whether the fold teachers predict this round."""
        return all(name.startswith(_FOLD) for name in self._member_names)

    @property
    def teacher_digest(self) -> str:
        """The digest of the round's checkpoint, or of all its checkpoints."""
        return str(self._prediction_inputs["teacher"])

    @property
    def _member_names(self) -> list[str]:
        return list(self._prediction_inputs["members"])

    @cached_property
    def _prediction_inputs(self) -> Mapping[str, Any]:
        return StageRecord.read(self._directory / "predictions").inputs

    @cached_property
    def member_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool by each member, float32 [T, N, K]."""
        return self._read("predictions", self.pool)

    @cached_property
    def pool_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool, float32 [N, K]: the mean over the members."""
        return np.asarray(self.member_probabilities.mean(axis=0))

    @cached_property
    def validation_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the validation faces, float32 [M, K]: the mean over the members."""
        return np.asarray(self._read("held_out", self.validation).mean(axis=0))

    @property
    def held_out_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the held-out faces, float32 [M, K]; out of fold, by the teacher not trained on the face."""
        return read_shards(self._run.out_of_fold, self.train) if self.is_out_of_fold else self.validation_probabilities

    def _read(self, folder: str, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        return np.stack([read_shards(self._directory / folder / name, table) for name in self._member_names])


@dataclass(frozen=True)
class Member:
    """A teacher or view of a round, loaded only if it has something to predict."""

    digest: str
    """Of its checkpoint."""
    load: Callable[[], CheckpointPredictor]
    """Raises CheckpointError if the checkpoint does not match the run."""


def _members(config: RunConfig, run: RunDir, teacher: Path) -> dict[str, Member]:
    """Return the members of a round by the folder of their predictions: the teacher, its views, or the fold teachers.

    Raises:
        CheckpointError: if a checkpoint is missing.
        RunError: if a training of the run has not finished.
    """

    @cache  # shared by the views of one teacher
    def load(path: Path) -> CheckpointPredictor:
        predictor = CheckpointPredictor.load(path, config.prediction, labels=config.labels.space, device=config.device)
        check_image_size(predictor.checkpoint, config.faces.image_size)
        warn_of_other_cropping(predictor.checkpoint, config.faces.crop_rules)
        return predictor

    cure = f"train it first: {run.command}"

    def member(path: Path, view: int | None = None) -> Member:
        return Member(digest_checkpoint(path), lambda: load(path) if view is None else load(path).by_view()[view])

    if config.out_of_fold is not None and teacher.resolve().parent == run.teacher.resolve():
        folds = [f"{_FOLD}{fold}" for fold in range(config.out_of_fold.num_folds)]
        finished_stage(run.out_of_fold, cure=cure)
        return {name: member(run.out_of_fold / f"{name}.safetensors") for name in folds}
    if teacher.resolve().is_relative_to(run.root.resolve()) and teacher.is_file():
        finished_stage(teacher.parent, cure=cure)
    warn_if_unfinished(teacher)
    if isinstance(config.selection, EnsembleAgreement):
        return {f"view-{view}": member(teacher, view) for view in range(len(config.prediction.views))}
    return {".": member(teacher)}


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

    Several members have a folder and a record each, and one record for all.

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
    outputs = [f"part-{shard:05d}.parquet" for shard in range(-(-len(faces) // shard_size))]

    def predict(name: str, member: Member) -> StageRecord:
        inputs = identity if name == "." else {**identity, "member": name}
        return run_stage(
            directory / name,
            version=VERSIONS["predict"],
            inputs=inputs,
            outputs=outputs,
            work=lambda: predict_shards(
                member.load(),
                faces,
                open_pixels(run.faces / "pixels.npy"),
                directory=directory / name,
                shard_size=shard_size,
                identity=digest_of(inputs),
                execution=execution,
                name=task_name if name == "." else f"{task_name} by {name}",
            ),
        )

    records = {name: predict(name, member) for name, member in members.items()}
    if list(records) == ["."]:
        return records["."]
    inputs = {**identity, "outputs": {name: record.outputs for name, record in records.items()}}
    work = lambda: {"num_faces": len(faces)}  # noqa: E731
    return run_stage(directory, version=VERSIONS["predict"], inputs=inputs, outputs=[], work=work)


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
        pixels, predictor, sides = open_pixels(run.faces / "pixels.npy"), member.load(), {}
        for side, table in (("pool", faces.pool), ("validation", faces.validation)):
            sample = np.sort(rng.choice(len(table), size=min(settings.max_faces, len(table)), replace=False))
            rows = table.iloc[sample]
            features = pooled_features(predictor, pixels, rows["pixel_row"].to_numpy(np.int64))
            sides[side] = features, rows["person_id"].tolist()
        (pool, pool_people), (validation, validation_people) = sides["pool"], sides["validation"]
        return asdict(
            separability(
                pool, validation, pool_people=pool_people, validation_people=validation_people, seed=config.seed
            )
        )

    inputs = {**identity, "max_faces": settings.max_faces, "seed": config.seed}
    run_stage(directory, version=VERSIONS["shift"], inputs=inputs, outputs=[], work=work)
