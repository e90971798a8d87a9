"""What the review page shows of a face: its labels for lists, and all that stands behind a decision."""

from dataclasses import replace
from typing import Any

import numpy as np

from ssl_pipeline.pseudo_labels.explanation import explain
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema, table_of
from ssl_pipeline.review.faces import STATUSES, ReviewFaces
from ssl_pipeline.review.queues import ANY, Queue
from ssl_pipeline.review.votes import Votes


class Shown:
    """What may be shown to a reviewer: in an audit, the guess and the votes of others only after the own answer."""

    def __init__(self, queue: Queue, faces: ReviewFaces, votes: Votes) -> None:
        self._queue, self._faces, self._votes = queue, faces, votes
        self._labels = faces.manifest.labels

    def is_hidden(self, row: int, attribute: str, reviewer: str) -> bool:
        """Return whether the guess of a label is hidden from a reviewer."""
        return self._queue.is_audit and self._votes.answer_of(row, attribute, reviewer) is None

    def item(self, item: int, reviewer: str) -> dict[str, Any]:
        """Describe an item of the queue for a list, JSON-able."""
        row, position = int(self._queue.rows[item]), int(self._queue.attributes[item])
        return {
            "item": item,
            "row": row,
            "id": self._faces.image_ids[row].as_py(),
            "attribute": None if position == ANY else self._labels.names[position],
            "why": self._queue.reasons[item] if self._queue.reasons else "",
            "labels": {name: self.label(row, name, reviewer) for name in self._labels.names},
        }

    def label(self, row: int, attribute: str, reviewer: str) -> dict[str, Any]:
        """Describe a label, JSON-able.

        Returns:
            ``guess`` and ``confidence`` (None where hidden or known), ``status``, ``state`` of the votes, the ``value``
            that they agree on, ``mine``: the reviewer's decision and value, None without one, and ``num_votes``.
        """
        position = self._labels.names.index(attribute)
        labels, verdict = self._faces.labels[position], self._votes.verdict(row, attribute)
        mine = self._votes.answer_of(row, attribute, reviewer)
        hidden = self._queue.is_audit and mine is None
        code, confidence = int(labels.codes[row]), float(labels.confidence[row])
        return {
            "hidden": hidden,
            "guess": None if hidden or code < 0 else self._labels.attributes[position].values[code],
            "confidence": None if hidden or np.isnan(confidence) else round(confidence, 4),
            "status": "hidden" if hidden else STATUSES[labels.status[row]],
            "state": "open" if verdict is None or hidden else verdict.state,
            "value": None if verdict is None or hidden else verdict.value,
            "mine": None if mine is None else {"decision": mine.decision, "value": mine.value},
            "num_votes": 0 if verdict is None else len(verdict.votes),
        }

    def face(self, row: int, reviewer: str) -> dict[str, Any]:
        """Describe a face in full, JSON-able: the numbers behind each label, and who answered what."""
        names, faces = self._labels.names, self._faces
        explained = self._explained(row) if row < faces.num_pool else {}
        labels = {}
        for position, name in enumerate(names):
            if self.is_hidden(row, name, reviewer):
                continue
            verdict = self._votes.verdict(row, name)
            reason = faces.labels[position].reason
            labels[name] = {
                "reason": reason.names[reason.codes[row]] if reason.codes[row] >= 0 else "",
                "words": _words(explained.get(name, {}).get("threshold")),
                "threshold": (explained.get(name, {}).get("threshold") or {}).get("threshold"),
                "probabilities": self._probabilities(row, position),
                "votes": [
                    {"reviewer": vote.reviewer, "decision": vote.decision, "value": vote.value, "time": vote.time}
                    for vote in (verdict.votes if verdict is not None else ())
                ],
            }
        return {
            "row": row,
            "id": faces.image_ids[row].as_py(),
            "source": _text(faces.source, row),
            "origin": _text(faces.origin, row),
            "labels": labels,
        }

    def _probabilities(self, row: int, position: int) -> list[tuple[str, float]]:
        """Return the values of an attribute of a guessed label with their probabilities."""
        if row >= self._faces.num_pool or self._faces.labels[position].status[row] == STATUSES.index("known"):
            return []
        probabilities = self._labels.attribute_probabilities(self._faces.probabilities[row : row + 1])[position][0]
        values = self._labels.attributes[position].values
        return [(value, round(float(number), 4)) for value, number in zip(values, probabilities, strict=True)]

    def _explained(self, row: int) -> dict[str, Any]:
        """Explain one row of the manifest, see `explanation.explain`: attribute → details."""
        faces, name_of = self._faces, self._labels.class_name
        columns: dict[str, Any] = {"image_id": [faces.image_ids[row].as_py()], "status": ["accepted"]}
        columns["class_name"] = [name_of(int(faces.class_ids[row]))]
        for attribute, labels in zip(self._labels.attributes, faces.labels, strict=True):
            columns[attribute.name] = [attribute.values[labels.codes[row]]]
            columns[f"{attribute.name}_status"] = [STATUSES[labels.status[row]]]
        table = table_of(columns, 1, manifest_schema(self._labels))
        attributes: dict[str, Any] = explain(replace(faces.manifest, table=table), columns["image_id"][0])[0][
            "attributes"
        ]
        return attributes


def _words(threshold: dict[str, Any] | None) -> str:
    """Say how often labels above a threshold were right on held-out faces."""
    if not threshold or threshold["num_held_out"] is None:
        return ""
    right = f"{threshold['num_correct']:,} of {threshold['num_held_out']:,}"
    words = f"On held-out faces, {right} labels '{threshold['value']}' above its threshold were right"
    if threshold["lower_bound"] is not None:
        bound, sureness = 100 * threshold["lower_bound"], 100 * threshold["bound_confidence"]
        words += f": at least {bound:.0f}\u00a0%, with {sureness:.0f}\u00a0% confidence"
    return f"{words}."


def _text(category: Any, row: int) -> str:
    code = int(category.codes[row])
    return str(category.names[code]) if code >= 0 else ""
