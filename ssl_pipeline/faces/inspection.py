"""Summaries of a source for people: known values, sample faces."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl_pipeline.faces.sampling import stratified_sample
from ssl_pipeline.labels import LabelSpace


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
    num_people = faces.loc[faces["has_person"], "person_id"].nunique()
    summaries["person_id"] = ColumnSummary(int(faces["has_person"].sum()), {"people": num_people} if num_people else {})
    return summaries


def sample_faces(faces: pd.DataFrame, labels: LabelSpace, *, size: int, seed: int) -> pd.DataFrame:
    """Sample faces of a source, stratified by the combination of known values, sorted by image_id."""
    strata = labels.known_combinations(labels.encode(faces))
    return faces.iloc[stratified_sample(strata, size=size, rng=np.random.default_rng(seed))]
