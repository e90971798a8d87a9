"""Config sections for sources of faces; docs/face-sets.md describes the folder of each set."""

import codecs
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ssl_pipeline.config.base import SOURCE_NAME, Section
from ssl_pipeline.config.cropping import SourceCropping


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(f"unknown encoding '{name}'; e.g. utf-8, cp949, cp932, gb18030, cp1252") from None
    return name


UNUSED_LEVEL = "_"


class FilterConfig(Section):
    """Which faces of a source to take. A face of unknown origin or age does not pass a filter on it.

    If an age is known as a range, the whole range must pass.
    """

    origin: tuple[str, ...] | None = None
    min_age_years: float | None = None
    max_age_years: float | None = None
    min_side_pixels: int | None = Field(default=None, ge=1)


class SourceBase(Section):
    """Common keys of all sources: path, filter, names of columns and values."""

    name: Annotated[str, Field(pattern=SOURCE_NAME)] | None = None
    """Prefix of the image ids; default: the type."""
    path: Path
    """Folder, relative to faces.root; or an archive in its place (.zip, .tar), which is read without unpacking."""
    filter: FilterConfig = FilterConfig()
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of faces."""
    columns: dict[str, str] = Field(default_factory=dict)
    """{column here: column of the source}; other columns keep their names."""
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    """{column here: {value of the source: value here}}; other values keep their names."""
    cropping: SourceCropping | None = None
    """Replaces faces.cropping for this source; `type: none` is for pictures that are cropped already."""
    people: Annotated[str, Field(pattern=SOURCE_NAME)] | None = None
    """Sources with the same value here share their people: equal person ids (or, without person ids, equal files) are the
    same person. By default no source shares people."""
    derived: tuple[str, ...] = ()
    """Attributes that are known by construction, e.g. a drawn mask."""


class DrawnSource(SourceBase):
    """Synthetic faces, drawn into `path`: the same bytes for the same seed."""

    type: Literal["drawn"]
    population: Literal["home", "elsewhere"] = "home"
    num_people: int = Field(ge=1)
    images_per_person: int = Field(default=1, ge=1)
    size_pixels: int = Field(default=64, ge=16, le=1024)
    drawing_seed: int = Field(default=0, ge=0)


class FolderSource(SourceBase):
    """A folder of images at any depth, or an archive (zip, tar); `levels` are the columns given by its subfolders, e.g. ``<gender>/<age>/…``."""

    type: Literal["folder"]
    levels: tuple[str, ...] = ()
    """``_`` is a level that names nothing."""

    def level_faults(self, columns: Sequence[str]) -> Iterator[str]:
        """Yield a sentence for each level that is none of the columns that a source may give, and would be ignored."""
        used = [*columns, *self.columns.values(), UNUSED_LEVEL]
        for level in self.levels:
            if level not in used:
                similar = get_close_matches(level.casefold(), columns, n=1)
                guess = f"did you mean '{similar[0]}'? " if similar else ""
                yield (
                    f"source '{self.name or self.type}': level '{level}' would be ignored; {guess}expected one of "
                    f"{', '.join(columns)}, or {UNUSED_LEVEL} for folders that name nothing"
                )


class CsvSource(SourceBase):
    """A table inside `path`: CSV, Excel (xlsx) or Parquet, by its content; its image paths are relative to `path`.

    A Parquet table may hold the images themselves, as Hugging Face data sets do.
    """

    type: Literal["csv"]
    table: Path
    """With a ``*``, all tables that fit, e.g. ``data/train-*.parquet``; they need the same columns."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Of a CSV; None takes the comma, semicolon or tab that splits the header."""
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = None
    """Of a CSV, e.g. cp949; None takes UTF-8 (or UTF-16, if it begins with its mark)."""


class WebDatasetSource(SourceBase):
    """WebDataset: tar files, at any depth, with ``000001.jpg`` next to ``000001.json``, ``.cls`` or ``.txt``.

    The columns are the keys of the JSON files; ``cls`` and ``txt`` are the contents of the others.
    """

    type: Literal["webdataset"]


class UtkFaceSource(SourceBase):
    """UTKFace, aligned: ``{age}_{gender}_{race}_{time}.jpg.chip.jpg``."""

    type: Literal["utkface"]


class MaskBaseSource(SourceBase):
    """MaskBase: one folder per person, ``{id}_{gender}_{race}_{age}/``, with mask1…5, incorrect_mask and normal."""

    type: Literal["maskbase"]


class FairFaceSource(SourceBase):
    """FairFace: ``fairface_label_{train,val}.csv`` next to ``train/`` and ``val/``; ages are ranges."""

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
    """APPA-REAL: ``gt_avg_{train,valid,test}.csv`` next to ``train/``, ``valid/`` and ``test/``; without gender."""

    type: Literal["appa_real"]
    subsets: tuple[Literal["train", "valid", "test"], ...] = Field(default=("train", "valid", "test"), min_length=1)
    age: Literal["real", "apparent"] = "real"


class MegaAgeAsianSource(SourceBase):
    """MegaAge-Asian: ``list/{train,test}_{name,age}.txt`` next to ``train/`` and ``test/``; without gender."""

    type: Literal["megaage_asian"]
    subsets: tuple[Literal["train", "test"], ...] = Field(default=("train", "test"), min_length=1)


class CelebASource(SourceBase):
    """CelebA: ``list_attr_celeba.txt``, ``identity_CelebA.txt`` and ``img_align_celeba/``; without age."""

    type: Literal["celeba"]
    subsets: tuple[Literal["train", "val", "test"], ...] = Field(default=("train", "val", "test"), min_length=1)


class ImdbWikiSource(SourceBase):
    """IMDB-WIKI: ``imdb.mat`` or ``wiki.mat``, and the images that it lists; ages are computed and noisy."""

    type: Literal["imdb_wiki"]
    min_face_score: float | None = None
    """Minimum score of the set's own face detector, about 1 to 7."""


class LfwSource(SourceBase):
    """LFW: ``First_Last/First_Last_0001.jpg``; the person only."""

    type: Literal["lfw"]


class MaskedFaceNetSource(SourceBase):
    """MaskedFace-Net: ``{number}_Mask….jpg`` at any depth; with the wearing of the drawn mask."""

    type: Literal["maskedface_net"]


class RmfdSource(SourceBase):
    """RMFD: ``AFDB_masked_face_dataset/<person>/`` and ``AFDB_face_dataset/<person>/``."""

    type: Literal["rmfd"]


Source = Annotated[
    DrawnSource
    | FolderSource
    | CsvSource
    | WebDatasetSource
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
