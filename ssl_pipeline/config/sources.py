"""The config's sections for sources of faces; what each set's folder must hold, docs/face-sets.md says."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.cropping import SourceCropping


class FilterConfig(Section):
    """Which of a source's faces to take, by what the source knows. A face of unknown origin or age does not pass.

    Of an age that is known as a range, the whole range must pass.
    """

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
    cropping: SourceCropping | None = None
    """In place of what faces.cropping says: settings of its own, or `type: none` for pictures that are faces already."""
    people: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """Whose people they are: sources with the same word here name the same person alike, or, where they name nobody,
    the same file. By default each source has people of its own."""
    derived: tuple[str, ...] = ()
    """Attributes whose values follow from how the pictures were made, as a mask that was drawn on them."""


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


class FairFaceSource(SourceBase):
    """FairFace: ``fairface_label_{train,val}.csv`` beside ``train/`` and ``val/``; ages are ranges."""

    type: Literal["fairface"]
    subsets: tuple[Literal["train", "val"], ...] = Field(default=("train", "val"), min_length=1)


class AfadSource(SourceBase):
    """AFAD or AFAD-Lite: ``{age}/{111 male | 112 female}/*.jpg``."""

    type: Literal["afad"]


class AllAgeFacesSource(SourceBase):
    """All-Age-Faces: ``{serial, 5 digits}A{age}.jpg`` in ``aligned faces/`` and ``original images/``."""

    type: Literal["all_age_faces"]
    images: Literal["aligned", "original"] = "aligned"


class AppaRealSource(SourceBase):
    """APPA-REAL: ``gt_avg_{train,valid,test}.csv`` beside ``train/``, ``valid/`` and ``test/``; knows no gender."""

    type: Literal["appa_real"]
    subsets: tuple[Literal["train", "valid", "test"], ...] = Field(default=("train", "valid", "test"), min_length=1)
    age: Literal["real", "apparent"] = "real"


class MegaAgeAsianSource(SourceBase):
    """MegaAge-Asian: ``list/{train,test}_{name,age}.txt`` beside ``train/`` and ``test/``; knows no gender."""

    type: Literal["megaage_asian"]
    subsets: tuple[Literal["train", "test"], ...] = Field(default=("train", "test"), min_length=1)


class CelebASource(SourceBase):
    """CelebA: ``list_attr_celeba.txt``, ``identity_CelebA.txt`` and ``img_align_celeba/``; knows no age."""

    type: Literal["celeba"]
    subsets: tuple[Literal["train", "val", "test"], ...] = Field(default=("train", "val", "test"), min_length=1)


class ImdbWikiSource(SourceBase):
    """IMDB-WIKI: ``imdb.mat`` or ``wiki.mat``, and the images that it names; ages are computed and noisy."""

    type: Literal["imdb_wiki"]
    min_face_score: float | None = None
    """Of the detector that made the set, about 1 to 7; faces scored lower are rejected."""


class LfwSource(SourceBase):
    """LFW: ``First_Last/First_Last_0001.jpg``; knows nothing but who it is."""

    type: Literal["lfw"]


class MaskedFaceNetSource(SourceBase):
    """MaskedFace-Net: ``{number}_Mask….jpg`` at any depth; knows how the drawn mask is worn."""

    type: Literal["maskedface_net"]


class RmfdSource(SourceBase):
    """RMFD: ``AFDB_masked_face_dataset/<person>/`` and ``AFDB_face_dataset/<person>/``."""

    type: Literal["rmfd"]


Source = Annotated[
    DrawnSource
    | FolderSource
    | CsvSource
    | UtkFaceSource
    | MaskBaseSource
    | FairFaceSource
    | AfadSource
    | AllAgeFacesSource
    | AppaRealSource
    | MegaAgeAsianSource
    | CelebASource
    | ImdbWikiSource
    | LfwSource
    | MaskedFaceNetSource
    | RmfdSource,
    Field(discriminator="type"),
]
