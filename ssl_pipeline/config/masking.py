"""The config of a masked set: whose faces get masks, how many of each kind, and where the pictures go."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.execution import ExecutionConfig, InProcess
from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.sources import Source

Share = Annotated[float, Field(ge=0)]
Point = tuple[float, float]
MASK_VALUES = ("wear", "incorrect", "normal")
DEFAULT_LABELS = LabelsConfig(attributes=(AttributeConfig(name="gender", values=("male", "female")),))


class CanonicalLandmarks(Section):
    """The same points in every picture, for crops that are aligned alike; by default UTKFace's chips."""

    type: Literal["canonical"]
    points: tuple[Point, Point, Point, Point, Point] | None = None
    """Left eye, right eye, tip of the nose, left and right corner of the mouth, as the picture shows them: x and y as
    shares of the picture's width and height."""


class FileLandmarks(Section):
    """Points from a file, one line a picture: its path, then 5 or 68 points as x and y in pixels.

    Separated by commas, semicolons, tabs or spaces; a first line without numbers is a header. Paths are relative to
    the source's folder; a bare file name, without ``.chip.jpg`` as in UTKFace's lists, will do.
    """

    type: Literal["file"]
    path: Path


class YuNetLandmarks(Section):
    """Points found by YuNet (the extra ``[landmarks]``); of several faces in a picture, the largest counts."""

    type: Literal["yunet"]
    model: Path
    min_score: Annotated[float, Field(ge=0.3, le=1)] = 0.6


LandmarksConfig = Annotated[CanonicalLandmarks | FileLandmarks | YuNetLandmarks, Field(discriminator="type")]


class PicturesConfig(Section):
    """How many pictures: of the mask worn right, worn wrongly, and of the bare face."""

    wear: int = Field(default=5, ge=0, le=100)
    incorrect: int = Field(default=1, ge=0, le=100)
    normal: int = Field(default=1, ge=0, le=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.total == 0:
            raise ValueError("wear, incorrect and normal are all 0: nothing would be drawn")
        return self

    @property
    def total(self) -> int:
        """All pictures of a person or face."""
        return self.wear + self.incorrect + self.normal


class Shares(Section):
    """How often each of several things occurs; the shares may have any sum above 0."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if sum(self.model_dump().values()) <= 0:
            raise ValueError("all shares are 0: nothing would be left to draw")
        return self


class KindShares(Shares):
    """How often each kind of mask occurs."""

    surgical: Share = 0.5
    three_panel: Share = 0.25
    cloth: Share = 0.25


class ColorShares(Shares):
    """How often each color occurs over all kinds; a kind has those oftener that are usual for it."""

    white: Share = 0.5
    black: Share = 0.25
    blue: Share = 0.12
    other: Share = 0.06
    print: Share = 0.07


class WrongWayShares(Shares):
    """How often each wrong way of wearing occurs among the wrongly worn."""

    nose_out: Share = 0.45
    chin_out: Share = 0.2
    on_chin: Share = 0.35


class MaskingConfig(Section):
    """A masked set.

    Attributes:
        root: the folder that the sources' paths are relative to; in a run's config, faces.root unless it is given.
        sources: whose faces. A face that its source knows to wear a mask is left out, counted; one of which nothing is
            known counts as bare.
        labels: the attributes of the faces that the table keeps besides mask, age_years and origin.
        out: the folder of the pictures, of ``faces.csv`` and of the record, relative to `root`.
        per_person: pictures a person, spread over the person's faces; give this or `per_face`.
        per_face: pictures a face.
        size: side of the square pictures in pixels; None keeps each picture as it is.
        processes: how many draw at once; None takes all cores. The pictures do not depend on it.
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
            raise ValueError("the number of pictures stands in per_person or in per_face: give exactly one of them")
        names = [source.name or source.type for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources need names of their own, since image ids begin with them; twice: {twice}")
        for attribute in self.labels.attributes:
            if attribute.name == "mask" and not set(MASK_VALUES) <= set(attribute.values):
                raise ValueError(f"labels: the attribute mask needs the values {list(MASK_VALUES)}")
        return self

    @property
    def folder(self) -> Path:
        """Where the set is built."""
        return self.root / self.out

    @property
    def pictures(self) -> PicturesConfig:
        """How many pictures of each person or face."""
        pictures = self.per_person or self.per_face
        assert pictures is not None
        return pictures


class MaskingFile(Section):
    """A config file of masked sets alone; a run's config may have the same section."""

    masking: tuple[MaskingConfig, ...] = Field(min_length=1)
    execution: ExecutionConfig = InProcess()
