"""Config section `faces`: sources, splits, cropping, near-duplicates, corrections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ssl_pipeline.config.base import Section, as_tuple
from ssl_pipeline.config.cropping import CroppingConfig, CropRules, FaceCrop, FaceSettings, NoCrop
from ssl_pipeline.config.sources import Source

Role = Literal["labeled", "test", "unlabeled"]


class LabeledConfig(Section):
    """The labeled faces. The test split is taken first, then `limit` faces for training and validation together."""

    sources: tuple[Source, ...] = Field(min_length=1)
    test_sources: tuple[Source, ...] = ()
    """Sources of the test split, instead of `test_fraction`."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the faces that remain after the test split, `limit` and `guarantee_fraction`."""
    guarantee_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the faces that remain after the test split and `limit`: kept to test a precision guarantee. They train
    nothing and choose nothing, neither epochs nor temperatures nor promotions."""
    limit: int | None = Field(default=None, ge=2)
    drop_near_bin_edges: Annotated[float, Field(gt=0)] | None = None
    """Years: exclude training faces whose age is within this distance of a bin edge of an attribute made from age_years."""
    drop_side: Literal["both", "below", "above"] = "both"
    """Side of the bin edge that `drop_near_bin_edges` excludes: e.g. for 3 years and an edge at 60, 57…59, 60…62 or both."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.drop_side != "both" and self.drop_near_bin_edges is None:
            raise ValueError(
                f"drop_side {self.drop_side} has no effect without drop_near_bin_edges: give the years too, or "
                "--set drop_side=both"
            )
        if bool(self.test_sources) == (self.test_fraction is not None):
            cure = "--set test_fraction=null" if self.test_sources else "--set test_fraction=0.2"
            raise ValueError(
                f"the test split comes from test_fraction or from test_sources: give exactly one of them, e.g. {cure}"
            )
        return self


class UnlabeledConfig(Section):
    """The pool to be pseudo-labeled."""

    sources: tuple[Source, ...] = Field(min_length=1)
    hide_labels: bool | dict[str, tuple[str, ...]] = False
    """Hide the sources' labels from the pipeline: all, or {source: [attributes]}. They are only used to report precision."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source.name or source.type for source in self.sources]
        if isinstance(self.hide_labels, dict) and (unknown := [name for name in self.hide_labels if name not in names]):
            raise ValueError(f"hide_labels: no source {unknown} in the pool; its sources: {', '.join(names)}")
        return self

    def hidden_of(self, source: Source, attributes: Sequence[str]) -> Sequence[str]:
        """Return the hidden attributes of a source."""
        if isinstance(self.hide_labels, dict):
            return self.hide_labels.get(source.name or source.type, ())
        return attributes if self.hide_labels else ()


class NearDuplicatesConfig(Section):
    """Keep near-identical pictures on the same side of every split, and labeled ones out of the pool."""

    max_distance: int = Field(default=12, ge=0, le=32)
    """Maximum Hamming distance between two 256-bit perceptual hashes; see `faces.near_duplicates`."""


class FacesConfig(Section):
    """Where the faces come from, and their size as input of every model of the run."""

    root: Path = Path("data/raw")
    """Folder that the sources' paths are relative to."""
    image_size: int = Field(default=64, ge=16, le=1024)
    """Side in pixels."""
    cropping: CroppingConfig | None = None
    """None takes the centered square of each picture."""
    labeled: LabeledConfig
    unlabeled: UnlabeledConfig
    near_duplicates: NearDuplicatesConfig | None = NearDuplicatesConfig()
    """None treats only files with identical bytes as the same picture."""
    corrections: Annotated[tuple[Path, ...], BeforeValidator(as_tuple)] = ()
    """CSV tables of corrected labels, relative to `root`; format: `faces.sources.corrections`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source.name or source.type for source in self.all_sources]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            keys = [
                f"{key}.{position}"
                for key, sources in (
                    ("labeled.sources", self.labeled.sources),
                    ("labeled.test_sources", self.labeled.test_sources),
                    ("unlabeled.sources", self.unlabeled.sources),
                )
                for position in range(len(sources))
            ]
            last = max(position for position, name in enumerate(names) if name in duplicates)
            raise ValueError(
                f"sources need different names, since image ids begin with them; used twice: {duplicates}; "
                f"--set {keys[last]}.name={names[last]}-{last + 1}"
            )
        if self.near_duplicates is not None and self.image_size < 17:
            raise ValueError(
                f"near_duplicates need an image_size of at least 17 pixels, got {self.image_size}; "
                "--set near_duplicates=null or --set image_size=17"
            )
        for name, source in zip(names, self.all_sources, strict=True):
            if self.cropping is None and isinstance(source.cropping, FaceCrop):
                raise ValueError(f"source '{name}' sets cropping, which needs the model of faces.cropping.model")
        return self

    @property
    def crop_rules(self) -> CropRules | None:
        """How the run's faces are cropped: as all cropped labeled sources are, else by `cropping`; None if none is."""
        if self.cropping is None:
            return None
        settings = [source.cropping or self.cropping for role, source in self.roles if role == "labeled"]
        fields = list(FaceSettings.model_fields)
        rules = [own.model_dump(include=set(fields)) for own in settings if not isinstance(own, NoCrop)]
        agreed = (
            rules[0]
            if rules and all(own == rules[0] for own in rules)
            else self.cropping.model_dump(include=set(fields))
        )
        return CropRules(**agreed, detection_sides=self.cropping.detection_sides)

    @property
    def correction_paths(self) -> tuple[Path, ...]:
        """Paths of the corrections."""
        return tuple(self.root / path for path in self.corrections)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Every source: labeled, test, unlabeled."""
        return tuple(source for _, source in self.roles)

    @property
    def roles(self) -> tuple[tuple[Role, Source], ...]:
        """Every source with its role."""
        by_role: dict[Role, tuple[Source, ...]] = {
            "labeled": self.labeled.sources,
            "test": self.labeled.test_sources,
            "unlabeled": self.unlabeled.sources,
        }
        return tuple((role, source) for role, sources in by_role.items() for source in sources)
