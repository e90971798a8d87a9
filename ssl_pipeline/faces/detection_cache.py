"""SQLite cache of detected faces, keyed by the picture's content and the detector's identity.

One file serves any number of runs, sizes and settings: score, size and margin are applied after the lookup.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.detection import DetectedFace
from ssl_pipeline.runs.files import digest_of

_BATCH_SIZE, _TIMEOUT_SECONDS = 256, 60
_FORMAT = 1  # raise it when the rows or the results of `detection` change: older rows are then ignored

Detect = Callable[[npt.NDArray[np.uint8]], list[DetectedFace]]


class DetectionCache:
    """Faces by content hash. Safe for several threads and processes."""

    def __init__(self, connection: sqlite3.Connection, *, identity: Mapping[str, Any]) -> None:
        """See `open_cache`."""
        self._connection = connection
        self._identity = digest_of({"format": _FORMAT, **identity})
        self._lock = threading.Lock()
        self._unwritten: list[tuple[str, str, str]] = []

    def faces(
        self, content_hash: str, pixels: Callable[[], npt.NDArray[np.uint8]], detect: Detect
    ) -> list[DetectedFace]:
        """Return a picture's faces from the cache, or detect and store them.

        Args:
            content_hash: SHA-256 of the picture's file.
            pixels: returns uint8 [H, W, 3]; called only on a cache miss.
            detect: e.g. `detection.FaceDetector.detect`.
        """
        query = "SELECT faces FROM detections WHERE identity = ? AND content_hash = ?"
        with self._lock:
            row = self._connection.execute(query, (self._identity, content_hash)).fetchone()
        if row is not None:
            return _from_json(row[0])
        faces = detect(pixels())
        with self._lock:
            self._unwritten.append((self._identity, content_hash, _to_json(faces)))
            if len(self._unwritten) >= _BATCH_SIZE:
                self._write()
        return faces

    def flush(self) -> None:
        """Write the faces that are not yet on disk."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        with self._connection:  # one short transaction, so that other processes hardly wait
            self._connection.executemany("INSERT OR IGNORE INTO detections VALUES (?, ?, ?)", self._unwritten)
        self._unwritten.clear()


@contextmanager
def open_cache(folder: Path, *, identity: Mapping[str, Any]) -> Iterator[DetectionCache]:
    """Open the cache in a folder, created if missing; detections are stored even if the block raises.

    Args:
        folder: contains ``detections.sqlite``.
        identity: what detections depend on besides the picture.

    Raises:
        FaceTableError: if the cache cannot be read or written.
    """
    path = folder / "detections.sqlite"
    try:
        with closing(_connect(path)) as connection:
            cache = DetectionCache(connection, identity=identity)
            try:
                yield cache
            finally:
                cache.flush()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from None
    connection = sqlite3.connect(path, timeout=_TIMEOUT_SECONDS, check_same_thread=False)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS detections (identity TEXT, content_hash TEXT, faces TEXT, "
        "PRIMARY KEY (identity, content_hash)) WITHOUT ROWID"
    )
    return connection


def _unusable(path: Path, error: Exception) -> FaceTableError:
    return FaceTableError(
        f"{path}: cannot be used as the cache of detected faces ({error}); delete it, or set another folder in "
        "faces.cropping.cache"
    )


def _to_json(faces: list[DetectedFace]) -> str:
    """Serialize faces; floats are read back exactly."""
    return json.dumps([[face.box, face.score, face.points.tolist()] for face in faces], separators=(",", ":"))


def _from_json(text: str) -> list[DetectedFace]:
    return [DetectedFace(tuple(box), score, np.array(points, np.float64)) for box, score, points in json.loads(text)]
