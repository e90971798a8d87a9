"""The config of a run: all sections, and the checks between them. `loading.load_config` reads it from YAML."""

from collections.abc import Collection, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import RUN_NAME, Section
from ssl_pipeline.config.evaluation import CalibrationConfig, GateConfig, NoCalibration, OutOfFoldConfig, ShiftConfig
from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.losses import ExpectedNumber, terms_of
from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.config.messages import with_whole_keys
from ssl_pipeline.config.metrics import check_metric
from ssl_pipeline.config.selection import DEFAULT, EnsembleAgreement, PrecisionGuarantee, SelectionConfig
from ssl_pipeline.config.sources import FolderSource
from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.config.teachers import (
    NetworkTeacher,
    Teacher,
    TeacherConfig,
    no_start_teacher,
    teacher_names,
    unequal_keys,
)
from ssl_pipeline.config.tracking import TrackConfig
from ssl_pipeline.config.training import RoleConfig, StudentConfig

RunName = Annotated[str, Field(pattern=RUN_NAME)]
Device = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["torch", "openvino"]


class PredictionConfig(Section):
    """Prediction of the pool in shards, with one or several views per face.

    A face has one view per zoom and, with `horizontal_flip`, the mirror image of each. Its class probabilities are the
    mean over the V views: p(c | x) = 1/V · Σ p(c | view(x)).
    """

    shard_size: int = Field(default=4096, ge=1)
    """Faces per shard; an interrupted prediction continues after the last finished shard."""
    batch_size: int = Field(default=256, ge=1)
    horizontal_flip: bool = True
    zooms: tuple[Annotated[float, Field(ge=1, le=2)], ...] = Field(default=(1.0,), min_length=1)
    """Zoom z crops the centered square of 1/z of the side and resizes it back; 1 is the whole face."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: EngineName = "torch"
    """What computes the class probabilities of networks; ``openvino`` (the extra ``[openvino]``) is faster on a CPU, see
    docs/training.md."""

    def fingerprint_fields(self, *, exclude: Collection[str] = ("batch_size",)) -> dict[str, Any]:
        """Return all values that predictions depend on, as plain values; torch is unnamed, as before there were engines."""
        default = {"engine"} if self.engine == "torch" else set()
        return self.model_dump(exclude={*exclude, *default})

    @property
    def views(self) -> tuple[tuple[float, bool], ...]:
        """The views of a face: (zoom, mirrored)."""
        return tuple(product(self.zooms, (False, True) if self.horizontal_flip else (False,)))

    @model_validator(mode="after")
    def _check_zooms(self) -> Self:
        if len(set(self.zooms)) != len(self.zooms):
            raise ValueError(
                f"zooms must differ from each other, got {list(self.zooms)}; --set 'zooms={list(dict.fromkeys(self.zooms))}'"
            )
        return self


class RunConfig(Section):
    """A run: label space, faces, teacher, student, and the stages between them."""

    run_name: RunName
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of all random draws; another seed also splits the faces differently."""
    runs_root: Path = Path("data/runs")
    """Folder of the run directories."""
    device: Device = "auto"
    """``auto`` takes a CUDA device if there is one, else the CPU; ``mps`` is a Mac's GPU."""
    rounds: int = Field(default=1, ge=1)
    """How often a student may become the next teacher."""
    min_changed_labels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """From round 2 on, stop the cycle if at most this share of the accepted labels is new or changed."""
    labels: LabelsConfig
    faces: FacesConfig
    teacher: TeacherConfig
    """One teacher, or a list of teachers that vote; see docs/teachers.md."""
    student: StudentConfig
    prediction: PredictionConfig = PredictionConfig()
    masking: tuple[MaskingConfig, ...] = ()
    """Sets of faces with drawn masks, built before the faces are read; sources of type csv read them."""
    calibration: CalibrationConfig = NoCalibration(type="none")
    out_of_fold: OutOfFoldConfig | None = None
    """None: one teacher labels the pool."""
    selection: SelectionConfig = DEFAULT
    shift: ShiftConfig | None = ShiftConfig()
    """None skips the diagnosis."""
    review: Literal["none", "wait"] = "none"
    """`wait`: a person must decide on each round's selection before the student is trained; see docs/review.md."""
    gate: GateConfig = GateConfig()
    control: bool = True
    """Train the compared student once more without the pool, to tell what the pool brought."""
    storage: StorageConfig | None = None
    """Remote copy of the run; None keeps it on this machine only."""
    execution: ExecutionConfig = InProcess()
    """Where the pool is predicted and masks are drawn; results do not depend on it."""
    track: TrackConfig = ()
    """Trackers that follow the trainings: tensorboard, mlflow, wandb, or a list (the extra ``[track]``; wandb's own package); see docs/training.md."""
    profile: bool = False
    """Record where each stage's time goes: decoding, augmentation, computing and so on. On a GPU it slows the run, since
    each part waits for the GPU."""

    @model_validator(mode="after")
    def _check_bin_edges(self) -> Self:
        if self.faces.labeled.drop_near_bin_edges is not None and not self.labels.made_from_age:
            raise ValueError(
                "faces.labeled.drop_near_bin_edges: no attribute has bin_edges in years; set from_column: age_years and "
                "bin_edges of one, or --set faces.labeled.drop_near_bin_edges=null"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [fault for key, role in self.roles.items() for fault in self._role_faults(key, role)]
        names = self.labels.space.names
        mentions: list[tuple[str, Sequence[str]]] = [
            (f"source '{source.name or source.type}': derived", source.derived) for source in self.faces.all_sources
        ]
        mentions += [
            ("faces.unlabeled.hide_labels", self.faces.unlabeled.hidden_of(source, names))
            for source in self.faces.unlabeled.sources
        ]
        for source in (source for source in self.faces.all_sources if isinstance(source, FolderSource)):
            faults += source.level_faults(self.labels.source_columns)
        for key, attributes in mentions:
            if unknown := [name for name in attributes if name not in names]:
                faults.append(f"{key}: no attribute {unknown}; the attributes: {', '.join(names)}")
        if self.prediction.engine != "torch" and self.device in ("cuda", "mps"):
            faults.append(
                f"prediction.engine: {self.prediction.engine} predicts on a CPU, and device is {self.device}; "
                "--set prediction.engine=torch, or --set device=cpu"
            )
        faults += self._teacher_faults()
        faults += self._selection_faults()
        faults += self._init_faults()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, one or several."""
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    @property
    def named_teachers(self) -> dict[str, Teacher]:
        """The teachers by name."""
        return dict(zip(teacher_names(self.teachers), self.teachers, strict=True))

    @property
    def network_teacher(self) -> NetworkTeacher | None:
        """The teacher, if it is one network; None if it is a vote, or a head on features (a vote of one)."""
        first = self.teachers[0]
        return first if len(self.teachers) == 1 and isinstance(first, NetworkTeacher) else None

    @property
    def teacher_keys(self) -> list[str]:
        """The teachers' keys in the config: teacher, or teacher.0 and so on."""
        return [f"teacher.{n}" for n in range(len(self.teachers))] if isinstance(self.teacher, tuple) else ["teacher"]

    @property
    def roles(self) -> dict[str, RoleConfig]:
        """The networks to train, by their keys in the config: teacher, or teacher.0 and so on, and student."""
        networks = {
            key: teacher
            for key, teacher in zip(self.teacher_keys, self.teachers, strict=True)
            if isinstance(teacher, NetworkTeacher)
        }
        return {**networks, "student": self.student}

    @property
    def masked_sets(self) -> tuple[MaskingConfig, ...]:
        """The masked sets, with faces.root as the default of their `root`."""
        root = {"root": self.faces.root}
        return tuple(
            masking if "root" in masking.model_fields_set else masking.model_copy(update=root)
            for masking in self.masking
        )

    @property
    def guarantees_out_of_fold(self) -> bool:
        """Whether training faces, predicted out of fold, test the first round's precision guarantee."""
        return (
            isinstance(self.selection, PrecisionGuarantee)
            and self.out_of_fold is not None
            and not self.faces.labeled.guarantee_fraction
        )

    def guarantee_withheld(self, held_out: str, round_index: int) -> str:
        """Say why held-out faces can guarantee nothing in a round (from 1), as they chose something; empty if they can.

        Args:
            held_out: which faces, see `HeldOutFaces.name`.
            round_index: from 1; from 2 on, a student labels.
        """
        if held_out == "validation":
            return "the validation faces have judged the model that labels: its epoch, temperatures or promotion"
        fixmatch = self.student.training.fixmatch
        if held_out == "guarantee" and round_index > 1 and (fixmatch is None or fixmatch.pseudo_labels):
            return "the guarantee faces chose the thresholds of the labels that taught the student"
        return ""

    @property
    def student_can_label(self) -> bool:
        """Whether a student, one network, can label the pool: `ensemble_agreement` needs several views by it."""
        return not isinstance(self.selection, EnsembleAgreement) or len(self.prediction.views) > 1

    def num_members(self, round_index: int) -> int:
        """Return how many predictions per pool face a round (from 1) stores: out-of-fold teachers, several teachers, views of one, or 1."""
        if self.out_of_fold is not None and round_index == 1:
            return self.out_of_fold.num_folds
        if self.network_teacher is None and round_index == 1:
            return len(self.teachers) if isinstance(self.selection, EnsembleAgreement) else 1
        return len(self.prediction.views) if isinstance(self.selection, EnsembleAgreement) else 1

    @property
    def student_init(self) -> Literal["teacher", "pretrained", "fresh"]:
        """The student's first weights, `auto` decided."""
        if self.student.init != "auto":
            return self.student.init
        if self.student.training.fixmatch is not None and self.start_teacher is not None:
            return "teacher"
        return "pretrained" if self.student.model.is_pretrained else "fresh"

    @property
    def start_teacher(self) -> str | None:
        """Name of the first teacher whose weights fit the student; None if there is none."""
        for name, teacher in self.named_teachers.items():
            if isinstance(teacher, NetworkTeacher) and not unequal_keys(teacher, self.student.model):
                return name
        return None

    @property
    def start_faults(self) -> list[str]:
        """Say that the student's init is teacher and no teacher is such a network. Unknown architectures come before it."""
        if self.student.init != "teacher" or self.start_teacher is not None:
            return []
        return [no_start_teacher(dict(zip(self.teacher_keys, self.teachers, strict=True)), self.student.model)]

    def _init_faults(self) -> Iterator[str]:
        """Yield contradictions between the student's first weights and its network."""
        match self.student.init:
            case "pretrained" if not self.student.model.is_pretrained:
                yield "student.init: the model names no pretrained weights; --set student.init=auto, or set pretrained or weights_file"
            case "fresh" if self.student.model.is_pretrained:
                yield "student.init: fresh contradicts the model's pretrained weights; --set student.init=pretrained"

    def _selection_faults(self) -> Iterator[str]:
        """Yield contradictions between the selection and the predictions."""
        if isinstance(self.selection, PrecisionGuarantee):
            needs = "selection.type: precision_guarantee needs labeled faces that chose nothing"
            held_out = "guarantee" if self.faces.labeled.guarantee_fraction else "validation"
            if self.out_of_fold is None and not self.faces.labeled.guarantee_fraction:
                yield (
                    f"{needs}, and the validation faces choose the best epoch; --set out_of_fold.num_folds=5, "
                    "--set faces.labeled.guarantee_fraction=0.2, or --set selection.type=fixed_threshold"
                )
            elif self.rounds > 1 and (why := self.guarantee_withheld(held_out, self.rounds)):
                yield (
                    f"{needs}; after the first round {why}, and rounds is {self.rounds}; --set rounds=1, or "
                    "--set selection.type=fixed_threshold"
                )
        if (
            isinstance(self.selection, EnsembleAgreement)
            and min(self.num_members(1), self.num_members(self.rounds)) < 2
        ):
            where = "" if self.out_of_fold is None else " after the first round"
            yield (
                f"selection.type: ensemble_agreement needs several teachers or views, got one{where}; "
                "--set prediction.horizontal_flip=true, set out_of_fold or several prediction.zooms"
            )
        if isinstance(self.selection, EnsembleAgreement) and len({teacher.weight for teacher in self.teachers}) > 1:
            position = [teacher.weight for teacher in self.teachers].index(max(t.weight for t in self.teachers))
            yield (
                "selection.type: ensemble_agreement counts every teacher equally, and their weights differ; e.g. "
                f"--set teacher.{position}.weight=1"
            )

    def _teacher_faults(self) -> Iterator[str]:
        """Yield names that occur twice, and what only a student can be told."""
        names = teacher_names(self.teachers)
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            position = len(names) - 1 - names[::-1].index(twice[0])
            yield (
                f"teacher: two teachers are called '{twice[0]}'; their names must differ, e.g. "
                f"--set teacher.{position}.name={twice[0]}-{position}"
            )
        for key, role in self.roles.items():
            if key == "student":
                continue
            if role.training.fixmatch is not None:
                yield (
                    f"{key}.training.fixmatch: the teacher does not train on the pool; set it for the student only: "
                    f"--set {key}.training.fixmatch=null"
                )
            if role.training.labeled_fraction is not None:
                yield (
                    f"{key}.training.labeled_fraction: the teacher trains on human labels only; set it for the student "
                    f"only: --set {key}.training.labeled_fraction=null"
                )

    def _role_faults(self, role: str, config: RoleConfig) -> Iterator[str]:
        """Yield the metrics, attributes and classes of a role's training that the labels do not have."""
        training = config.training
        starts_trained = role == "student" and self.student_init == "teacher"
        start_faults = config.start_faults(self.faces.image_size, starts_trained=starts_trained)
        yield from (f"{role}.{with_whole_keys(fault, role)}" for fault in start_faults)
        with_numbers = [attribute.name for attribute in self.labels.attributes if attribute.from_column is not None]
        try:
            check_metric(training.monitor, attributes=self.labels.space.names, with_numbers=with_numbers)
        except ValueError as error:
            yield f"{role}.training.monitor: {error}; e.g. --set {role}.training.monitor=macro_f1"
        if training.fixmatch is not None:
            yield from (f"{role}.training.fixmatch.{fault}" for fault in training.fixmatch.faults(self.labels.space))
        for inner_key, _, loss in terms_of(training.loss):
            key = f"{role}.training.loss.{inner_key}"
            if isinstance(loss, ExpectedNumber):
                if loss.attribute not in with_numbers:
                    cure = f"; --set {key}attribute={with_numbers[0]}" if with_numbers else ""
                    yield (
                        f"{key}attribute: expected an attribute with from_column and bin_edges, got '{loss.attribute}'{cure}"
                    )
                continue
            expected = f"a class, e.g. {self.labels.space.class_names[0]!r}"
            if loss.per == "attribute":
                expected = "an attribute or value of labels.attributes, e.g. age or age/>=60"
            for unknown in loss.unknown_names(self.labels.space):
                yield f"{key}{unknown}: unknown name; expected {expected}"
