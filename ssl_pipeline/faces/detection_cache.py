"""The faces found so far, on disk by the picture's content: what was found once is not looked for again.

One SQLite file serves any number of runs, sizes and settings at once; what they ask of a detector's faces (score, size,
margin) comes afterwards. A row is found by the content's hash and by what the detector's answer depends on.
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

_WRITE_AT_ONCE, _WAIT_SECONDS = 256, 60
_FORMAT = 1  # of the rows, and of what `detection` makes of a picture; another number finds no row of this one

Detect = Callable[[npt.NDArray[np.uint8]], list[DetectedFace]]


class DetectionCache:
    """Faces by content hash; used from several threads, and by several processes, at once."""

    def __init__(self, connection: sqlite3.Connection, *, identity: Mapping[str, Any]) -> None:
        """See `open_cache`."""
        self._connection = connection
        self._identity = digest_of({"format": _FORMAT, **identity})
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str, str]] = []

    def faces(
        self, content_hash: str, pixels: Callable[[], npt.NDArray[np.uint8]], detect: Detect
    ) -> list[DetectedFace]:
        """Give a picture's faces: those found before, or else those that `detect` finds now in its pixels.

        Args:
            content_hash: of the picture's file.
            pixels: gives uint8 [H, W, 3]; called only if the faces are not known.
            detect: as `detection.FaceDetector.detect`.
        """
        query = "SELECT faces FROM detections WHERE identity = ? AND content_hash = ?"
        with self._lock:
            known = self._connection.execute(query, (self._identity, content_hash)).fetchone()
        if known is not None:
            return _from_json(known[0])
        faces = detect(pixels())
        with self._lock:
            self._waiting.append((self._identity, content_hash, _to_json(faces)))
            if len(self._waiting) >= _WRITE_AT_ONCE:
                self._write()
        return faces

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        with self._connection:  # one transaction, short, so that other processes hardly wait
            self._connection.executemany("INSERT OR IGNORE INTO detections VALUES (?, ?, ?)", self._waiting)
        self._waiting.clear()


@contextmanager
def open_cache(folder: Path, *, identity: Mapping[str, Any]) -> Iterator[DetectionCache]:
    """Open the cache in a folder, made if need be; what was found is kept, however the block ends.

    Args:
        folder: holds ``detections.sqlite``.
        identity: what the faces found depend on, besides the picture.

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
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS detections (identity TEXT, content_hash TEXT, faces TEXT, "
        "PRIMARY KEY (identity, content_hash)) WITHOUT ROWID"
    )
    return connection


def _unusable(path: Path, error: Exception) -> FaceTableError:
    return FaceTableError(
        f"{path}: cannot be used as the cache of faces found ({error}); delete it, or name another folder in "
        "faces.cropping.cache"
    )


def _to_json(faces: list[DetectedFace]) -> str:
    """Numbers are written so that they read back the same to the last bit."""
    return json.dumps([[face.box, face.score, face.points.tolist()] for face in faces], separators=(",", ":"))


def _from_json(text: str) -> list[DetectedFace]:
    return [DetectedFace(tuple(box), score, np.array(points, np.float64)) for box, score, points in json.loads(text)]
