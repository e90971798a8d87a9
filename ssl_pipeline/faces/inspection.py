"""Summaries of a source for people: known values, rejection reasons, sample faces."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl_pipeline.faces.sampling import stratified_sample
from ssl_pipeline.faces.sources.reading import SourceFaces
from ssl_pipeline.labels import LabelSpace

# Parts of a reason that differ from row to row: location, value, path.
_LOCATIONS = re.compile(r"^(\S+ )?(row|line|entry) [0-9]+: ")
_DETAILS = re.compile(r"(?<=got )'.*'|(?<=got )\[.*\]|(?<=no such file ).*|^'.*'(?= lies outside)")


@dataclass(frozen=True)
class ColumnSummary:
    """Number of faces with a known value, and number of faces per value; for ages, their range."""

    num_known: int
    values: dict[str, int]


def summarize_columns(faces: pd.DataFrame, labels: LabelSpace) -> dict[str, ColumnSummary]:
    """Count the known values of each attribute, the age in years, the origin and the person."""
    summaries = {}
    for attribute in labels.attributes:
        counts = faces[attribute.name].value_counts()
        summaries[attribute.name] = ColumnSummary(
            int(counts.sum()), {value: int(counts.get(value, 0)) for value in attribute.values}
        )
    ages = faces["age_years"].dropna()
    age_range = {f"{ages.min():g} … {ages.max():g}, median {ages.median():g}": len(ages)} if len(ages) else {}
    summaries["age_years"] = ColumnSummary(len(ages), age_range)
    origins = faces["origin"].value_counts()
    summaries["origin"] = ColumnSummary(
        int(origins.sum()), {str(value): int(number) for value, number in origins.items()}
    )
    is_named = faces["person_id"] != faces["image_id"]
    num_people = faces.loc[is_named, "person_id"].nunique()
    summaries["person_id"] = ColumnSummary(int(is_named.sum()), {"people": num_people} if num_people else {})
    return summaries


def count_reasons(reasons: Sequence[str]) -> Counter[str]:
    """Count reasons by type; details that differ from row to row become ``…``.

    >>> count_reasons(["row 2: column 'a': expected a number, got 'x'", "row 9: column 'a': expected a number, got 'y'"])
    Counter({"column 'a': expected a number, got …": 2})
    """
    return Counter(_DETAILS.sub("…", _LOCATIONS.sub("", reason)) for reason in reasons)


def sample_faces(source_faces: SourceFaces, labels: LabelSpace, *, size: int, seed: int) -> pd.DataFrame:
    """Sample faces of a source, stratified by the combination of known values, sorted by image_id."""
    strata = labels.known_combinations(labels.encode(source_faces.faces))
    return source_faces.faces.iloc[stratified_sample(strata, size=size, rng=np.random.default_rng(seed))]
