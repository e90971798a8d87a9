"""Predict a MaskBase submission: a class id for every row of ``info.csv``, in its order, and no row missing."""

import csv
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults
from ssl_pipeline.faces.sources.raw_faces import IMAGE_SUFFIXES
from ssl_pipeline.inference.files import ImageFile
from ssl_pipeline.inference.progress import ImageProgress
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.inference.table import check_writable
from ssl_pipeline.learning.predict import FacePredictor
from ssl_pipeline.runs.files import atomic_path

HEADER = ["ImageID", "ans"]
UNREAD = -1

FallbackClass = int | Literal["most-common"]


@dataclass(frozen=True)
class SubmissionCounts:
    """What a submission came to; `num_read` + `num_filled` is the number of its rows."""

    num_read: int
    num_filled: int
    fallback_class: int | None
    """The class of the rows filled; None if there are none."""
    failed: Path | None
    """A CSV that lists the rows filled: ImageID, reason, ans; None if there are none."""


def predict_submission(
    predictor: FacePredictor, folder: Path, info: Path, out: Path, *, fallback_class: FallbackClass | None = None
) -> SubmissionCounts:
    """Write ``ImageID,ans``, a row for each of `info`'s and in its order, ans the most probable class, 0 … K-1.

    Memory holds four bytes a row, and a reason for each image that cannot be read.

    Args:
        predictor: a model, or several that vote.
        folder: holds the images by their ImageID. If there is no file of that very name, one with the same stem and
            another image's suffix is taken.
        info: a CSV with the header ``ImageID,ans``; its ans is ignored.
        out: a ``.csv`` file, written atomically.
        fallback_class: the class of images that are missing or cannot be read; ``"most-common"`` takes the class that
            is predicted most often here (of several the lowest id). They are listed beside `out`, in
            ``<stem>.failed.csv``. None refuses to write a submission then.

    Raises:
        FaceTableError: if `info` cannot be read, if an image is missing or cannot be read and there is no fallback
            (naming the first 20), or if not one image can be read.
        ConfigError: if the fallback is no class, or `out` cannot be written.
    """
    num_classes = predictor.labels.num_classes
    if isinstance(fallback_class, int) and not 0 <= fallback_class < num_classes:
        raise ConfigError(f"--fallback-class {fallback_class}: expected a class id from 0 to {num_classes - 1}")
    check_writable(out)
    if not folder.is_dir():
        raise FaceTableError(f"{folder}: no such folder; a submission looks for its images there, by ImageID")
    if fallback_class is None:  # at once, not hours later when the model comes upon the last of them
        missing = [f"{file.name}: {file.fault}" for file in _files(info, folder) if file.fault is not None]
        if missing:
            raise _refusal(info, missing)
    class_ids, reasons = _predict(predictor, folder, info)
    if reasons and fallback_class is None:
        raise _refusal(info, [f"{name}: {reason}" for name, reason in reasons.values()])
    if len(reasons) == len(class_ids):
        raise FaceTableError(f"{info}: not one of its {len(class_ids):,} images can be read in {folder}")
    filled = _most_common(class_ids) if fallback_class == "most-common" else fallback_class
    failed = out.with_suffix(".failed.csv")
    failed.unlink(missing_ok=True)  # of an earlier submission
    if reasons:
        with atomic_path(failed) as beside:
            _write_rows(beside, ["ImageID", "reason", "ans"], ((*entry, filled) for entry in reasons.values()))
    with atomic_path(out) as beside:
        answers = (filled if class_id == UNREAD else class_id for class_id in class_ids)
        _write_rows(beside, HEADER, zip(_image_ids(info), answers, strict=True))
    if not reasons:
        return SubmissionCounts(len(class_ids), 0, None, None)
    return SubmissionCounts(len(class_ids) - len(reasons), len(reasons), filled, failed)


def _predict(predictor: FacePredictor, folder: Path, info: Path) -> tuple["array[int]", dict[int, tuple[str, str]]]:
    """Give the class id of each row, `UNREAD` where there is none, and for those rows the ImageID and reason."""
    class_ids, reasons = array("i"), dict[int, tuple[str, str]]()
    with ImageProgress(_image_ids(info)) as progress:
        for batch in predict_stream(predictor, _files(info, folder)):
            for row, reason in enumerate(batch.reasons):
                if reason is not None:
                    reasons[len(class_ids) + row] = (batch.names[row], reason)
            unread = np.array([reason is not None for reason in batch.reasons], bool)
            class_ids.extend(np.where(unread, UNREAD, batch.probabilities.argmax(axis=1)).tolist())
            progress.advance(len(batch.names))
    return class_ids, reasons


def _image_ids(info: Path) -> Iterator[str]:
    """Read the ImageIDs as text: ``000123`` keeps its zeros."""
    try:
        with open(info, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != HEADER:
                raise FaceTableError(f"{info}: expected the header ImageID,ans, got {','.join(header) or 'nothing'}")
            is_empty = True
            for fields in filter(None, reader):
                if len(fields) != len(HEADER) or not fields[0]:
                    raise FaceTableError(
                        f"{info}: line {reader.line_num}: expected ImageID,ans, got {','.join(fields)}"
                    )
                is_empty = False
                yield fields[0]
            if is_empty:
                raise FaceTableError(f"{info}: no rows below the header")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FaceTableError(f"{info}: cannot be read as the info.csv of a submission ({reason})") from None


def _files(info: Path, folder: Path) -> Iterator[ImageFile]:
    for image_id in _image_ids(info):
        yield _find(image_id, folder)


def _find(image_id: str, folder: Path) -> ImageFile:
    name = PurePosixPath(image_id)
    if name.is_absolute() or ".." in name.parts or "\0" in image_id:
        return ImageFile(image_id, str(folder), f"lies outside {folder}")
    path = str(folder / name)
    if os.path.lexists(path):
        return ImageFile(image_id, path)
    # an ImageID may itself hold a dot and no suffix, so the suffixes are tried after the whole of it too
    stems = {path, str(folder / name.with_suffix(""))}
    endings = [ending for suffix in IMAGE_SUFFIXES for ending in (suffix, suffix.upper())]
    found = sorted(stem + ending for stem in stems for ending in endings if os.path.lexists(stem + ending))
    if not found:
        return ImageFile(image_id, path, f"no such image in {folder}, nor one of this name with another suffix")
    if len(found) > 1:
        names = " and ".join(os.path.basename(one) for one in found)  # noqa: PTH119 - text, as above
        return ImageFile(image_id, path, f"more than one image could be meant: {names}")
    return ImageFile(image_id, found[0])


def _most_common(class_ids: "array[int]") -> int:
    ids = np.frombuffer(class_ids, dtype=np.intc)
    return int(np.bincount(ids[ids != UNREAD]).argmax())


def _write_rows(path: Path, header: list[str], rows: Iterator[tuple[object, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _refusal(info: Path, faults: list[str]) -> FaceTableError:
    images = "1 image" if len(faults) == 1 else f"{len(faults):,} images"
    message = list_of_faults(f"{info}: {images} cannot be read; no submission is written", faults)
    return FaceTableError(
        f"{message}\n  put them there, or have such rows filled: --fallback-class most-common, or a class id"
    )
