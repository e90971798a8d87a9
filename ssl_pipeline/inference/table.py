"""Table of predictions: one row per image, written batch by batch as CSV, JSON or Parquet."""

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.cropper import Cropper
from ssl_pipeline.inference.files import find_images
from ssl_pipeline.inference.stream import PredictedBatch, predict_stream
from ssl_pipeline.inference.table_format import TableFormat, format_of
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.predict import FacePredictor
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.progress import ProgressBar
from ssl_pipeline.runs.spreadsheet_cells import safe_cell

ROWS_IN_GROUP = 16_384
"""Fewest rows in a Parquet row group, but for the last; many small groups make a file that is slow to read."""
NUM_FAILURES_SHOWN = 5


@dataclass(frozen=True)
class PredictionCounts:
    """Files predicted and not; `num_read` + `num_unreadable` + `len(passed_over)` is the number found."""

    num_read: int
    num_unreadable: int
    first_failures: tuple[str, ...]
    """The first few images that cannot be read, each with the reason."""
    passed_over: list[str]
    """Files of the folder that are not images."""

    @property
    def num_found(self) -> int:
        """All files."""
        return self.num_read + self.num_unreadable + len(self.passed_over)


def predict_images(
    predictor: FacePredictor,
    images: Path,
    out: Path | None,
    *,
    framer: Cropper | None = None,
    table_format: TableFormat | None = None,
) -> PredictionCounts:
    """Write one row per image: its path, values and their probabilities, the class, or why it cannot be read.

    Args:
        predictor: a model, or several that vote.
        images: a folder, one image, or a list of paths; see `files.find_images`.
        out: a file, written atomically; None writes to standard output.
        framer: crops each image to its face; an image without a face counts as unreadable (see `framing.cropper_of`).
            None takes the centered square.
        table_format: by default `out`'s suffix.

    Raises:
        FaceTableError: if there is no image.
        ConfigError: if `out` cannot be written.
    """
    table_format = table_format or format_of(out)
    if out is not None:
        check_writable(out)
    found = find_images(images)
    files = found.files
    num_unreadable, failures = 0, list[str]()
    schema = table_schema(predictor.labels)
    with (
        _open_writer(out, table_format, schema) as write,
        ProgressBar("predicting", len(files), unit="images") as progress,
    ):
        for batch in predict_stream(predictor, files, framer=framer):
            write(to_table(batch, predictor.labels))
            failed = [f"{name}: {reason}" for name, reason in zip(batch.names, batch.reasons, strict=True) if reason]
            failures += failed[: NUM_FAILURES_SHOWN - len(failures)]
            num_unreadable += len(failed)
            progress.advance(len(batch.names))
    return PredictionCounts(len(files) - num_unreadable, num_unreadable, tuple(failures), found.passed_over)


def check_writable(out: Path) -> None:
    """Check, before any work, that a file can be written.

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
    """Return the columns: the path, each attribute's value and its probability, the class and its, all of them, the reason."""
    fields = [("image_path", pa.string())]
    for name in labels.names:
        fields += [(name, pa.string()), (f"{name}_probability", pa.float32())]
    fields += [("class_id", pa.int64()), ("class_name", pa.string()), ("class_probability", pa.float32())]
    fields += [(f"{at.name}={value}", pa.float32()) for at in labels.attributes for value in at.values]
    fields += [(f"class={name}", pa.float32()) for name in labels.class_names]
    return pa.schema([*fields, ("unreadable", pa.string())])


def to_table(batch: PredictedBatch, labels: LabelSpace) -> pa.Table:
    """Convert a batch to the columns of `table_schema`.

    The class is the most probable one; an attribute's value is the one with the largest sum over its classes. For an
    image that cannot be read, all columns but path and reason are null.
    """
    is_unreadable = np.array([reason is not None for reason in batch.reasons], bool)
    columns: dict[str, Any] = {"image_path": batch.names}

    def column(values: Any) -> Any:
        return pa.array(values, mask=is_unreadable)

    for attribute, marginal in zip(labels.attributes, labels.attribute_probabilities(batch.probabilities), strict=True):
        columns[attribute.name] = column(np.array(attribute.values, object)[marginal.argmax(axis=1)])
        columns[f"{attribute.name}_probability"] = column(marginal.max(axis=1))
        columns |= {f"{attribute.name}={value}": column(marginal[:, i]) for i, value in enumerate(attribute.values)}
    class_ids = batch.probabilities.argmax(axis=1)
    columns["class_id"] = column(class_ids)
    columns["class_name"] = column(np.array(labels.class_names, object)[class_ids])
    columns["class_probability"] = column(batch.probabilities.max(axis=1))
    columns |= {f"class={name}": column(batch.probabilities[:, i]) for i, name in enumerate(labels.class_names)}
    columns["unreadable"] = batch.reasons
    return pa.table(columns, schema=table_schema(labels))


@contextmanager
def _open_writer(
    out: Path | None, table_format: TableFormat, schema: pa.Schema
) -> Iterator[Callable[[pa.Table], None]]:
    text_writer = _csv_writer if table_format == "csv" else _json_writer
    if out is None:
        with text_writer(sys.stdout, schema) as write:
            yield write
        return
    with atomic_path(out) as temporary:
        if table_format == "parquet":
            with _parquet_writer(temporary, schema) as write:
                yield write
            return
        with (
            open(temporary, "w", newline="", encoding="utf-8") as file,
            text_writer(file, schema) as write,
        ):
            yield write


@contextmanager
def _csv_writer(file: TextIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    writer = csv.DictWriter(file, fieldnames=schema.names)
    writer.writerow({name: safe_cell(name) for name in schema.names})

    def write(table: pa.Table) -> None:
        for row in table.to_pylist():
            writer.writerow({name: _csv_cell(value) for name, value in row.items()})

    yield write


@contextmanager
def _json_writer(file: TextIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Write a list of objects, one per line."""
    separator = "[\n"

    def write(table: pa.Table) -> None:
        nonlocal separator
        for row in table.to_pylist():
            row = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
            file.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"

    yield write
    file.write("\n]\n")


def _csv_cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6f}"
    return safe_cell(value) if isinstance(value, str) else value


@contextmanager
def _parquet_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    waiting = schema.empty_table()
    with pq.ParquetWriter(path, schema) as file:

        def write(table: pa.Table) -> None:
            nonlocal waiting
            # Copied into one block: many small arrays between the model's large ones would fragment the heap.
            waiting = pa.concat_tables([waiting, table]).combine_chunks()
            if len(waiting) >= ROWS_IN_GROUP:
                file.write_table(waiting)
                waiting = schema.empty_table()

        yield write
        if len(waiting):
            file.write_table(waiting)
