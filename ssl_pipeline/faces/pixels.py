"""Decoded faces of a run, all at one size: a memory-mapped array on disk."""

import hashlib
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import read_bytes
from ssl_pipeline.faces.cropper import Crop, Cropper
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.runs.disk import preallocate
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.profile import part_of_stage
from ssl_pipeline.runs.progress import ProgressBar

_CHUNK = 512
_MAX_THREADS = 32  # Pillow releases the GIL while it decodes, but not while it opens a file


@dataclass(frozen=True)
class Decoded:
    """Results of decoding N images; every list has N entries."""

    content_hash: list[str | None]
    """SHA-256 of the file; None if it cannot be read."""
    reason: list[str | None]
    """Why an image cannot be decoded or has no face to crop; None if it is usable."""
    crop: list[Crop | None]
    """Location of the square; None if the image is not cropped or not usable."""


@dataclass(frozen=True)
class _Row:
    content_hash: str | None = None
    reason: str | None = None
    crop: Crop | None = None


def decode_into(
    path: Path, image_paths: Sequence[str], *, size: int, croppers: Sequence[Cropper | None] | None = None
) -> Decoded:
    """Decode images into one array on disk, in parallel and in bounded memory.

    Args:
        path: ``.npy`` file to write, uint8 [N, size, size, 3]; row i is image i, zeros if it is not usable.
        image_paths: N paths.
        size: side in pixels.
        croppers: N croppers; None for the centered square, see `decoding.square_pixels`.
    """
    decoded: list[_Row] = []
    with (
        atomic_path(path) as partial,
        ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_THREADS)) as pool,
        ProgressBar("decoding", len(image_paths), unit="images") as bar,
    ):
        shape = (len(image_paths), size, size, 3)
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        preallocate(partial)

        def decode(row: int) -> _Row:
            return _decode_row(pixels[row], Path(image_paths[row]), croppers[row] if croppers else None)

        for start in range(0, len(image_paths), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(image_paths)))
            with part_of_stage("decode"):
                decoded.extend(pool.map(decode, rows))
            bar.advance(len(rows))
        pixels.flush()
    return Decoded(
        [row.content_hash for row in decoded], [row.reason for row in decoded], [row.crop for row in decoded]
    )


def _decode_row(square: npt.NDArray[np.uint8], path: Path, cropper: Cropper | None) -> _Row:
    """Decode one image into its row, uint8 [size, size, 3]."""
    try:
        content = read_bytes(path)
    except OSError as error:
        return _Row(reason=error.strerror or str(error))
    content_hash = hashlib.sha256(content).hexdigest()
    try:
        image = decode_rgb(content, min_side=len(square) if cropper is None else None)
        if cropper is None:
            square[:] = square_pixels(image, size=len(square))
            return _Row(content_hash)
        crop = cropper.locate(image, content_hash)
    except UnreadableFace as error:
        return _Row(content_hash, str(error))
    square[:] = cropper.cut(image, crop, size=len(square))
    return _Row(content_hash, crop=crop)


def open_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Memory-map the array that `decode_into` wrote, read-only.

    Raises:
        FaceTableError: if the file is missing or damaged.
    """
    try:
        pixels: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FaceTableError(f"{path}: cannot be read ({error}); delete its folder and run again") from None
    return pixels


def mapped_file(pixels: npt.NDArray[np.uint8]) -> Path | None:
    """Return the file of an array that `open_pixels` mapped as a whole; None for any other array."""
    if isinstance(pixels, np.memmap) and isinstance(pixels.base, mmap.mmap) and pixels.filename is not None:
        return Path(pixels.filename)
    return None
