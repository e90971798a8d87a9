"""Answered labels: what people decided about labels, applied to face tables.

Shapes: N faces, A attributes.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.labels import UNKNOWN, IntArray, LabelSpace

AnsweredLabels = Mapping[str, Mapping[str, str | None]]
"""Content hash → attribute → the value that people decided; None: the label is left out."""

LEFT_OUT = -2


def answered_codes(faces: pd.DataFrame, answered: AnsweredLabels, labels: LabelSpace) -> IntArray:
    """Encode the answers about faces, found by their content.

    Args:
        faces: a face table, N rows.
        answered: labels of any faces.
        labels: the label space.

    Returns:
        Value codes, int [N, A]; `LEFT_OUT`, and -1 without an answer.
    """
    codes = np.full((len(faces), len(labels.attributes)), UNKNOWN, dtype=np.int64)
    hashes = faces["content_hash"].to_numpy(object)
    for row in np.flatnonzero(faces["content_hash"].isin(list(answered)).to_numpy(bool)) if answered else ():
        of_face = answered[hashes[row]]
        for position, attribute in enumerate(labels.attributes):
            if attribute.name in of_face:
                value = of_face[attribute.name]
                codes[row, position] = LEFT_OUT if value is None else attribute.values.index(value)
    return codes


def human_codes(codes: IntArray, answers: IntArray) -> IntArray:
    """Return the labels that people gave, int [N, A], -1 unknown: an answer replaces a known value.

    Args:
        codes: known values, int [N, A].
        answers: of `answered_codes`, int [N, A].
    """
    return np.where(answers == UNKNOWN, codes, np.maximum(answers, UNKNOWN))


def with_answers(faces: pd.DataFrame, answered: AnsweredLabels, labels: LabelsConfig) -> pd.DataFrame:
    """Copy a face table with the answered labels; an age that contradicts its answer becomes unknown."""
    if not answered:
        return faces
    space = labels.space
    answers = answered_codes(faces, answered, space)
    codes = human_codes(space.encode(faces), answers)
    decoded = space.decode(codes)
    changed = faces.assign(**{name: decoded[name].array for name in space.names})
    for attribute in labels.made_from_age:
        position = space.names.index(attribute.name)
        ages = changed["age_years"].to_numpy(np.float64, na_value=np.nan)
        bins = np.searchsorted(attribute.bin_edges, ages, side="right")
        contradicts = (answers[:, position] != UNKNOWN) & (bins != codes[:, position])
        changed["age_years"] = changed["age_years"].mask(contradicts)
    return changed
