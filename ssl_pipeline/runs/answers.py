"""Answers of people about the labels of faces: a file of votes, one JSON line each, and what they say together.

A label is one attribute of one face, and a face is known by its content, so that answers outlive a renamed file. A
reviewer has one vote a label, the last one; nobody overwrites another's. The file is only ever appended to.
"""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock
from pydantic import Field, ValidationError, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.disk import catch_disk_full

logger = logging.getLogger(__name__)

Label = tuple[str, str]
"""Content hash and attribute."""


class Answer(Section):
    """What one reviewer says of one label."""

    id: str = Field(pattern=r"^[0-9A-Za-z-]{8,64}$")
    """Chosen by the sender. An answer that is sent again has the same id and counts once."""
    image_id: str
    content_hash: str = Field(min_length=1)
    attribute: str
    decision: Literal["label", "reject", "unsure", "undo"]
    """``label``: the value is right. ``reject``: no value is, leave the label out. ``unsure``: set aside, no vote.
    ``undo``: take the reviewer's last answer on this label back."""
    value: str | None = None
    reviewer: str = Field(min_length=1, max_length=100)
    time: str
    """ISO 8601, UTC."""
    queue: str = ""
    """The queue in which the face was shown."""
    is_audit: bool = False
    """Whether the queue is a random sample, so that the answer counts for precision."""
    guess: str | None = None
    """The value that the manifest had, also where it was hidden until the answer."""
    confidence: float | None = None
    num_votes_seen: int = Field(default=0, ge=0)
    """Votes on this label that the page knew of."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.decision == "label") != (self.value is not None):
            raise ValueError("the decision 'label' needs a value; no other decision has one")
        return self

    @property
    def label(self) -> Label:
        """The label that the answer is about."""
        return self.content_hash, self.attribute


@dataclass(frozen=True)
class Verdict:
    """What the votes on one label say together.

    ``labeled``: a value has more votes than anything else. ``rejected``: so has the rejection. ``disputed``: neither, so
    the label is left out until another vote decides. ``unsure``: answered, without a vote.
    """

    image_id: str
    state: Literal["labeled", "rejected", "disputed", "unsure"]
    value: str | None
    """With ``labeled`` only."""
    votes: tuple[Answer, ...]
    """The current answer of each reviewer, by name; those who are unsure among them."""

    @property
    def words(self) -> str:
        """What it means for the next training, and who said what."""
        meaning = {
            "labeled": f"people say '{self.value}', a human label of the next training",
            "rejected": "people rejected it, so the next training leaves it out",
            "disputed": "people differ, so the next training leaves it out",
            "unsure": "people are unsure, which changes nothing",
        }
        votes = ", ".join(f"{vote.reviewer}: {vote.value or vote.decision}" for vote in self.votes)
        return f"{meaning[self.state]} ({votes})"


def append_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Append answers to a file and return when they are on the disk. Several processes may append at once.

    Raises:
        RunError: if the disk is full.
    """
    text = "".join(f"{json.dumps(answer.model_dump(), ensure_ascii=False)}\n" for answer in answers)
    with catch_disk_full(path), FileLock(path.with_name(f".{path.name}.lock")), open(path, "a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # the line of a process that was killed: end it
                text = f"\n{text}"
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_answers(path: Path) -> list[Answer]:
    """Read the answers of a file in their order, each once; without the file, none.

    Lines that are not an answer, e.g. the last one of a killed process, are left out with a warning.
    """
    answers: dict[str, Answer] = {}
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            answer = _parse(line, f"{path} line {number}")
            if answer is not None:
                answers.setdefault(answer.id, answer)
    return list(answers.values())


def read_new_answers(path: Path, start: int) -> tuple[list[Answer], int]:
    """Read the answers that begin at byte `start` or later, e.g. those that other processes appended since.

    Returns:
        The answers, which may repeat, and the byte where the next call starts: a line that is being written is read then.
    """
    if not path.is_file() or path.stat().st_size <= start:
        return [], start
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read()
    lines = content[: content.rfind(b"\n") + 1]
    parsed = [_parse(line, f"{path} after byte {start}") for line in lines.splitlines()]
    return [answer for answer in parsed if answer is not None], start + len(lines)


def _parse(line: bytes, where: str) -> Answer | None:
    """Read a line; None, with a warning, if it is not an answer, and None if it is empty."""
    if not line.strip():
        return None
    try:
        return Answer.model_validate_json(line)
    except ValidationError:
        logger.warning("%s: not a whole answer, left out", where)
        return None


def current_answers(answers: Iterable[Answer]) -> dict[Label, dict[str, Answer]]:
    """Return each reviewer's current answer on each label, ``{label: {reviewer: answer}}``."""
    given: defaultdict[Label, defaultdict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        stack = given[answer.label][answer.reviewer]
        if answer.decision != "undo":
            stack.append(answer)
        elif stack:
            stack.pop()
    current = {
        label: {reviewer: stack[-1] for reviewer, stack in sorted(of_label.items()) if stack}
        for label, of_label in given.items()
    }
    return {label: of_label for label, of_label in current.items() if of_label}


def verdicts(answers: Iterable[Answer]) -> dict[Label, Verdict]:
    """Return what the votes on each answered label say together."""
    return {label: _verdict(tuple(votes.values())) for label, votes in current_answers(answers).items()}


def _verdict(votes: tuple[Answer, ...]) -> Verdict:
    counts: defaultdict[str | None, int] = defaultdict(int)
    for vote in votes:
        if vote.decision != "unsure":
            counts[vote.value] += 1  # None: rejected
    image_id = votes[-1].image_id
    if not counts:
        return Verdict(image_id, "unsure", None, votes)
    most = max(counts.values())
    leading = [value for value, count in counts.items() if count == most]
    if len(leading) > 1:
        return Verdict(image_id, "disputed", None, votes)
    return Verdict(image_id, "rejected" if leading[0] is None else "labeled", leading[0], votes)


def faults_of(answer: Answer, labels: LabelSpace) -> str | None:
    """Return why an answer does not fit the labels; None if it does."""
    values = labels.to_dict().get(answer.attribute)
    if values is None:
        return f"'{answer.attribute}' is not an attribute {labels.names}"
    if answer.value is not None and answer.value not in values:
        return f"'{answer.value}' is not a value of '{answer.attribute}' {values}"
    return None
