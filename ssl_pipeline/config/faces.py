"""The config's section `faces`: sources, splits, cropping, near-duplicates, corrections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.cropping import CroppingConfig, FaceCrop
from ssl_pipeline.config.sources import Source

Role = Literal["labeled", "test", "unlabeled"]


class LabeledConfig(Section):
    """The labeled faces. The test split is taken first, then `limit` faces for training and validation together."""

    sources: tuple[Source, ...] = Field(min_length=1)
    test_sources: tuple[Source, ...] = ()
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    limit: int | None = Field(default=None, ge=2)
    drop_near_bin_edges: Annotated[float, Field(gt=0)] | None = None
    """Years: faces whose age lies so near to a border of an attribute made from age_years are left out of training."""
    drop_side: Literal["both", "below", "above"] = "both"
    """Which side of a border `drop_near_bin_edges` means: with 3 years and a border at 60, 57…59, 60…62 or both."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.drop_side != "both" and self.drop_near_bin_edges is None:
            raise ValueError(f"drop_side {self.drop_side} says nothing without drop_near_bin_edges: give the years too")
        if bool(self.test_sources) == (self.test_fraction is not None):
            raise ValueError("the test split comes from test_fraction or from test_sources: give exactly one of them")
        return self


class UnlabeledConfig(Section):
    """The pool to be pseudo-labeled."""

    sources: tuple[Source, ...] = Field(min_length=1)
    hide_labels: bool | dict[str, tuple[str, ...]] = False
    """Forget what the sources know, all of it or {source: [attributes]}; the truth is kept apart, to report precision."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source.name or source.type for source in self.sources]
        if isinstance(self.hide_labels, dict) and (strange := [name for name in self.hide_labels if name not in names]):
            raise ValueError(f"hide_labels: no source {strange} in the pool; its sources: {', '.join(names)}")
        return self

    def hidden_of(self, source: Source, attributes: Sequence[str]) -> Sequence[str]:
        """Name the attributes of a source that are hidden."""
        if isinstance(self.hide_labels, dict):
            return self.hide_labels.get(source.name or source.type, ())
        return attributes if self.hide_labels else ()


class NearDuplicatesConfig(Section):
    """Treat pictures that were saved twice as one: they stand on one side of every split, and never in the pool too."""

    max_distance: int = Field(default=12, ge=0, le=32)
    """Bits of 256 in which two perceptual hashes may differ; see `faces.near_duplicates`."""


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


class FacesConfig(Section):
    """Where the faces come from and the size in pixels at which every model of the run sees them."""

    root: Path = Path("data/raw")
    image_size: int = Field(default=64, ge=16, le=1024)
    cropping: CroppingConfig | None = None
    """Without it the centered square of each picture is taken."""
    labeled: LabeledConfig
    unlabeled: UnlabeledConfig
    near_duplicates: NearDuplicatesConfig | None = None
    """Without it only files of the same bytes are the same picture."""
    corrections: Annotated[tuple[Path, ...], BeforeValidator(_one_or_several)] = ()
    """CSV tables of labels to put right, relative to `root`; `faces.sources.corrections` says what they hold."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source.name or source.type for source in self.all_sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources need names of their own, since image ids begin with them; twice: {twice}")
        if self.near_duplicates is not None and self.image_size < 17:
            raise ValueError(f"near_duplicates need an image_size of at least 17 pixels, got {self.image_size}")
        for name, source in zip(names, self.all_sources, strict=True):
            if self.cropping is None and isinstance(source.cropping, FaceCrop):
                raise ValueError(f"source '{name}' has cropping of its own; name the model in faces.cropping.model")
        return self

    @property
    def correction_paths(self) -> tuple[Path, ...]:
        """Where the corrections lie."""
        return tuple(self.root / path for path in self.corrections)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Every source: labeled, test, unlabeled."""
        return tuple(source for _, source in self.roles)

    @property
    def roles(self) -> tuple[tuple[Role, Source], ...]:
        """Every source and what its faces are for."""
        by_role: dict[Role, tuple[Source, ...]] = {
            "labeled": self.labeled.sources,
            "test": self.labeled.test_sources,
            "unlabeled": self.unlabeled.sources,
        }
        return tuple((role, source) for role, sources in by_role.items() for source in sources)
