"""Regression targets: the numbers behind attributes that are bins of a number, e.g. age in years."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.labels import FloatArray


@dataclass(frozen=True)
class RegressionTargets:
    """True numbers of faces, and the number that represents each value of the attribute."""

    truth: FloatArray
    """float [N], NaN if unknown."""
    of_value: FloatArray
    """float [V], mean over the value's training faces; NaN if unknown."""


def regression_targets(
    faces: pd.DataFrame, labels: LabelsConfig, *, train: pd.DataFrame
) -> dict[str, RegressionTargets]:
    """Collect the numbers of faces and the mean number of each value's training faces.

    Args:
        faces: N rows of a face table.
        labels: the attributes; those with a `from_column` in both tables are included.
        train: training rows of the face table.

    Returns:
        {attribute: its targets}.
    """
    targets = {}
    for attribute in labels.attributes:
        column = attribute.from_column
        if column is not None and column in faces and column in train:
            means = train[column].astype("Float64").groupby(train[attribute.name].astype(object)).mean()
            of_value = means.reindex(list(attribute.values)).to_numpy(np.float64, na_value=np.nan)
            targets[attribute.name] = RegressionTargets(faces[column].to_numpy(np.float64, na_value=np.nan), of_value)
    return targets
