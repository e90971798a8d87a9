"""Predict a folder of images into a table, a chunk at a time, so that memory does not grow with the folder."""

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.faces.sources.raw import is_image_name, list_files
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.runs import atomic_path

logger = logging.getLogger(__name__)

CHUNK = 1024


def predict_images(predictor: Predictor, images: Path, out: Path) -> dict[str, int]:
    """Write a row an image: its path, values and their probabilities, the class, or why it cannot be read.

    Args:
        predictor: a model.
        images: a folder, searched at any depth, or one image.
        out: a ``.csv`` or ``.parquet`` file, written atomically.

    Returns:
        ``read`` and ``unreadable``; together they are all the images found.

    Raises:
        FaceTableError: if there is no image.
    """
    if not images.exists():
        raise FaceTableError(f"{images}: no such folder or image")
    paths = [images] if images.is_file() else [images / name for name in list_files(images) if is_image_name(name)]
    if not paths:
        raise FaceTableError(f"{images}: no image in this folder; expected files such as .jpg, .png or .webp")
    schema = _schema(predictor.checkpoint.labels)
    counts = {"read": 0, "unreadable": 0}
    console = Console(stderr=True)
    with (
        atomic_path(out) as beside,
        _Writer(beside, schema, as_csv=out.suffix == ".csv") as writer,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("predicting", total=len(paths))
        for chunk in _chunks(paths):
            rows = _predict_chunk(predictor, list(chunk), images)
            unreadable = sum(row["unreadable"] is not None for row in rows)
            counts["unreadable"] += unreadable
            counts["read"] += len(rows) - unreadable
            writer.write(rows)
            bar.advance(task, len(rows))
    return counts


def _chunks(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), CHUNK):
        yield paths[start : start + CHUNK]


def _predict_chunk(predictor: Predictor, paths: list[Path], root: Path) -> list[dict[str, Any]]:
    size, labels = predictor.checkpoint.image_size, predictor.checkpoint.labels
    pixels = np.zeros((len(paths), size, size, 3), np.uint8)
    reasons: list[str | None] = []
    for position, path in enumerate(paths):
        try:
            pixels[position] = square_pixels(decode_rgb(path.read_bytes()), size=size)
            reasons.append(None)
        except (UnreadableFace, OSError) as error:
            reasons.append(str(error))
    readable = np.array([position for position, reason in enumerate(reasons) if reason is None], np.int64)
    probabilities = predictor.predict(pixels, readable)
    predicted = dict(zip(readable.tolist(), _rows(probabilities, labels), strict=True))
    empty = dict.fromkeys(name for name in _schema(labels).names)
    return [
        empty | {"image_path": _relative(path, root), "unreadable": reasons[i]} | predicted.get(i, {})
        for i, path in enumerate(paths)
    ]


def _rows(probabilities: Any, labels: LabelSpace) -> Iterator[dict[str, Any]]:
    marginals = labels.attribute_probabilities(probabilities)
    for number, row in enumerate(probabilities):
        class_id = int(row.argmax())
        cells: dict[str, Any] = {}
        for attribute, marginal in zip(labels.attributes, marginals, strict=True):
            code = int(marginal[number].argmax())
            cells[attribute.name] = attribute.values[code]
            cells[f"{attribute.name}_probability"] = float(marginal[number, code])
        yield cells | {
            "class_id": class_id,
            "class_name": labels.class_name(class_id),
            "class_probability": float(row[class_id]),
        }


def _schema(labels: LabelSpace) -> pa.Schema:
    fields = [("image_path", pa.string())]
    for name in labels.names:
        fields += [(name, pa.string()), (f"{name}_probability", pa.float32())]
    fields += [("class_id", pa.int64()), ("class_name", pa.string()), ("class_probability", pa.float32())]
    return pa.schema([*fields, ("unreadable", pa.string())])


def _relative(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


class _Writer:
    """CSV or Parquet, chunk by chunk."""

    def __init__(self, path: Path, schema: pa.Schema, *, as_csv: bool) -> None:
        self._schema = schema
        self._file: Any = None
        if as_csv:
            self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
            self._csv = csv.DictWriter(self._file, fieldnames=schema.names)
            self._csv.writeheader()
        else:
            self._parquet = pq.ParquetWriter(path, schema)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        else:
            self._parquet.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        if self._file is None:
            self._parquet.write_table(pa.Table.from_pylist(rows, schema=self._schema))
            return
        for row in rows:
            text = {name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()}
            self._csv.writerow(text)
