"""The stages of a run in order: titles in plain words, directories, and how many faces their networks process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.config.teachers import NetworkTeacher
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json


@dataclass(frozen=True)
class FaceCounts:
    """The numbers of faces that the length of a run depends on; None: not known yet."""

    train: int | None = None
    """Labeled training faces."""
    student: int | None = None
    """Training faces of a student: the labeled ones and those of the pool."""
    pool: int | None = None


@dataclass(frozen=True)
class Work:
    """Faces that pass through a network."""

    role: RoleConfig | None
    """The network; None: something else, e.g. a vote."""
    num_faces: float | None
    """None: not known yet."""
    trains: bool
    """Whether they pass forward and backward, or forward only."""


UNKNOWN = Work(None, None, trains=False)
"""Work whose length no other work tells, e.g. that of a vote."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a run."""

    title: str
    """In plain words, e.g. ``train the teacher``."""
    directory: Path
    """Where its record is, or the file that it writes last."""
    work: Work | None = None
    """What takes its time; None: anything else than a network."""
    num_members: int = 1
    """Predictions per face; each has a record in a folder of its own inside `directory` if there are several."""
    also: tuple[Path, ...] = ()
    """Directories of other records that belong to the stage."""


def planned_stages(config: RunConfig, run: RunDir, counts: FaceCounts | None = None) -> Iterator[PlannedStage]:
    """Yield the stages of a full cycle in order: as if every student is promoted, until its gate has decided otherwise.

    Args:
        config: of the run.
        run: its directory; prepared faces and gates are read from it.
        counts: None: of the prepared faces, if there are any.
    """
    counts = counts or _prepared_counts(run)
    is_drawn = bool(config.masking) or any(isinstance(source, DrawnSource) for source in config.faces.all_sources)
    yield PlannedStage(f"{'draw and ' * is_drawn}prepare the faces", run.faces, also=(config.faces.root,))
    yield from _teachers(config, run, run.teacher, "the teacher", counts.train)
    if config.out_of_fold is not None:
        num_folds = config.out_of_fold.num_folds
        others = None if counts.train is None else counts.train * (num_folds - 1) // num_folds
        for fold in range(num_folds):
            who = f"the teacher without fold {fold + 1} of {num_folds}"
            yield from _teachers(config, run, run.fold_teacher(fold), who, others)
        yield PlannedStage("predict the left-out folds", run.out_of_fold)
    compared = 1
    for round_index in range(1, config.rounds + 1):
        of_round = f" (round {round_index})" if config.rounds > 1 else ""
        yield from _labels(config, run, round_index, counts, f"label the pool{of_round}", f"select labels{of_round}")
        student = run.student(round_index)
        yield _student(config, f"train the student{of_round}", student, counts)
        yield PlannedStage(f"compare the student with its teacher{of_round}", student / "gate.json")
        is_promoted = promoted(student)
        compared = compared if is_promoted is False and round_index > 1 else round_index  # see `finish.compared_round`
        if is_promoted is False:
            break
    if config.control:
        yield _student(config, "train the control", run.control(compared), counts, uses_pool=False)
    if config.student_can_label and compared == round_index:  # else the labels of a later round are the student's
        titles = "label the pool by the student", "select the student's labels"
        yield from _labels(config, run, compared + 1, counts, *titles)
    yield PlannedStage("compare on the test faces", run.summary)


def promoted(student: Path) -> bool | None:
    """Return the gate's decision on a student; None if there is none yet."""
    if not (student / "done.json").exists():
        return None
    try:
        return bool(read_json(student / "gate.json")["promoted"])
    except (RunError, KeyError):
        return None


def training_work(role: RoleConfig, num_faces: int | None, *, uses_pool: bool = True) -> Work:
    """Count the faces of a training's steps.

    Args:
        role: model and training.
        num_faces: training faces per epoch; needed for a training of so many epochs.
        uses_pool: whether pseudo-labels and `fixmatch` count; a control's do not.
    """
    training = role.training
    if num_faces is None and training.steps is None:
        return Work(role, None, trains=True)
    num_steps = training.num_steps(-(-(num_faces or 0) // training.batch_size))
    per_step: float = training.batch_size
    if not uses_pool:
        per_step *= training.labeled_fraction or 1
    elif training.fixmatch is not None:
        per_step *= 1 + training.fixmatch.faces_per_labeled
    return Work(role, num_steps * per_step, trains=True)


def _prepared_counts(run: RunDir) -> FaceCounts:
    try:
        result = read_json(run.faces / "done.json")["result"]
        return FaceCounts(train=result["labeled"]["train"], pool=result["unlabeled"])
    except (RunError, KeyError, TypeError):
        return FaceCounts()


def _teachers(
    config: RunConfig, run: RunDir, directory: Path, who: str, num_faces: int | None
) -> Iterator[PlannedStage]:
    """Yield the stages of a teacher: of a vote, those of its members first."""
    single = config.network_teacher
    if single is not None:
        yield PlannedStage(f"train {who}", directory, training_work(single, num_faces))
        return
    for name, teacher in config.named_teachers.items():
        work = training_work(teacher, num_faces) if isinstance(teacher, NetworkTeacher) else UNKNOWN
        member = run.members(directory) / name
        yield PlannedStage(f"train {who}: {name}", member, work, also=(run.features / name,))
    yield PlannedStage(f"combine {who}", directory)


def _labels(
    config: RunConfig, run: RunDir, round_index: int, counts: FaceCounts, label: str, select: str
) -> Iterator[PlannedStage]:
    """Yield the prediction and the selection of a round."""
    labels, num_members = run.pseudo_labels(round_index), config.num_members(round_index)
    role = config.network_teacher if round_index == 1 else config.student
    num_predictions = len(config.prediction.views)
    if round_index == 1 and config.out_of_fold is not None and not config.guarantees_out_of_fold:
        num_predictions *= config.out_of_fold.num_folds
    num_faces = None if counts.pool is None else counts.pool * num_predictions
    work = UNKNOWN if role is None else Work(role, num_faces, trains=False)
    also = labels / "held_out", labels / "shift", labels / "engine"
    yield PlannedStage(label, labels / "predictions", work, num_members=num_members, also=also)
    yield PlannedStage(select, labels)


def _student(
    config: RunConfig, title: str, directory: Path, counts: FaceCounts, *, uses_pool: bool = True
) -> PlannedStage:
    return PlannedStage(title, directory, training_work(config.student, counts.student, uses_pool=uses_pool))
