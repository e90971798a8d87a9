"""The config: strict, frozen sections. What a run may be told, what each value means, and which values contradict.

`config_loading.load_config` reads them from YAML and words the faults.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config_base import Section
from ssl_pipeline.config_calibration import CalibrationConfig, NoCalibration
from ssl_pipeline.config_losses import ExpectedNumber, terms_of
from ssl_pipeline.config_metrics import check_metric
from ssl_pipeline.config_selection import SelectionConfig
from ssl_pipeline.config_training import RoleConfig, TrainingConfig
from ssl_pipeline.labels import LabelSpace

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

# Columns of the face table, the manifest and the training table; `joint` stands beside attributes in reports.
RESERVED_NAMES = frozenset(
    [
        "image_id",
        "image_path",
        "content_hash",
        "person_id",
        "source",
        "split",
        "age_years",
        "origin",
        "pixel_row",
        "round",
        "decision",
        "reason",
        "weight",
        "class_id",
        "class_name",
        "confidence",
        "class_probabilities",
        "labeled_round",
        "label_source",
        "target",
        "joint",
    ]
)
MAX_CLASSES = 1000


class AttributeConfig(Section):
    """An attribute, and, where it is a range of a number (age in years), how the number becomes a value."""

    name: Identifier
    values: tuple[str, ...] = Field(min_length=2)
    from_column: str | None = None
    borders: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"the name '{self.name}' is taken by a column of the tables")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values must differ from each other")
        if (self.from_column is None) != (not self.borders):
            raise ValueError("from_column and borders belong together: give both or neither")
        if self.borders and len(self.borders) != len(self.values) - 1:
            raise ValueError(f"{len(self.values)} values need {len(self.values) - 1} borders, got {len(self.borders)}")
        if list(self.borders) != sorted(set(self.borders)):
            raise ValueError("borders must ascend")
        return self


class LabelsConfig(Section):
    """The attributes; a class is one combination of their values."""

    attributes: tuple[AttributeConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) != len(names):
            raise ValueError("attribute names must differ from each other")
        if self.space.num_classes > MAX_CLASSES:
            raise ValueError(f"the attributes span {self.space.num_classes:,} classes; at most {MAX_CLASSES:,} can be")
        return self

    @property
    def space(self) -> LabelSpace:
        """The label space that these attributes span."""
        return LabelSpace.of({attribute.name: attribute.values for attribute in self.attributes})


class FilterConfig(Section):
    """Which of a source's faces to take, by what the source knows. A face of unknown origin or age does not pass."""

    origin: tuple[str, ...] | None = None
    min_age_years: float | None = None
    max_age_years: float | None = None
    min_side_pixels: int | None = Field(default=None, ge=1)


class SourceBase(Section):
    """What every source has: where it lies, which faces to take, what its columns and values are called here."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    path: Path
    filter: FilterConfig = FilterConfig()
    limit: int | None = Field(default=None, ge=1)
    columns: dict[str, str] = Field(default_factory=dict)
    """{our column: the source's column}; a column that is not named keeps its name."""
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    """{our column: {the source's value: our value}}; a value that is not named keeps its name."""


class DrawnSource(SourceBase):
    """Faces drawn from parameters into `path`, the same bytes for the same seed."""

    type: Literal["drawn"]
    population: Literal["home", "elsewhere"] = "home"
    num_people: int = Field(ge=1)
    images_per_person: int = Field(default=1, ge=1)
    size_pixels: int = Field(default=64, ge=16, le=1024)
    drawing_seed: int = Field(default=0, ge=0)


class FolderSource(SourceBase):
    """A folder of images at any depth; `levels` names what its first folders say, as ``<gender>/<age>/…``."""

    type: Literal["folder"]
    levels: tuple[str, ...] = ()


class CsvSource(SourceBase):
    """A CSV table inside `path`, its image paths relative to `path`."""

    type: Literal["csv"]
    table: Path


class UtkFaceSource(SourceBase):
    """UTKFace, aligned: ``{age}_{gender}_{race}_{time}.jpg.chip.jpg``."""

    type: Literal["utkface"]


class MaskBaseSource(SourceBase):
    """MaskBase: a folder a person, ``{id}_{gender}_{race}_{age}/``, with mask1…5, incorrect_mask and normal."""

    type: Literal["maskbase"]


Source = Annotated[DrawnSource | FolderSource | CsvSource | UtkFaceSource | MaskBaseSource, Field(discriminator="type")]


class LabeledConfig(Section):
    """The labeled faces. The test split is taken first, then `limit` faces for training and validation together."""

    sources: tuple[Source, ...] = Field(min_length=1)
    test_sources: tuple[Source, ...] = ()
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    limit: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.test_sources) == (self.test_fraction is not None):
            raise ValueError("the test split comes from test_fraction or from test_sources: give exactly one of them")
        return self


class UnlabeledConfig(Section):
    """The pool to be pseudo-labeled. `hide_labels` forgets what its sources know, so that purity can be measured."""

    sources: tuple[Source, ...] = Field(min_length=1)
    hide_labels: bool = False


class FacesConfig(Section):
    """Where the faces come from and the size in pixels at which every model of the run sees them."""

    root: Path = Path("data/raw")
    image_size: int = Field(default=64, ge=16, le=1024)
    labeled: LabeledConfig
    unlabeled: UnlabeledConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source.name or source.type for source in self.all_sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources need names of their own, since image ids begin with them; twice: {twice}")
        return self

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Every source: labeled, test, unlabeled."""
        return (*self.labeled.sources, *self.labeled.test_sources, *self.unlabeled.sources)


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
    labels: LabelsConfig
    faces: FacesConfig
    teacher: RoleConfig
    student: RoleConfig
    prediction: PredictionConfig = PredictionConfig()
    calibration: CalibrationConfig = NoCalibration(type="none")
    selection: SelectionConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [fault for role in ("teacher", "student") for fault in self._faults_of(role)]
        if self.teacher.training.human_share is not None:
            faults.append("teacher.training.human_share: the teacher sees human labels only; set it for the student")
        if faults:
            raise ValueError("\n".join(faults))
        return self

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
                    yield f"{key}attribute: expected an attribute with from_column and borders, got '{loss.attribute}'"
                continue
            weighed = "a class, as " + repr(self.labels.space.class_names[0])
            if loss.per == "attribute":
                weighed = "an attribute or value of labels.attributes, as age or age/>=60"
            for unknown in loss.unknown_names(self.labels.space):
                yield f"{key}{unknown}: weighs what is not there; expected {weighed}"
