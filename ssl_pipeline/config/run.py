"""The config: strict, frozen sections. What a run may be told, what each value means, and which values contradict.

`config_loading.load_config` reads them from YAML and words the faults.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.evaluation import CalibrationConfig, GateConfig, NoCalibration, OutOfFoldConfig, ShiftConfig
from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.losses import ExpectedNumber, terms_of
from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.config.metrics import check_metric
from ssl_pipeline.config.selection import DEFAULT, EnsembleAgreement, SelectionConfig
from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.config.training import RoleConfig, TrainingConfig

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class PredictionConfig(Section):
    """How faces are predicted: the pool in shards, each finished once; a face in one or several views.

    A face has a view for each zoom and, with `horizontal_flip`, the mirror image of each. The probability of a class
    is the mean over the V views: p(c | x) = 1/V · Σ p(c | view(x)).
    """

    shard_size: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=256, ge=1)
    horizontal_flip: bool = True
    zooms: tuple[Annotated[float, Field(ge=1, le=2)], ...] = Field(default=(1.0,), min_length=1)
    """1 is the whole face; z keeps the centered square of 1/z of the side and resizes it back."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def views(self) -> tuple[tuple[float, bool], ...]:
        """The views of a face: zoom, and whether mirrored."""
        return tuple(product(self.zooms, (False, True) if self.horizontal_flip else (False,)))

    @model_validator(mode="after")
    def _check_zooms(self) -> Self:
        if len(set(self.zooms)) != len(self.zooms):
            raise ValueError(f"zooms must differ from each other, got {list(self.zooms)}")
        return self


class RunConfig(Section):
    """A whole run: one label space, one set of faces, a teacher, a student, and how labels pass between them."""

    run_name: RunName
    seed: int = Field(default=0, ge=0, lt=2**31)
    runs_root: Path = Path("data/runs")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    rounds: int = Field(default=1, ge=1)
    min_changed_labels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """After the first round: one in which no larger share of the accepted labels is new or changed ends the cycle."""
    labels: LabelsConfig
    faces: FacesConfig
    teacher: RoleConfig
    student: RoleConfig
    prediction: PredictionConfig = PredictionConfig()
    masking: tuple[MaskingConfig, ...] = ()
    """Sets of faces with masks drawn on them, built before the faces are read; sources of type csv read them."""
    calibration: CalibrationConfig = NoCalibration(type="none")
    out_of_fold: OutOfFoldConfig | None = None
    """Without it one teacher labels the pool, and the validation faces are the held-out ones."""
    selection: SelectionConfig = DEFAULT
    shift: ShiftConfig | None = ShiftConfig()
    """Null leaves the diagnosis out."""
    review: Literal["none", "wait"] = "none"
    """`wait` trains no student before a person has decided on its round's selection; see docs/review.md."""
    gate: GateConfig = GateConfig()
    storage: StorageConfig | None = None
    """Where else the run is kept; null keeps it on this machine alone."""
    execution: ExecutionConfig = InProcess()
    """Where the pool is predicted and masks are drawn; no result depends on it."""

    @model_validator(mode="after")
    def _check_bin_edges(self) -> Self:
        if self.faces.labeled.drop_near_bin_edges is not None and not self.labels.made_from_age:
            raise ValueError(
                "faces.labeled.drop_near_bin_edges: no attribute has bin_edges in years; give one from_column: age_years "
                "and bin_edges"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [fault for role in ("teacher", "student") for fault in self._faults_of(role)]
        names = self.labels.space.names
        asked: list[tuple[str, Sequence[str]]] = [
            (f"source '{of.name or of.type}': derived", of.derived) for of in self.faces.all_sources
        ]
        asked += [
            ("faces.unlabeled.hide_labels", self.faces.unlabeled.hidden_of(of, names))
            for of in self.faces.unlabeled.sources
        ]
        for key, mentioned in asked:
            if strange := [name for name in mentioned if name not in names]:
                faults.append(f"{key}: no attribute {strange}; the attributes: {', '.join(names)}")
        if self.teacher.training.fixmatch is not None:
            faults.append("teacher.training.fixmatch: the teacher sees no pool; set it for the student")
        if self.teacher.training.labeled_fraction is not None:
            faults.append(
                "teacher.training.labeled_fraction: the teacher sees human labels only; set it for the student"
            )
        faults += self._faults_of_selection()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def masked_sets(self) -> tuple[MaskingConfig, ...]:
        """The masked sets, under faces.root where they name no other."""
        root = {"root": self.faces.root}
        return tuple(of if "root" in of.model_fields_set else of.model_copy(update=root) for of in self.masking)

    def num_members(self, round_index: int) -> int:
        """Count what labels the pool in a round, from 1: the teachers of `out_of_fold`, the views of one, or one."""
        if self.out_of_fold is not None and round_index == 1:
            return self.out_of_fold.num_folds
        return len(self.prediction.views) if isinstance(self.selection, EnsembleAgreement) else 1

    def _faults_of_selection(self) -> Iterator[str]:
        """Say where the selection asks for what the run does not predict."""
        if self.selection.align == "validation" and self.out_of_fold is not None:
            yield "selection.align: with out_of_fold the held-out faces are the training faces; use align: training"
        if (
            isinstance(self.selection, EnsembleAgreement)
            and min(self.num_members(1), self.num_members(self.rounds)) < 2
        ):
            where = "" if self.out_of_fold is None else " after the first round"
            yield (
                f"selection.type: ensemble_agreement compares several teachers or views, and there is one{where}; "
                "set out_of_fold, prediction.horizontal_flip or several prediction.zooms"
            )

    def _faults_of(self, role: str) -> Iterator[str]:
        """Say where a role's training names what the labels have not."""
        training: TrainingConfig = getattr(self, role).training
        with_numbers = [attribute.name for attribute in self.labels.attributes if attribute.from_column is not None]
        try:
            check_metric(training.monitor, attributes=self.labels.space.names, with_numbers=with_numbers)
        except ValueError as error:
            yield f"{role}.training.monitor: {error}"
        for inside, _, loss in terms_of(training.loss):
            key = f"{role}.training.loss.{inside}"
            if isinstance(loss, ExpectedNumber):
                if loss.attribute not in with_numbers:
                    yield f"{key}attribute: expected an attribute with from_column and bin_edges, got '{loss.attribute}'"
                continue
            weighed = "a class, as " + repr(self.labels.space.class_names[0])
            if loss.per == "attribute":
                weighed = "an attribute or value of labels.attributes, as age or age/>=60"
            for unknown in loss.unknown_names(self.labels.space):
                yield f"{key}{unknown}: weighs what is not there; expected {weighed}"
