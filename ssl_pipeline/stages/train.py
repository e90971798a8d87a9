"""Training of teachers and students: fit, learning curves, calibration."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ssl_pipeline.config.messages import with_whole_keys
from ssl_pipeline.config.metrics import metric_direction
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import RoleConfig, StudentConfig
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.faces.answered import with_answers
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.learning.trackers import Tracking
from ssl_pipeline.pseudo_labels.guards import stop_on
from ssl_pipeline.pseudo_labels.manifest import check_belongs, manifest_parts
from ssl_pipeline.pseudo_labels.manifest_file import ManifestFile, open_manifest
from ssl_pipeline.pseudo_labels.merging import merge, pool_columns, write_training_table
from ssl_pipeline.reports.comparison import answers_sentence
from ssl_pipeline.reports.plots import plot_learning_curves
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of, write_json
from ssl_pipeline.runs.gpu_slots import gpu_slots
from ssl_pipeline.runs.records import faces_digest, finished_stage, run_stage
from ssl_pipeline.stages.answers import RunAnswers
from ssl_pipeline.stages.calibrate import calibrate
from ssl_pipeline.stages.draws import weigh_draws
from ssl_pipeline.stages.launch import TrainingJob, run_job
from ssl_pipeline.stages.review import check_accepted, check_selected
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """Identity of a training: one teacher or student of a run."""

    name: str
    directory: Path
    seed: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the result depends on, besides the config and the faces."""
    start: Path | None = None
    """Checkpoint whose weights it starts with."""
    manifest: Path | None = None
    """The teacher's labels of the pool, for `fixmatch.teacher_share`; part of `inputs` too."""
    draws: Path | None = None
    """How often the pool's faces are drawn, see `stages.draws`; None: equally often."""
    answers: RunAnswers = field(default_factory=RunAnswers)
    """People's answers that it is trained on; part of `inputs` too."""
    calibrated: bool = True
    """Write best.safetensors, calibrated on the validation faces if the config has a calibration."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and its metrics."""

    directory: Path
    kept: Literal["best", "last"]
    """Which epoch's weights are kept; see `TrainingConfig.keep`."""
    kept_epoch: int
    """Counted from 0."""
    num_epochs: int
    monitor: str
    kept_metric: float
    resumed_from_epoch: int | None
    calibration: Mapping[str, Any] | None
    pictures: tuple[Path, ...]
    seconds: float
    skipped: bool
    answers: Mapping[str, int] | None = None
    """See `RunAnswers.counts`; None without answers."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Scores on validation of the members of a vote and, as `vote`, of all together; see `stages.teachers`."""

    @property
    def checkpoint(self) -> Path:
        """File of the kept weights."""
        return self.directory / "best.safetensors"


def train_student(config: RunConfig, run: RunDir, round_index: int, manifest_path: Path | None = None) -> TrainedModel:
    """Train a student on the human labels, the known labels of the pool, and the pool's guesses.

    The guesses are the accepted pseudo-labels, or with `fixmatch` the student's own. People's answers about labels of
    the run count as human labels.

    Args:
        config: the run's config.
        run: the run directory.
        round_index: counted from 1.
        manifest_path: a manifest of this run; by default the round's.

    Raises:
        ReviewPending: if the round's manifest is used and a person has not yet decided on it.
        ReviewError: if it was rejected.
        ManifestError: if the manifest belongs to another run, other faces or other labels.
        RunError: if the round's manifest is used and its selection has not finished, or not with these settings.
        SelectionError: if a guard refused the selection.
    """
    directory = run.student(round_index)
    return _train_student(config, run, round_index, f"student {round_index}", directory, manifest_path)


def pool_teaches(config: RunConfig, run: RunDir, round_index: int) -> bool:
    """Return whether a round's student learns anything from the pool: by `fixmatch`, or from a known or accepted label or an answer."""
    manifest = open_manifest(run.pseudo_labels(round_index) / "manifest.parquet")
    answers = RunAnswers.read(config, run)
    if config.student.training.fixmatch is not None or not answers.pool:
        columns = [f"{name}_status" for name in config.labels.space.names]
        taught = (part.known_or_accepted.any() for part in manifest_parts(manifest, columns))
        return config.student.training.fixmatch is not None or any(taught)
    labeled, pool = (read_faces(run.faces / f"{name}.parquet") for name in ("labeled", "unlabeled"))
    return len(merge(labeled[:0], pool, manifest, labels=config.labels.space, answered=answers.pool)) > 0


def train_control(config: RunConfig, run: RunDir, round_index: int) -> TrainedModel:
    """Train the student of a round once more, without the pool.

    It has the student's start, seed, steps, schedule and draws of labeled faces: pseudo-labels are drawn with weight 0,
    and there is no `fixmatch`. What the student has above it, the pool and people's answers about its faces brought;
    corrected labels of labeled faces train the control too. Raises as `train_student`.
    """
    return _train_student(
        config, run, round_index, f"control {round_index}", run.control(round_index), pool_counts=False
    )


def _train_student(
    config: RunConfig,
    run: RunDir,
    round_index: int,
    name: str,
    directory: Path,
    manifest_path: Path | None = None,
    *,
    pool_counts: bool = True,
) -> TrainedModel:
    labels, role = config.labels.space, config.student
    of_round = run.pseudo_labels(round_index) / "manifest.parquet"
    path = manifest_path or of_round
    if path.resolve() == of_round.resolve():
        check_accepted(config, run, round_index)
        check_selected(config, run, round_index)
    manifest = open_manifest(path)
    check_belongs(manifest, labels=labels, faces_digest=faces_digest(config, run), run_name=config.run_name)
    stop_on(manifest.selection["faults"], config.selection)
    fixmatch = role.training.fixmatch
    humans_alone = fixmatch is not None and not fixmatch.pseudo_labels  # in the training table
    uses_pool = pool_counts or not humans_alone
    answers = RunAnswers.read(config, run)
    if pool_counts:
        answers.warn_of_unused(run)
    else:
        answers = answers.without_pool

    def merge_labels() -> Path:
        table = _merged(config, run, manifest, answers, guesses=not humans_alone, pool_counts=pool_counts)
        if humans_alone:
            table = table[table["label_source"] == "human"]
        write_training_table(directory / "training.parquet", table)
        return directory / "training.parquet"

    inputs: dict[str, Any] = {"manifest": digest_file(path) if uses_pool else None, "pool_counts": pool_counts}
    if humans_alone and pool_counts:
        inputs["guesses"] = False
    training = Training(
        name,
        directory,
        seed=config.seed * 1000 + round_index,  # other initial weights in each round
        inputs=inputs,
        answers=answers,
        start=teacher_weights(config, run, round_index) if config.student_init == "teacher" else None,
        draws=weigh_draws(config, run, round_index) if uses_pool else None,
        manifest=path if fixmatch is not None and fixmatch.teacher_share else None,
    )
    if not pool_counts:
        training_alone = role.training.model_copy(update={"fixmatch": None})
        draws = role.draws if uses_pool else None
        role = role.model_copy(update={"training": training_alone, "draws": draws})
    return train_model(config, role, run, training, merge_labels)


def _merged(
    config: RunConfig, run: RunDir, manifest: ManifestFile, answers: RunAnswers, **options: bool
) -> pd.DataFrame:
    """Merge a run's labels into a training table, see `merge`."""
    labeled = read_faces(run.faces / "labeled.parquet")
    return merge(
        with_answers(labeled[labeled["split"] == "train"], answers.train, config.labels),
        read_faces(run.faces / "unlabeled.parquet", pool_columns(config.labels.space)),
        manifest,
        labels=config.labels.space,
        answered=answers.pool,
        **options,
    )


def teacher_weights(config: RunConfig, run: RunDir, round_index: int) -> Path:
    """Return the weights of a round's teacher; of teachers that vote, those of the one whose network is the student's.

    Raises:
        RunError: if its training has not finished.
    """
    teacher = run.teacher if round_index == 1 else run.student(round_index - 1)
    if round_index == 1 and config.network_teacher is None:
        teacher = run.members(run.teacher) / str(config.start_teacher)
    finished_stage(teacher, cure=f"train it first: {run.command}")
    return teacher / TRAINED


def train_model(
    config: RunConfig,
    role: RoleConfig,
    run: RunDir,
    training: Training,
    training_table: Callable[[], Path | None] = lambda: None,
) -> TrainedModel:
    """Fit a model, plot its learning curves and calibrate it (a stage of its own, see `calibrate`).

    Args:
        config: the run's config.
        role: the model and how to train it.
        run: the run directory.
        training: which of the run's models it is.
        training_table: writes the training table and returns its path; None trains on the human labels.
    """
    directory = training.directory
    inputs, answers = _inputs(config, role, run, training), training.answers

    def work() -> dict[str, Any]:
        if answers.labels:
            write_json(directory / "answers.json", answers.labels)
            logger.info("%s: %s", training.name, answers_sentence(answers.counts))
        job = TrainingJob(
            name=training.name,
            role=role,
            labels=config.labels,
            faces=run.faces,
            training_table=training_table(),
            start=training.start,
            draws=training.draws,
            manifest=training.manifest,
            answers=directory / "answers.json" if answers.labels else None,
            directory=directory,
            seed=training.seed,
            device=config.device,
            inputs=digest_of(inputs),
            tracking=Tracking.of(config, run),
        )
        result = _run(job, key=_key(config, role))
        _plot_curves(directory, title=training.name, monitor=role.training.monitor)
        return {**result, "monitor": role.training.monitor, **({"answers": answers.counts} if answers.labels else {})}

    record = run_stage(
        directory,
        version=VERSIONS["train"],
        inputs=inputs,
        outputs=[TRAINED, "history.csv", "curves.png"],
        work=work,
        around=gpu_slots(role.training.num_processes),
    )
    calibrated = calibrate(config, run, directory, name=training.name) if training.calibrated else None
    return TrainedModel(
        directory,
        **record.result,
        calibration=None if calibrated is None else calibrated.report,
        pictures=(directory / "curves.png", *(() if calibrated is None else calibrated.pictures)),
        seconds=record.seconds,
        skipped=record.skipped,
    )


def _inputs(config: RunConfig, role: RoleConfig, run: RunDir, training: Training) -> dict[str, Any]:
    """Return what a training's result depends on."""
    inputs: dict[str, Any] = {
        "faces": faces_digest(config, run),
        **training.inputs,
        "role": role.fingerprint_fields(),
        "weights": _digest_weights(role.model.weights_file),
        "start": None if training.start is None else digest_file(training.start),
        "draws": None if training.draws is None else digest_file(training.draws),
        "labels": config.labels,
        "seed": str(training.seed),
        "device": str(resolve_device(config.device)),
    }
    if training.answers.digest is not None:  # without answers, records are as they were before the first one
        inputs["answers"] = training.answers.digest
    return inputs


def _key(config: RunConfig, role: RoleConfig) -> str:
    """Return the key of a model's section in the config; a control has its student's."""
    own = (key for key, section in config.roles.items() if section is role)
    return next(own, "student" if isinstance(role, StudentConfig) else "teacher")


def _run(job: TrainingJob, *, key: str) -> dict[str, Any]:
    """Run a job and return its result without the checkpoint; its errors name settings by their keys in the config."""
    try:
        result = asdict(run_job(job))
    except TrainingError as error:
        raise TrainingError(with_whole_keys(str(error), f"{key}.training")) from None
    return {name: value for name, value in result.items() if name != "checkpoint"}


def _digest_weights(path: Path | None) -> str | None:
    """Digest the content of a file of pretrained weights; `build_model` refuses a missing one."""
    return digest_file(path) if path is not None and path.is_file() else None


def _plot_curves(directory: Path, *, title: str, monitor: str) -> None:
    history, direction = pd.read_csv(directory / "history.csv"), metric_direction(monitor)
    plot_learning_curves(directory / "curves.png", history, title=title, metric=monitor, direction=direction)
