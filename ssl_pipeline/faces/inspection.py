"""What a source came to, counted for a person to read, and a few of its faces to look at."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl_pipeline.faces.sampling import stratified_sample
from ssl_pipeline.faces.sources.reading import SourceFaces
from ssl_pipeline.labels import LabelSpace

# What differs from row to row in a reason: where it stands, what was got, which path.
_PLACES = re.compile(r"^(\S+ )?(row|line|entry) [0-9]+: ")
_PARTICULARS = re.compile(r"(?<=got )'.*'|(?<=got )\[.*\]|(?<=no such file ).*|^'.*'(?= lies outside)")


@dataclass(frozen=True)
class ColumnSummary:
    """How many faces know a column, and how many have each value; ages as their range."""

    num_known: int
    values: dict[str, int]


def summarize_columns(faces: pd.DataFrame, labels: LabelSpace) -> dict[str, ColumnSummary]:
    """Count what is known of a source's faces: of each attribute, of the age in years, the origin and the person."""
    known = {}
    for attribute in labels.attributes:
        counts = faces[attribute.name].value_counts()
        known[attribute.name] = ColumnSummary(
            int(counts.sum()), {value: int(counts.get(value, 0)) for value in attribute.values}
        )
    ages = faces["age_years"].dropna()
    spans = {f"{ages.min():g} … {ages.max():g}, median {ages.median():g}": len(ages)} if len(ages) else {}
    known["age_years"] = ColumnSummary(len(ages), spans)
    origins = faces["origin"].value_counts()
    known["origin"] = ColumnSummary(int(origins.sum()), {str(value): int(number) for value, number in origins.items()})
    named = faces["person_id"] != faces["image_id"]
    people = faces.loc[named, "person_id"].nunique()
    known["person_id"] = ColumnSummary(int(named.sum()), {"people": people} if people else {})
    return known


def count_reasons(reasons: Sequence[str]) -> Counter[str]:
    """Count reasons by kind: what differs from row to row becomes ``…``.

    >>> count_reasons(["row 2: column 'age': expected a number, got 'x'", "row 9: column 'age': expected a number, got 'y'"])
    Counter({"column 'age': expected a number, got …": 2})
    """
    return Counter(_PARTICULARS.sub("…", _PLACES.sub("", reason)) for reason in reasons)


def sample_faces(found: SourceFaces, labels: LabelSpace, *, size: int, seed: int) -> pd.DataFrame:
    """Draw a few faces of a source, every combination of known values in proportion, by image_id."""
    strata = labels.known_combinations(labels.encode(found.faces))
    return found.faces.iloc[stratified_sample(strata, size=size, rng=np.random.default_rng(seed))]
