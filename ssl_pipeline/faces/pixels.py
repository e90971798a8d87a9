"""Faces decoded once, at the size at which every model of a run sees them: one array on disk, mapped into memory."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.cropper import Crop, Cropper
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.runs.disk import preallocate
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.progress import ProgressBar

_NUM_THREADS, _CHUNK = 4, 512  # Pillow lets other threads run while it decodes


@dataclass(frozen=True)
class Decoded:
    """What decoding N images came to; every list has N entries."""

    content_hash: list[str | None]
    """SHA-256 of the file's bytes; None where there are none to be had."""
    reason: list[str | None]
    """Why an image cannot be read, or has no face to crop to; None where it can be used."""
    framing: list[Crop | None]
    """Where its square lies; None where the image is not cropped or cannot be used."""


@dataclass(frozen=True)
class _Row:
    content_hash: str | None = None
    reason: str | None = None
    framing: Crop | None = None


def decode_into(
    path: Path, image_paths: Sequence[str], *, size: int, framers: Sequence[Cropper | None] | None = None
) -> Decoded:
    """Decode images into one array on disk, in parallel and in bounded memory.

    Args:
        path: the ``.npy`` file to write, uint8 [N, size, size, 3]; row i is image i, zeros where it cannot be read.
        image_paths: N paths.
        size: side in pixels; see `decoding.square_pixels`.
        framers: N, what crops each image to its face; None takes its centered square.
    """
    done: list[_Row] = []
    with (
        atomic_path(path) as beside,
        ThreadPoolExecutor(_NUM_THREADS) as pool,
        ProgressBar("decoding", len(image_paths), unit="images") as bar,
    ):
        shape = (len(image_paths), size, size, 3)
        pixels = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        preallocate(beside)

        def decode(row: int) -> _Row:
            return _decode_row(pixels[row], Path(image_paths[row]), framers[row] if framers else None)

        for start in range(0, len(image_paths), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(image_paths)))
            done.extend(pool.map(decode, rows))
            bar.advance(len(rows))
        pixels.flush()
    return Decoded([row.content_hash for row in done], [row.reason for row in done], [row.framing for row in done])


def _decode_row(square: npt.NDArray[np.uint8], path: Path, framer: Cropper | None) -> _Row:
    """Decode one image into its place, uint8 [size, size, 3]."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return _Row(reason=error.strerror or str(error))
    content_hash = hashlib.sha256(content).hexdigest()
    try:
        image = decode_rgb(content)
        if framer is None:
            square[:] = square_pixels(image, size=len(square))
            return _Row(content_hash)
        framing = framer.locate(image, content_hash)
    except UnreadableFace as error:
        return _Row(content_hash, str(error))
    square[:] = framer.cut(image, framing, size=len(square))
    return _Row(content_hash, framing=framing)


def open_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Map what `decode_into` wrote, read-only.

    Raises:
        FaceTableError: if it is missing or damaged.
    """
    try:
        pixels: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FaceTableError(f"{path}: cannot be read ({error}); delete its folder and run again") from None
    return pixels
