"""Config section `labels`: the attributes, their values, and the bins of numeric columns."""

import unicodedata
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ssl_pipeline.config.base import ATTRIBUTE_NAME, Section
from ssl_pipeline.labels import LabelSpace

Identifier = Annotated[str, Field(pattern=ATTRIBUTE_NAME)]


def _clean(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip()  # as the values of a source are read


Value = Annotated[str, AfterValidator(_clean)]

# Columns of the face table, the manifest and the training table; reports list `joint` next to the attributes.
RESERVED_NAMES = frozenset(
    [
        "image_id",
        "image_path",
        "content_hash",
        "person_id",
        "source",
        "split",
        "age_years",
        "age_range",
        "min_age_years",
        "max_age_years",
        "origin",
        "derived",
        "pixel_row",
        "round",
        "status",
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
    """An attribute; its values may be bins of a numeric column, e.g. of age in years."""

    name: Identifier
    values: tuple[Value, ...] = Field(min_length=2)
    from_column: str | None = None
    """Numeric column whose bins are the values, e.g. age_years."""
    bin_edges: tuple[float, ...] = ()
    """Ascending; value i is the bin from edge i - 1 (included) to edge i (excluded)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"the name '{self.name}' is reserved for a column of the tables; choose another name")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"values must differ from each other, got {list(self.values)}")
        if (self.from_column is None) != (not self.bin_edges):
            raise ValueError("from_column and bin_edges belong together: give both or neither")
        if self.bin_edges and len(self.bin_edges) != len(self.values) - 1:
            raise ValueError(
                f"{len(self.values)} values need {len(self.values) - 1} bin_edges, got {len(self.bin_edges)}"
            )
        if list(self.bin_edges) != sorted(set(self.bin_edges)):
            raise ValueError(
                f"bin_edges must ascend, got {list(self.bin_edges)}; --set 'bin_edges={sorted(set(self.bin_edges))}'"
            )
        return self


class LabelsConfig(Section):
    """The attributes; a class is one combination of their values."""

    attributes: tuple[AttributeConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) != len(names):
            raise ValueError(f"attribute names must differ from each other, got {names}")
        if self.space.num_classes > MAX_CLASSES:
            raise ValueError(
                f"the attributes span {self.space.num_classes:,} classes; at most {MAX_CLASSES:,} are supported"
            )
        return self

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that a source may give."""
        columns = ["person_id", "age_years", "age_range", "origin"]
        for attribute in self.attributes:
            columns += [attribute.name, *([attribute.from_column] if attribute.from_column else [])]
        return tuple(dict.fromkeys(columns))

    @property
    def made_from_age(self) -> tuple[AttributeConfig, ...]:
        """The attributes whose values are bins of age_years."""
        return tuple(attribute for attribute in self.attributes if attribute.from_column == "age_years")

    @property
    def space(self) -> LabelSpace:
        """The label space of these attributes."""
        return LabelSpace.of({attribute.name: attribute.values for attribute in self.attributes})
