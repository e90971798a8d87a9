"""The same picture saved twice: found by perceptual hashes, without comparing all pairs.

Shapes: N pictures, P pairs of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.labels import IntArray

Hashes = npt.NDArray[np.uint64]
PixelArray = npt.NDArray[np.uint8]

_SIDE, _NUM_BITS = 16, 256
_CHUNK = 1024
_MARGIN = 2.0  # gray levels: without it the noise of a new save decides over even backgrounds
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def perceptual_hashes(pixels: PixelArray, rows: IntArray) -> Hashes:
    """Hash pictures by whether each of 16 × 16 fields is clearly brighter than its left neighbor (dHash, Krawetz 2013).

    What saves a picture anew (JPEG of quality 50, half the size, gray, less contrast) changes a few of the 256 bits; two
    aligned faces of different people differ in 25 and more. A crop that is off by 2 % is another picture to it.

    Args:
        pixels: uint8 [M, S, S, 3], S ≥ 17.
        rows: int [N], which of them.

    Returns:
        uint64 [N, 4].
    """
    hashes = np.zeros((len(rows), _NUM_BITS // 64), dtype=np.uint64)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        fields = _fields(pixels[chunk].astype(np.float32) @ _LUMA)
        brighter = (fields[:, :, 1:] > fields[:, :, :-1] + _MARGIN).reshape(len(chunk), _NUM_BITS)
        hashes[start : start + len(chunk)] = np.packbits(brighter, axis=1).view(np.uint64)
    return hashes


def _fields(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average [n, S, S] over 16 rows and 17 columns of fields as equal as can be, [n, 16, 17]."""
    size = gray.shape[1]
    down, across = (np.linspace(0, size, number + 1).round().astype(int) for number in (_SIDE, _SIDE + 1))
    sums = np.add.reduceat(np.add.reduceat(gray, down[:-1], axis=1), across[:-1], axis=2)
    return np.asarray(sums / (np.diff(down)[:, None] * np.diff(across)[None, :]), dtype=np.float32)


def near_pairs(hashes: Hashes, *, max_distance: int) -> IntArray:
    """Find all pairs of hashes that differ in at most `max_distance` bits; of equal ones, each with the first.

    Exact, without comparing all pairs: of `max_distance` + 1 bands of bits, a near pair agrees in one at least
    (multi-index hashing, Norouzi et al., arXiv:1307.2982). Bands take every so manieth bit, as neighbors say the same.

    Args:
        hashes: uint64 [N, 4].
        max_distance: in bits, 0 … 32.

    Returns:
        int [P, 2], the smaller number first, ascending.
    """
    distinct, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    places = np.arange(len(hashes))
    again = places[first[inverse] != places]
    found = [np.stack([first[inverse[again]], again], axis=1)]
    bits = np.unpackbits(distinct.view(np.uint8).reshape(len(distinct), _NUM_BITS // 8), axis=1)
    for band in range(max_distance + 1) if max_distance else ():
        found.extend(
            first[pairs] for pairs in _agreeing(distinct, _keys(bits[:, band :: max_distance + 1]), max_distance)
        )
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.asarray(np.unique(pairs, axis=0), dtype=np.int64)


def _keys(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Number the band of each hash by up to 64 of its bits; fewer would only cost time."""
    packed = np.packbits(bits[:, :64], axis=1)
    padded = np.zeros((len(bits), 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)[:, 0]


def _agreeing(hashes: Hashes, keys: npt.NDArray[np.uint64], max_distance: int) -> Iterator[IntArray]:
    """Give the near pairs among hashes with the same key, int [p, 2] at a time."""
    order = np.argsort(keys, kind="stable")
    ordered, ends = hashes[order], np.searchsorted(keys[order], keys[order], side="right")
    active, lag = np.arange(len(order)), 1
    while len(active := active[active + lag < ends[active]]):
        distances = np.bitwise_count(ordered[active] ^ ordered[active + lag]).sum(axis=1)
        near = active[distances <= max_distance]
        if len(near):
            yield np.stack([order[near], order[near + lag]], axis=1)
        lag += 1


def picture_ids(faces: pd.DataFrame, pixels: Path, config: FacesConfig) -> list[str]:
    """Return the id of the picture that each face shows: equal for equal files and, if configured, near duplicates."""
    hashes = faces["content_hash"].tolist()
    if config.near_duplicates is None:
        return hashes
    perceptual = perceptual_hashes(open_pixels(pixels), faces["pixel_row"].to_numpy(np.int64))
    return merge_pictures(hashes, near_pairs(perceptual, max_distance=config.near_duplicates.max_distance))


def merge_pictures(names: Sequence[str], pairs: IntArray) -> list[str]:
    """Name each picture by the first of those that are the same, directly or through others.

    Args:
        names: N, equal for equal files.
        pairs: int [P, 2], near ones.
    """
    values, places = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    edges = (np.ones(len(pairs)), (places[pairs[:, 0]], places[pairs[:, 1]]))
    _, component = connected_components(coo_array(edges, shape=(len(values), len(values))), directed=False)
    _, first = np.unique(component, return_index=True)
    return [str(name) for name in values[first][component][places]]
