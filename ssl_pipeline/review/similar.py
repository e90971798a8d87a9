"""Faces by their features: a map of points, and the nearest labeled faces of a face; computed in the background.

Shapes: M faces of the map, D features.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.labels import IntArray
from ssl_pipeline.review.faces import STATUSES, ReviewFaces
from ssl_pipeline.review.queues import Queue
from ssl_pipeline.runs.directory import RunDir, model_of

logger = logging.getLogger(__name__)

MAX_FACES = 5_000
"""Faces of the pool on the map: the queue's first, then evenly spread ones."""
NUM_NEAREST = 6


@dataclass(frozen=True)
class Similar:
    """Features of M faces."""

    rows: IntArray
    """int [M], of the review's faces, ascending."""
    points: npt.NDArray[np.float32]
    """float32 [M, 2], in [0, 1], see `projection.project`."""
    labeled: IntArray
    """int, positions of the labeled faces among the M."""
    neighbors: IntArray
    """int [M, ·], positions of the labeled faces with the most similar features, the nearest first."""

    def nearest(self, row: int) -> list[int] | None:
        """Return the rows of the nearest labeled faces; None if the face is not on the map."""
        position = int(np.searchsorted(self.rows, row))
        if position == len(self.rows) or self.rows[position] != row:
            return None
        return [int(self.rows[near]) for near in self.neighbors[position] if near != position][:NUM_NEAREST]


class SimilarFaces:
    """Computes `Similar` on request in a thread of its own, by the stage that keeps features in the run."""

    def __init__(self, run: RunDir, faces: ReviewFaces, queue: Queue, round_index: int) -> None:
        self._run, self._faces, self._round = run, faces, round_index
        self._rows = _chosen(faces, queue)
        self._thread: threading.Thread | None = None
        self.state: Literal["idle", "computing", "ready", "failed"] = "idle"
        self.error = ""
        self.result: Similar | None = None

    @property
    def num_faces(self) -> int:
        """M."""
        return len(self._rows)

    def start(self) -> None:
        """Begin to compute, unless begun."""
        if self.state in ("idle", "failed"):
            self.state = "computing"
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def start_if_kept(self) -> None:
        """Begin if the run's model has features of this or another map, so that reading or computing them is cheap."""
        if (self._model() / "face_features").is_dir():
            self.start()

    def _model(self) -> Any:
        student = self._run.student(self._round)
        if (student / "best.safetensors").is_file():
            return student
        return model_of(self._run.root).parent if self._run.summary.is_file() else self._run.teacher

    def _work(self) -> None:
        from ssl_pipeline.stages.face_features import face_features  # imports torch

        try:
            config = load_config(self._run.root / "config.yaml")
            features = face_features(config, self._run, self._model(), self._faces.pixel_rows[self._rows])
        except PipelineError as error:
            self.error, self.state = str(error), "failed"
            return
        except Exception as error:  # shown in the page; a thread's error would be lost
            logger.exception("features of the map")
            self.error, self.state = repr(error), "failed"
            return
        self.result = arrange(features, self._rows, self._faces)
        self.state = "ready"


def arrange(features: npt.NDArray[np.float32], rows: IntArray, faces: ReviewFaces) -> Similar:
    """Project features [M, D] of faces on the map, and find each one's nearest labeled faces."""
    from ssl_pipeline.evaluation.projection import nearest, project  # scikit-learn takes seconds

    points, _ = project(features)
    labeled = np.flatnonzero(faces.labels[0].status[rows] == STATUSES.index("labeled")).astype(np.int64)
    neighbors, _ = nearest(features, features[labeled], num=NUM_NEAREST + 1)  # a labeled face is its own first neighbor
    return Similar(rows, points, labeled, labeled[neighbors])


def _chosen(faces: ReviewFaces, queue: Queue) -> IntArray:
    """Choose the faces of the map: labeled ones, the queue's, and evenly spread ones of the pool."""
    chosen = np.zeros(len(faces), bool)
    chosen[np.unique(queue.rows)[:MAX_FACES] if len(queue) < len(faces) else []] = True
    num_left = max(0, MAX_FACES - int(chosen.sum()))
    chosen[np.unique(np.linspace(0, faces.num_pool - 1, min(num_left, faces.num_pool)).astype(np.int64))] = True
    chosen[faces.num_pool :] = True
    return np.flatnonzero(chosen)
