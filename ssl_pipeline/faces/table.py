"""Face tables on disk: one row per face, unknown is null, equal rows give equal bytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.cropper import Crop
from ssl_pipeline.faces.detection import POINT_NAMES
from ssl_pipeline.labels import IntArray, LabelSpace
from ssl_pipeline.runs.files import atomic_path, read_json

_IDENTITY = ("image_id", "image_path", "content_hash", "person_id", "picture_id", "source", "split")
_ROWS_READ_AT_ONCE = 32_768
_BYTES_READ_AT_ONCE = 2**20


def face_columns(labels: LabelSpace) -> list[str]:
    """Return the columns of a face table, in order."""
    return [*_IDENTITY, *labels.names, "age_years", "origin", "derived", "pixel_row"]


def write_faces(path: Path, faces: pd.DataFrame, labels: LabelSpace) -> None:
    """Write a face table as Parquet, atomically; attributes become categoricals with all their values.

    Raises:
        KeyError: if a column of `face_columns` is missing.
        ValueError: if a value does not belong to its attribute.
    """
    table = faces[face_columns(labels)].reset_index(drop=True)
    for name in (*_IDENTITY, "origin", "derived"):
        table[name] = table[name].astype("string")
    table[labels.names] = labels.decode(labels.encode(table))
    table["age_years"] = table["age_years"].astype("Float64")
    table["pixel_row"] = table["pixel_row"].astype("int64")
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)


def crop_table(faces: pd.DataFrame, crops: Sequence[Crop | None]) -> pd.DataFrame:
    """Build the table of crops.

    Args:
        faces: N rows with image_id and source.
        crops: N; None if a picture is not cropped or not usable.

    Returns:
        One row per cropped picture: image_id, source, crop, reason (of a fallback), num_faces detected, and the score
        and five points of the chosen face in pixels of the picture, null if there is none.
    """
    points = [f"{name}_{axis}" for name in POINT_NAMES for axis in "xy"]
    rows = []
    for image_id, source, crop in zip(faces["image_id"], faces["source"], crops, strict=True):
        if crop is not None:
            numbers = [None] * 11 if crop.face is None else [crop.face.score, *crop.face.points.ravel().tolist()]
            rows.append([image_id, source, crop.kind, crop.reason, crop.num_faces, *numbers])
    table = pd.DataFrame(rows, columns=["image_id", "source", "crop", "reason", "num_faces", "score", *points])
    texts = dict.fromkeys(["image_id", "source", "crop", "reason"], "string")
    return table.astype({**texts, "num_faces": "int64", **dict.fromkeys(["score", *points], "Float64")})


def write_crops(path: Path, crops: pd.DataFrame) -> None:
    """Write a table of crops as Parquet, atomically, sorted by image id."""
    with atomic_path(path) as partial:
        crops.sort_values("image_id", ignore_index=True).to_parquet(partial, index=False)


def read_crop_rules(directory: Path) -> CropRules | None:
    """Read how the prepared faces of a directory were cropped; None: centered squares.

    Raises:
        RunError: if ``cropping.json`` is missing.
    """
    rules = read_json(directory / "cropping.json")["rules"]
    return None if rules is None else CropRules.model_validate(rules)


def read_faces(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a face table, or some of its columns.

    Raises:
        FaceTableError: if it is missing or unreadable.
    """
    if not path.is_file():
        raise FaceTableError(f"{path}: no such face table; run `ssl-pipeline run` with this config first")
    try:
        faces: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
        return faces
    except (pa.ArrowException, OSError) as error:
        raise FaceTableError(f"{path}: cannot be read ({error}); delete its folder and run again") from None


class FacesInOrder:
    """Reads the rows of a face table in their order, a few at a time, so that the table is never in memory."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, list(columns)
        self._batches, self._held, self._start = self._read(), pa.table({}), 0

    def take(self, rows: IntArray) -> pd.DataFrame:
        """Return the next rows.

        Raises:
            ValueError: if they do not follow the last ones.
        """
        if len(rows) and not np.array_equal(rows, np.arange(self._start, self._start + len(rows))):
            raise ValueError(
                f"{self._path}: expected rows from {self._start:,} on, got {rows.min():,} to {rows.max():,}"
            )
        self._start += len(rows)
        while len(self._held) < max(len(rows), 1) and (batch := next(self._batches, None)) is not None:
            self._held = batch if not len(self._held) else pa.concat_tables([self._held, batch])
        taken, self._held = self._held.slice(0, len(rows)), self._held.slice(len(rows))
        frame: pd.DataFrame = taken.to_pandas()
        return frame

    def _read(self) -> Iterator[pa.Table]:
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=_BYTES_READ_AT_ONCE) as file:
            for batch in file.iter_batches(_ROWS_READ_AT_ONCE, columns=self._columns, use_threads=False):
                yield pa.Table.from_batches([batch])
