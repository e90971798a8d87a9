"""Predict images into a table, a batch at a time, so that memory does not grow with their number."""

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.faces.cropper import Cropper
from ssl_pipeline.inference.files import find_images
from ssl_pipeline.inference.progress import ImageProgress
from ssl_pipeline.inference.stream import PredictedBatch, predict_stream
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.predict import FacePredictor
from ssl_pipeline.runs.files import atomic_path

ROWS_IN_GROUP = 16_384
"""Rows of a Parquet file that are written at once; smaller groups make a file that is slow to read."""
NUM_SHOWN = 5


@dataclass(frozen=True)
class PredictionCounts:
    """What a prediction came to; `num_read` + `num_unreadable` is all that was found."""

    num_read: int
    num_unreadable: int
    first_failures: tuple[str, ...]
    """The first few images that cannot be read, each with the reason."""

    @property
    def num_found(self) -> int:
        """All images."""
        return self.num_read + self.num_unreadable


def predict_images(
    predictor: FacePredictor, images: Path, out: Path, *, framer: Cropper | None = None
) -> PredictionCounts:
    """Write a row an image: its path, values and their probabilities, the class, or why it cannot be read.

    Args:
        predictor: a model, or several that vote.
        images: a folder, one image, or a list of paths; see `image_files.find_images`.
        out: a ``.csv`` or ``.parquet`` file, written atomically.
        framer: crops each image to its face; one without a face counts as unreadable. None takes the centered square.

    Raises:
        FaceTableError: if there is no image.
        ConfigError: if `out` cannot be written.
    """
    check_writable(out)
    files = find_images(images)
    num_read, num_unreadable, failures = 0, 0, list[str]()
    with (
        atomic_path(out) as beside,
        _Writer(beside, table_schema(predictor.labels), as_csv=out.suffix == ".csv") as writer,
        ImageProgress(find_images(images, in_order=False)) as progress,
    ):
        for batch in predict_stream(predictor, files, framer=framer):
            writer.write(to_table(batch, predictor.labels))
            failed = [f"{name}: {reason}" for name, reason in zip(batch.names, batch.reasons, strict=True) if reason]
            failures += failed[: NUM_SHOWN - len(failures)]
            num_unreadable += len(failed)
            num_read += len(batch.names) - len(failed)
            progress.advance(len(batch.names))
        if num_read + num_unreadable == 0:
            raise FaceTableError(
                f"{images}: no image found; expected a folder with files such as .jpg, .png or .webp (hidden ones are "
                "ignored), an image, or a .txt or .csv list of paths"
            )
    return PredictionCounts(num_read, num_unreadable, tuple(failures))


def check_writable(out: Path) -> None:
    """Refuse, before any work, a file that could not be written at its end.

    Raises:
        ConfigError: naming the file.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            fault = "it is a folder; name a file in it" if out.is_dir() else None
    except OSError as error:
        fault = error.strerror or str(error)
    if fault is not None:
        raise ConfigError(f"--out {out}: cannot be written: {fault}")


def table_schema(labels: LabelSpace) -> pa.Schema:
    """Columns of the table: the image, each attribute and its probability, the class and its own, the reason."""
    fields = [("image_path", pa.string())]
    for name in labels.names:
        fields += [(name, pa.string()), (f"{name}_probability", pa.float32())]
    fields += [("class_id", pa.int64()), ("class_name", pa.string()), ("class_probability", pa.float32())]
    return pa.schema([*fields, ("unreadable", pa.string())])


def to_table(batch: PredictedBatch, labels: LabelSpace) -> pa.Table:
    """Give a batch the columns of `table_schema`; of an image that cannot be read all are null but path and reason.

    The class is the most probable one; the value of an attribute is the most probable by the sum over its classes.
    """
    unread = np.array([reason is not None for reason in batch.reasons], bool)
    columns: dict[str, Any] = {"image_path": batch.names}

    def column(values: Any) -> Any:
        return pa.array(values, mask=unread)

    for attribute, marginal in zip(labels.attributes, labels.attribute_probabilities(batch.probabilities), strict=True):
        columns[attribute.name] = column(np.array(attribute.values, object)[marginal.argmax(axis=1)])
        columns[f"{attribute.name}_probability"] = column(marginal.max(axis=1))
    class_ids = batch.probabilities.argmax(axis=1)
    columns["class_id"] = column(class_ids)
    columns["class_name"] = column(np.array(labels.class_names, object)[class_ids])
    columns["class_probability"] = column(batch.probabilities.max(axis=1))
    columns["unreadable"] = batch.reasons
    return pa.table(columns, schema=table_schema(labels))


class _Writer:
    """CSV or Parquet, batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema, *, as_csv: bool) -> None:
        self._schema = schema
        self._file: Any = None
        if as_csv:
            self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
            self._csv = csv.DictWriter(self._file, fieldnames=schema.names)
            self._csv.writeheader()
        else:
            self._parquet = pq.ParquetWriter(path, schema)
            self._hold()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        else:
            self._flush()
            self._parquet.close()

    def write(self, table: pa.Table) -> None:
        if self._file is None:
            self._held.write_table(table)
            self._num_held += len(table)
            if self._num_held >= ROWS_IN_GROUP:
                self._flush()
            return
        for row in table.to_pylist():
            text = {name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()}
            self._csv.writerow(text)

    def _hold(self) -> None:
        # rows wait for their group as one block of bytes: their many small arrays, lying between the model's large
        # ones, would keep the process from giving these back, at some 150 MB
        self._bytes, self._num_held = pa.BufferOutputStream(), 0
        self._held = pa.ipc.new_stream(self._bytes, self._schema)

    def _flush(self) -> None:
        self._held.close()
        if self._num_held:
            self._parquet.write_table(pa.ipc.open_stream(self._bytes.getvalue()).read_all())
        self._hold()
