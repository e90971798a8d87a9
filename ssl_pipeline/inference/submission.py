"""MaskBase submissions: one class id for each row of ``info.csv``, in its order."""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults
from ssl_pipeline.faces.cropper import Cropper
from ssl_pipeline.faces.image_files import IMAGE_SUFFIXES
from ssl_pipeline.inference.files import ImageFile
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.inference.table import check_writable
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.predict import FacePredictor
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.progress import ProgressBar

HEADER = ["ImageID", "ans"]

FallbackClass = int | Literal["most-common"]


@dataclass(frozen=True)
class SubmissionCounts:
    """Rows predicted and filled; `num_read` + `num_filled` is the number of rows."""

    num_read: int
    num_filled: int
    fallback_class: int | None
    """The class of the filled rows; None if there are none."""
    failed: Path | None
    """A CSV that lists the filled rows: ImageID, reason, ans; None if there are none."""


def predict_submission(
    predictor: FacePredictor,
    folder: Path,
    info: Path,
    out: Path,
    *,
    fallback_class: FallbackClass | None = None,
    framer: Cropper | None = None,
) -> SubmissionCounts:
    """Write ``ImageID,ans``, one row for each of `info`'s and in its order; ans is the most probable class, 0 … K-1.

    Args:
        predictor: a model, or several that vote.
        folder: holds the images, named by ImageID. If there is no file of exactly that name, one with the same stem
            and another image suffix is taken.
        info: a CSV with the header ``ImageID,ans``; its ans is ignored.
        out: a ``.csv`` file, written atomically.
        fallback_class: the class of images that are missing or cannot be read; ``"most-common"`` takes the class
            predicted most often (the lowest id of several). Such rows are listed in ``<stem>.failed.csv`` next to
            `out`. None refuses to write a submission if there are any.
        framer: crops each image to its face (see `framing.cropper_of`); None takes the centered square.

    Raises:
        FaceTableError: if `info` cannot be read, if an image is missing or cannot be read and there is no fallback
            (naming the first 20), or if no image can be read.
        ConfigError: if the fallback is not a class, or `out` cannot be written.
    """
    num_classes = predictor.labels.num_classes
    if isinstance(fallback_class, int) and not 0 <= fallback_class < num_classes:
        raise ConfigError(f"--fallback-class {fallback_class}: expected a class id from 0 to {num_classes - 1}")
    check_writable(out)
    if not folder.is_dir():
        raise FaceTableError(f"{folder}: no such folder; a submission finds its images there, by ImageID")
    files = [_find(image_id, folder) for image_id in _read_image_ids(info)]
    missing = [f"{file.name}: {file.fault}" for file in files if file.fault is not None]
    if missing and fallback_class is None:  # now, not hours later when the model reaches the last of them
        raise _refusal(info, missing)
    class_ids, reasons = _predict(predictor, files, framer)
    failures = [(file.name, reason) for file, reason in zip(files, reasons, strict=True) if reason is not None]
    if failures and fallback_class is None:
        raise _refusal(info, [f"{name}: {reason}" for name, reason in failures])
    if len(failures) == len(files):
        raise FaceTableError(f"{info}: not one of its {len(files):,} images can be read in {folder}")
    failed_path = out.with_suffix(".failed.csv")
    failed_path.unlink(missing_ok=True)  # of an earlier submission
    counts = SubmissionCounts(len(files), 0, None, None)
    if failures and fallback_class is not None:
        is_failed = np.array([reason is not None for reason in reasons])
        most_common = int(np.bincount(class_ids[~is_failed]).argmax())
        fill = fallback_class if isinstance(fallback_class, int) else most_common
        class_ids[is_failed] = fill
        _write_rows(failed_path, ["ImageID", "reason", "ans"], [(*failure, fill) for failure in failures])
        counts = SubmissionCounts(len(files) - len(failures), len(failures), fill, failed_path)
    _write_rows(out, HEADER, zip((file.name for file in files), class_ids.tolist(), strict=True))
    return counts


def _predict(
    predictor: FacePredictor, files: list[ImageFile], framer: Cropper | None
) -> tuple[IntArray, list[str | None]]:
    """Predict class ids, int [N], 0 where an image cannot be read; the reasons say where."""
    class_ids: list[int] = []
    reasons: list[str | None] = []
    with ProgressBar("predicting", len(files), unit="images") as progress:
        for batch in predict_stream(predictor, files, framer=framer):
            class_ids += batch.probabilities.argmax(axis=1).tolist()
            reasons += batch.reasons
            progress.advance(len(batch.names))
    return np.array(class_ids, np.int64), reasons


def _read_image_ids(info: Path) -> list[str]:
    """Read the ImageIDs as text: ``000123`` keeps its zeros."""
    image_ids: list[str] = []
    try:
        with open(info, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != HEADER:
                raise FaceTableError(f"{info}: expected the header ImageID,ans, got {','.join(header) or 'nothing'}")
            for fields in filter(None, reader):
                if len(fields) != len(HEADER) or not fields[0]:
                    raise FaceTableError(
                        f"{info}: line {reader.line_num}: expected ImageID,ans, got {','.join(fields)}"
                    )
                image_ids.append(fields[0])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FaceTableError(f"{info}: cannot be read as the info.csv of a submission ({reason})") from None
    if not image_ids:
        raise FaceTableError(f"{info}: no rows below the header")
    return image_ids


def _find(image_id: str, folder: Path) -> ImageFile:
    name = PurePosixPath(image_id)
    if name.is_absolute() or ".." in name.parts or "\0" in image_id:
        return ImageFile(image_id, str(folder), f"lies outside {folder}")
    path = str(folder / name)
    if os.path.lexists(path):
        return ImageFile(image_id, path)
    # "ab.cd" may be a whole stem, so suffixes are also tried after the full ImageID
    stems = {path, str(folder / name.with_suffix(""))}
    suffixes = [suffix for lower in IMAGE_SUFFIXES for suffix in (lower, lower.upper())]
    candidates = sorted(stem + suffix for stem in stems for suffix in suffixes if os.path.lexists(stem + suffix))
    if not candidates:
        return ImageFile(image_id, path, f"no such image in {folder}, nor one of this name with another suffix")
    if len(candidates) > 1:
        names = " and ".join(Path(candidate).name for candidate in candidates)
        return ImageFile(image_id, path, f"more than one image could be meant: {names}")
    return ImageFile(image_id, candidates[0])


def _write_rows(path: Path, header: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _refusal(info: Path, faults: list[str]) -> FaceTableError:
    images = "1 image" if len(faults) == 1 else f"{len(faults):,} images"
    message = list_of_faults(f"{info}: {images} cannot be read; no submission is written", faults)
    return FaceTableError(
        f"{message}\n  add the images, or fill their rows with --fallback-class most-common or a class id"
    )
