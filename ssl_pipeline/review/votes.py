"""Answers during a review: saved at once, read as others append them, and the state of every label.

Shapes: N faces.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import BoolArray
from ssl_pipeline.review.faces import ReviewFaces
from ssl_pipeline.runs.answers import Answer, Verdict, append_answers, read_new_answers, verdicts

STATES = ("open", "labeled", "rejected", "disputed", "unsure")
"""What the votes on a label say together; ``open``: nobody has answered."""


class Votes:
    """All answers of a file about the faces of a review. Methods may be called by several threads."""

    def __init__(self, path: Path, faces: ReviewFaces, *, only_queue: str | None = None) -> None:
        """Read the file.

        Args:
            path: of the answers; it need not exist.
            faces: N faces.
            only_queue: count answers that were given in this queue only, e.g. in an audit.
        """
        self._path, self._faces, self._only_queue = path, faces, only_queue
        self._lock = threading.RLock()
        self._ids: set[str] = set()
        self._answers: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._rows: dict[str, list[int]] = {}
        self._reviewed: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._changes: list[tuple[str, str]] = []
        self._read_to = 0
        self.states: dict[str, npt.NDArray[np.int8]] = {
            name: np.zeros(len(faces), np.int8) for name in faces.manifest.labels.names
        }
        """Per attribute, int8 [N], of `STATES`."""
        self.refresh()

    @property
    def version(self) -> int:
        """Counts the changes of labels; it never falls."""
        return len(self._changes)

    def refresh(self) -> None:
        """Read what was appended to the file since, by this process or by another."""
        with self._lock:
            answers, self._read_to = read_new_answers(self._path, self._read_to)
            self._apply(answers)

    def save(self, answers: Sequence[Answer]) -> None:
        """Append answers to the file, but for those that it has; they are on the disk when this returns.

        Raises:
            RunError: if the disk is full.
        """
        with self._lock:
            if new := [answer for answer in answers if answer.id not in self._ids]:
                append_answers(self._path, new)
            self.refresh()

    def verdict(self, row: int, attribute: str) -> Verdict | None:
        """Return what the votes on a label say; None if nobody has answered."""
        with self._lock:
            return self._verdicts.get((self._faces.content_hashes[row].as_py(), attribute))

    def answer_of(self, row: int, attribute: str, reviewer: str) -> Answer | None:
        """Return a reviewer's current answer on a label."""
        verdict = self.verdict(row, attribute)
        votes = verdict.votes if verdict is not None else ()
        return next((vote for vote in votes if vote.reviewer == reviewer), None)

    def answered_by(self, reviewer: str, attribute: str) -> BoolArray:
        """Mark the labels of an attribute that a reviewer has answered, bool [N]."""
        marked = np.zeros(len(self._faces), bool)
        with self._lock:
            for content_hash, name in self._reviewed[reviewer]:
                if name == attribute:
                    marked[self._rows[content_hash]] = True
        return marked

    def changes_since(self, version: int) -> list[tuple[int, str]]:
        """Return the labels that changed after a version, ``(row, attribute)``."""
        with self._lock:
            changed = dict.fromkeys(self._changes[max(version, 0) :])
            return [(row, name) for content_hash, name in changed for row in self._rows[content_hash]]

    def agreement(self) -> tuple[int, int]:
        """Compare reviewers on the labels that two or more answered, unsure ones aside.

        Returns:
            The number of pairs of answers, and how many of them are equal.
        """
        num_pairs = num_equal = 0
        with self._lock:
            current = list(self._verdicts.values())
        for verdict in current:
            values = [vote.value for vote in verdict.votes if vote.decision != "unsure"]
            num_pairs += len(values) * (len(values) - 1) // 2
            num_equal += sum(values.count(value) * (values.count(value) - 1) // 2 for value in set(values))
        return num_pairs, num_equal

    def _apply(self, answers: Iterable[Answer]) -> None:
        counted = []
        for answer in answers:
            if answer.id in self._ids:
                continue
            self._ids.add(answer.id)
            if answer.attribute in self.states and self._only_queue in (None, answer.queue):
                counted.append(answer)
        for content_hash in {answer.content_hash for answer in counted} - self._rows.keys():
            self._rows[content_hash] = self._faces.rows_with(content_hash)
        for answer in counted:
            self._answers[answer.label].append(answer)
        for label in dict.fromkeys(answer.label for answer in counted):
            self._judge(label)

    def _judge(self, label: tuple[str, str]) -> None:
        verdict = verdicts(self._answers[label]).get(label)
        for answer in self._answers[label]:
            self._reviewed[answer.reviewer].discard(label)
        if verdict is None:
            self._verdicts.pop(label, None)
        else:
            self._verdicts[label] = verdict
            for vote in verdict.votes:
                self._reviewed[vote.reviewer].add(label)
        self.states[label[1]][self._rows[label[0]]] = STATES.index(verdict.state if verdict else "open")
        self._changes.append(label)
