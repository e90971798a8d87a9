"""Config section `masking`: sets of faces with drawn masks."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.sources import FolderSource, Source

Share = Annotated[float, Field(ge=0)]
Point = tuple[float, float]
MASK_VALUES = ("wear", "incorrect", "normal")
DEFAULT_LABELS = LabelsConfig(attributes=(AttributeConfig(name="gender", values=("male", "female")),))


class CanonicalLandmarks(Section):
    """The same landmarks in every picture, for aligned crops; by default those of UTKFace's chips."""

    type: Literal["canonical"]
    points: tuple[Point, Point, Point, Point, Point] | None = None
    """Left eye, right eye, tip of the nose, left and right corner of the mouth, left and right as seen in the picture: x
    and y as shares of its width and height."""


class FileLandmarks(Section):
    """Landmarks from a file, one line per picture: its path, then 5 or 68 points as x and y in pixels.

    Separators are commas, semicolons, tabs or spaces; a first line without numbers is a header. Paths are relative to
    the source's folder; a bare file name without ``.chip.jpg`` is accepted, as in UTKFace's lists.
    """

    type: Literal["file"]
    path: Path


class YuNetLandmarks(Section):
    """Landmarks detected by YuNet (the extra ``[landmarks]``); the largest face of a picture is used."""

    type: Literal["yunet"]
    model: Path
    """YuNet's ONNX file, which the user provides."""
    min_score: Annotated[float, Field(ge=0.3, le=1)] = 0.6


LandmarksConfig = Annotated[CanonicalLandmarks | FileLandmarks | YuNetLandmarks, Field(discriminator="type")]


class PicturesConfig(Section):
    """Number of pictures with the mask worn correctly, worn incorrectly, and without a mask."""

    wear: int = Field(default=5, ge=0, le=100)
    incorrect: int = Field(default=1, ge=0, le=100)
    normal: int = Field(default=1, ge=0, le=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.total == 0:
            raise ValueError("wear, incorrect and normal are all 0: nothing would be drawn; e.g. --set wear=5")
        return self

    @property
    def total(self) -> int:
        """Number of all pictures per person or per face."""
        return self.wear + self.incorrect + self.normal


class Shares(Section):
    """Relative frequencies; their sum need not be 1."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if sum(self.model_dump().values()) <= 0:
            first = next(iter(type(self).model_fields))
            raise ValueError(f"all shares are 0: nothing would be left to draw; e.g. --set {first}=1")
        return self


class KindShares(Shares):
    """Relative frequency of each kind of mask."""

    surgical: Share = 0.5
    three_panel: Share = 0.25
    cloth: Share = 0.25


class ColorShares(Shares):
    """Relative frequency of each color over all kinds; each kind prefers its usual colors."""

    white: Share = 0.5
    black: Share = 0.25
    blue: Share = 0.12
    other: Share = 0.06
    print: Share = 0.07


class WrongWayShares(Shares):
    """Relative frequency of each incorrect way of wearing a mask."""

    nose_out: Share = 0.45
    chin_out: Share = 0.2
    on_chin: Share = 0.35


class MaskingConfig(Section):
    """A masked set.

    Attributes:
        root: folder that the sources' paths are relative to; default in a run's config: faces.root.
        sources: where the faces come from. Faces that are labeled as masked are skipped and counted; unlabeled ones
            count as unmasked.
        labels: attributes of the faces that the table keeps besides mask, age_years and origin.
        out: folder of the pictures, of ``faces.csv`` and of the record, relative to `root`.
        per_person: number of pictures per person, spread over the person's faces; give this or `per_face`.
        per_face: number of pictures per face.
        size: side of the square pictures in pixels; None keeps each picture's size.
        processes: number of drawing processes; None takes all cores. The pictures do not depend on it.
    """

    root: Path = Path("data/raw")
    sources: tuple[Source, ...] = Field(min_length=1)
    labels: LabelsConfig = DEFAULT_LABELS
    out: Path
    seed: int = Field(default=0, ge=0, lt=2**31)
    landmarks: LandmarksConfig
    per_person: PicturesConfig | None = None
    per_face: PicturesConfig | None = None
    kinds: KindShares = KindShares()
    colors: ColorShares = ColorShares()
    wrong_ways: WrongWayShares = WrongWayShares()
    size: int | None = Field(default=None, ge=32, le=4096)
    jpeg_quality: int = Field(default=92, ge=30, le=100)
    processes: int | None = Field(default=None, ge=1, le=256)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.per_person is None) == (self.per_face is None):
            cure = "--set per_face=null" if self.per_person else "--set per_face.wear=5"
            raise ValueError(
                f"per_person or per_face sets the number of pictures: give exactly one of them, e.g. {cure}"
            )
        names = [source.name or source.type for source in self.sources]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            last = max(position for position, name in enumerate(names) if name in duplicates)
            raise ValueError(
                f"sources need different names, since image ids begin with them; used twice: {duplicates}; "
                f"--set sources.{last}.name={names[last]}-{last + 1}"
            )
        columns = dict.fromkeys((*self.labels.source_columns, "mask"))
        faults = [
            fault
            for source in self.sources
            if isinstance(source, FolderSource)
            for fault in source.level_faults(tuple(columns))
        ]
        if faults:
            raise ValueError("\n".join(faults))
        for attribute in self.labels.attributes:
            if attribute.name == "mask" and not set(MASK_VALUES) <= set(attribute.values):
                raise ValueError(
                    f"labels: the attribute mask needs the values {list(MASK_VALUES)}, got {list(attribute.values)}"
                )
        return self

    @property
    def folder(self) -> Path:
        """Folder of the set."""
        return self.root / self.out

    @property
    def pictures(self) -> PicturesConfig:
        """Number of pictures per person or per face."""
        pictures = self.per_person or self.per_face
        assert pictures is not None
        return pictures


class MaskingFile(Section):
    """A config file with masked sets only; a run's config may have the same section."""

    masking: tuple[MaskingConfig, ...] = Field(min_length=1)
    execution: ExecutionConfig = InProcess()
