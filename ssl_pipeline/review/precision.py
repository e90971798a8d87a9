"""Precision of accepted labels by the answers of an audit so far, with intervals."""

from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.review.faces import STATUSES, ReviewFaces
from ssl_pipeline.review.queues import Queue
from ssl_pipeline.review.votes import Votes

ANSWERS = {"labeled": "yes", "rejected": "no", "disputed": "unsure", "unsure": "unsure"}


def audit_precision(queue: Queue, faces: ReviewFaces, votes: Votes) -> list[dict[str, Any]]:
    """Estimate the precision of the accepted labels from the answers of an audit, see `audit.estimate_precision`.

    A label is right if the votes agree on its value, wrong if on another or on none; disputed ones count as unsure.

    Args:
        queue: an audit.
        faces: the faces.
        votes: of this queue only.

    Returns:
        JSON-able: name ('all labels' or an attribute), num_answered, num_sampled, precision (None without a judged
        label), lower, upper. 'all labels' is left out if one attribute is audited.
    """
    from ssl_pipeline.pseudo_labels.audit import estimate_precision

    assert queue.sample is not None
    sample = queue.sample.assign(answer=_answers(queue, faces, votes))
    strata = []
    for (attribute, value), rows in sample.groupby(["attribute", "value"], sort=False):
        answered = rows[rows["answer"] != ""]
        counts = {answer: int((rows["answer"] == answer).sum()) for answer in ("yes", "no", "unsure")}
        size = _num_accepted(faces, str(attribute), str(value))
        num_units = answered["unit"].nunique()
        strata.append({"attribute": attribute, "num": len(rows), "size": size, "num_units": num_units, **counts})
    table = pd.DataFrame(strata)
    groups = list(table.groupby("attribute", sort=False))
    if len(groups) > 1:
        groups = [("all labels", table), *groups]
    estimates = []
    for name, rows in groups:
        estimate = estimate_precision(rows)
        num_answered = int(rows[["yes", "no", "unsure"]].to_numpy().sum())
        numbers = {"precision": estimate.precision, "lower": estimate.lower, "upper": estimate.upper}
        estimates.append(
            {"name": str(name), "num_answered": num_answered, "num_sampled": int(rows["num"].sum()), **numbers}
        )
    return estimates


def _answers(queue: Queue, faces: ReviewFaces, votes: Votes) -> list[str]:
    assert queue.sample is not None
    names, answers = faces.manifest.labels.names, []
    for row, attribute, value in zip(queue.rows, queue.attributes, queue.sample["value"], strict=True):
        verdict = votes.verdict(int(row), names[attribute])
        answer = ANSWERS[verdict.state] if verdict is not None else ""
        answers.append(
            "no" if verdict is not None and verdict.state == "labeled" and verdict.value != value else answer
        )
    return answers


def _num_accepted(faces: ReviewFaces, attribute: str, value: str) -> int:
    position = faces.manifest.labels.names.index(attribute)
    labels = faces.labels[position]
    code = faces.manifest.labels.attributes[position].values.index(value)
    return int(np.count_nonzero((labels.codes == code) & (labels.status == STATUSES.index("accepted"))))
