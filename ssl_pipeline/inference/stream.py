"""Prediction of a stream of images: threads decode ahead of the model, in order and in bounded memory."""

import hashlib
import logging
import os
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.faces.archives import MAX_FILE_BYTES, read_bytes
from ssl_pipeline.faces.cropper import Cropper
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels, upright_rgb
from ssl_pipeline.inference.files import ImageFile, ImageInMemory
from ssl_pipeline.learning.predict import FacePredictor

logger = logging.getLogger(__name__)

MAX_AHEAD_BYTES = 256 * 2**20
"""Decoded pixels that may wait for the model, besides the current batch."""


@dataclass(frozen=True)
class PredictedBatch:
    """Predictions of B images, in the order of the files."""

    names: list[str]
    reasons: list[str | None]
    """Why an image cannot be read; None if it can."""
    probabilities: npt.NDArray[np.float32]
    """Class probabilities, [B, K]; NaN in the rows of images that cannot be read."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    name: str
    pixels: dict[int, npt.NDArray[np.uint8]]
    reason: str | None = None


def predict_stream(
    predictor: FacePredictor, files: Iterable[ImageFile | ImageInMemory], *, framer: Cropper | None = None
) -> Iterator[PredictedBatch]:
    """Predict images batch by batch; each has its probabilities, or the reason why it cannot be read.

    Args:
        predictor: a model, or several that vote.
        files: the images.
        framer: crops each image to its face (see `framing.cropper_of`); None takes the centered square, and warns if the
            model was trained on cropped faces.
    """
    if framer is None and (
        of_crops := [model.path for model in predictor.checkpoints if isinstance(model.cropping, CropRules)]
    ):
        logger.warning("%s: trained on cropped faces; these images are taken as they are", of_crops[0])
    decoded = decode_ahead(files, predictor.image_sizes, batch_size=predictor.batch_size, framer=framer)
    try:
        while batch := list(islice(decoded, predictor.batch_size)):
            yield _predict(predictor, batch)
    finally:
        decoded.close()


def _predict(predictor: FacePredictor, batch: list[_Decoded]) -> PredictedBatch:
    readable = [image for image in batch if image.reason is None]
    probabilities = np.full((len(batch), predictor.labels.num_classes), np.nan, np.float32)
    if readable:
        pixels = {size: np.stack([image.pixels[size] for image in readable]) for size in predictor.image_sizes}
        probabilities[[image.reason is None for image in batch]] = predictor.predict_sizes(pixels)
    return PredictedBatch([image.name for image in batch], [image.reason for image in batch], probabilities)


def decode_ahead(
    files: Iterable[ImageFile | ImageInMemory], sizes: tuple[int, ...], *, batch_size: int, framer: Cropper | None
) -> Generator[_Decoded, None, None]:
    """Decode images at these sizes, in order; threads decode ahead of the caller in bounded memory."""
    num_threads = min(8, os.cpu_count() or 1)  # Pillow releases the GIL while it decodes
    bytes_per_image = sum(3 * size * size for size in sizes)
    num_ahead = max(num_threads, min(2 * batch_size, MAX_AHEAD_BYTES // bytes_per_image))
    waiting: deque[Future[_Decoded]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decoding")
    try:
        for file in files:
            waiting.append(pool.submit(_decode, file, sizes, framer))
            if len(waiting) > num_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(file: ImageFile | ImageInMemory, sizes: tuple[int, ...], framer: Cropper | None) -> _Decoded:
    if isinstance(file, ImageFile) and file.fault is not None:
        return _Decoded(file.name, {}, file.fault)
    try:
        content = b"" if isinstance(file, ImageInMemory) else _read(file.path)
        min_side = max(sizes) if framer is None else None
        image = upright_rgb(file.image) if isinstance(file, ImageInMemory) else decode_rgb(content, min_side=min_side)
        if framer is None:
            return _Decoded(file.name, {size: square_pixels(image, size=size) for size in sizes})
        framing = framer.locate(image, hashlib.sha256(content or image.tobytes()).hexdigest())
        return _Decoded(file.name, {size: framer.cut(image, framing, size=size) for size in sizes})
    except UnreadableFace as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:  # `open` raises it for a NUL in a path
        reason = "a path cannot hold the character NUL"
    return _Decoded(file.name, {}, reason)


def _read(path: str) -> bytes:
    try:
        status = os.stat(path)  # noqa: PTH116 - faster than Path
    except (NotADirectoryError, FileNotFoundError):  # perhaps inside an archive
        return read_bytes(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would block, a device may never end
        raise UnreadableFace("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadableFace(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    with open(path, "rb") as file:
        return file.read()
