"""People's answers about the labels of a run's faces: which of them train a student, and which do not and why."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.answered import LEFT_OUT, AnsweredLabels, answered_codes, human_codes
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.runs.answers import Label, Verdict, faults_of, read_answers, verdicts
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of

logger = logging.getLogger(__name__)

JUDGES = "on faces of the validation, guarantee or test split, which judge the models"
ABSENT = "on faces that are not in this run"
MISFIT = "with an attribute or a value that this run does not have"


@dataclass(frozen=True)
class RunAnswers:
    """The answers that change what a student of a run is trained on; answers that confirm a known label do not."""

    pool: AnsweredLabels = field(default_factory=dict)
    """On faces of the pool; with one of them, a guess is no longer used."""
    train: AnsweredLabels = field(default_factory=dict)
    """On labeled training faces, in place of their labels."""
    unused: Mapping[str, int] = field(default_factory=dict)
    """Why answers are not used → number of labels."""

    @classmethod
    def read(cls, config: RunConfig, run: RunDir) -> Self:
        """Read the answers of a run, by content of its faces; without any, its faces are not read.

        Raises:
            FaceTableError: if the faces are not prepared.
        """
        found = {label: verdict for label, verdict in verdicts(read_answers(run.answers)).items() if _decides(verdict)}
        if not found:
            return cls()
        space = config.labels.space
        fitting = {
            label: verdict for label, verdict in found.items() if not any(faults_of(v, space) for v in verdict.votes)
        }
        answered = _by_face(fitting)
        pool, labeled = (read_faces(run.faces / f"{name}.parquet") for name in ("unlabeled", "labeled"))
        train = labeled[labeled["split"] == "train"]
        places = {
            "used": set(pool["content_hash"]) | set(train["content_hash"]),
            "judges": set(labeled["content_hash"]),
        }
        unused = Counter(
            JUDGES if content in places["judges"] else ABSENT for content, _ in fitting if content not in places["used"]
        )
        unused[MISFIT] = len(found) - len(fitting)
        return cls(
            pool=_changes(pool, answered, space, guessed=True),
            train=_changes(train, answered, space, guessed=False),
            unused={reason: number for reason, number in unused.items() if number},
        )

    @property
    def without_pool(self) -> "RunAnswers":
        """Those that train a control, which learns nothing from the pool."""
        return RunAnswers(train=self.train)

    @property
    def labels(self) -> AnsweredLabels:
        """All of them; no face of the pool has the content of a labeled one."""
        return {**self.train, **self.pool}

    @property
    def digest(self) -> str | None:
        """What a training depends on; None without answers, also if all were undone."""
        return digest_of([self.pool, self.train]) if self.labels else None

    @property
    def counts(self) -> dict[str, int]:
        """Number of ``faces``; of labels ``labeled`` in the pool, ``corrected`` in the training split, and ``left_out``."""
        pool, train = ([value for face in part.values() for value in face.values()] for part in (self.pool, self.train))
        return {
            "faces": len(self.labels),
            "labeled": len(pool) - pool.count(None),
            "corrected": len(train) - train.count(None),
            "left_out": pool.count(None) + train.count(None),
        }

    def warn_of_unused(self, run: RunDir) -> None:
        """Log how many answers are not used, why, and what uses them."""
        if self.unused:
            logger.warning(
                "%s: answers about %d labels are not used: %s; to correct these labels, too: "
                "`ssl-pipeline answers export %s --out corrections.csv`, and corrections.csv in faces.corrections",
                run.answers,
                sum(self.unused.values()),
                ", ".join(f"{number:,} {reason}" for reason, number in self.unused.items()),
                run.root,
            )


def _decides(verdict: Verdict) -> bool:
    return verdict.state != "unsure"


def _by_face(found: Mapping[Label, Verdict]) -> AnsweredLabels:
    """Group by face; a rejected or disputed label is left out."""
    answered: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    for (content, attribute), verdict in found.items():
        answered[content][attribute] = verdict.value
    return answered


def _changes(faces: pd.DataFrame, answered: AnsweredLabels, labels: LabelSpace, *, guessed: bool) -> AnsweredLabels:
    """Select the answers that change a label of these faces, sorted; with `guessed`, leaving out an unknown one does."""
    faces = faces[faces["content_hash"].isin(list(answered))]
    codes, answers = labels.encode(faces), answered_codes(faces, answered, labels)
    changes = human_codes(codes, answers) != codes
    if guessed:
        changes |= answers == LEFT_OUT
    selected: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    hashes = faces["content_hash"].to_numpy(object)
    for row, position in np.argwhere(changes & (answers != UNKNOWN)).tolist():
        selected[hashes[row]][labels.names[position]] = answered[hashes[row]][labels.names[position]]
    return {content: dict(sorted(selected[content].items())) for content in sorted(selected)}
