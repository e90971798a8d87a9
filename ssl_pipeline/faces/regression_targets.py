"""The numbers behind attributes that are ranges of one, as age in years behind its ranges."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.labels import FloatArray


@dataclass(frozen=True)
class RegressionTargets:
    """The true numbers of faces, and what number each value of the attribute stands for."""

    truth: FloatArray
    """float [N], NaN where it is not known."""
    of_value: FloatArray
    """float [V], NaN where it is not known."""


def regression_targets(
    faces: pd.DataFrame, labels: LabelsConfig, *, train: pd.DataFrame
) -> dict[str, RegressionTargets]:
    """Take faces' numbers, and let each value stand for the mean number of its training faces.

    Args:
        faces: N rows of a face table.
        labels: the config's section; an attribute counts if its `from_column` is a column of the tables.
        train: the face table's rows that a model learns from.

    Returns:
        By the attribute's name.
    """
    known = {}
    for attribute in labels.attributes:
        column = attribute.from_column
        if column is not None and column in faces and column in train:
            numbers = train[column].astype("Float64").groupby(train[attribute.name].astype(object)).mean()
            of_value = numbers.reindex(list(attribute.values)).to_numpy(np.float64, na_value=np.nan)
            known[attribute.name] = RegressionTargets(faces[column].to_numpy(np.float64, na_value=np.nan), of_value)
    return known
