"""Near-duplicate pictures, e.g. saved again at another quality, by perceptual hashes.

Shapes: N pictures, P pairs.
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
_MARGIN = 2.0  # gray levels; without it compression noise determines the bits of uniform backgrounds
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def perceptual_hashes(pixels: PixelArray, rows: IntArray) -> Hashes:
    """Hash pictures by whether each of 16 × 16 cells is clearly brighter than its left neighbor (dHash, Krawetz 2013).

    Saving a picture again (JPEG of quality 50, half the size, gray, less contrast) changes a few of the 256 bits; aligned
    faces of different people differ in at least 25. A crop shifted by 2 % is a different picture.

    Args:
        pixels: uint8 [M, S, S, 3], S ≥ 17.
        rows: rows of the pictures to hash, int [N].

    Returns:
        uint64 [N, 4].
    """
    hashes = np.zeros((len(rows), _NUM_BITS // 64), dtype=np.uint64)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        cells = _average_cells(pixels[chunk].astype(np.float32) @ _LUMA)
        brighter = (cells[:, :, 1:] > cells[:, :, :-1] + _MARGIN).reshape(len(chunk), _NUM_BITS)
        hashes[start : start + len(chunk)] = np.packbits(brighter, axis=1).view(np.uint64)
    return hashes


def _average_cells(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average [n, S, S] over a grid of 16 × 17 cells of similar size, [n, 16, 17]."""
    size = gray.shape[1]
    rows, columns = (np.linspace(0, size, number + 1).round().astype(int) for number in (_SIDE, _SIDE + 1))
    sums = np.add.reduceat(np.add.reduceat(gray, rows[:-1], axis=1), columns[:-1], axis=2)
    return np.asarray(sums / (np.diff(rows)[:, None] * np.diff(columns)[None, :]), dtype=np.float32)


def near_pairs(hashes: Hashes, *, max_distance: int) -> IntArray:
    """Find all pairs of hashes that differ in at most `max_distance` bits; equal hashes are paired with the first only.

    A hash with at most `max_distance` bits set is as near to a blank picture as to its neighbors, so it is paired with none.

    Exact, without comparing all pairs: a near pair agrees in at least one of `max_distance` + 1 bands of bits
    (multi-index hashing, Norouzi et al., arXiv:1307.2982). A band is every n-th bit, since neighboring bits correlate.

    Args:
        hashes: uint64 [N, 4].
        max_distance: in bits, 0 … 32.

    Returns:
        Indices, int [P, 2], the smaller index first, sorted.
    """
    textured = np.flatnonzero(np.bitwise_count(hashes).sum(axis=1) > max_distance)
    return np.asarray(textured[_near_pairs(hashes[textured], max_distance)], dtype=np.int64)


def _near_pairs(hashes: Hashes, max_distance: int) -> IntArray:
    distinct, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    indices = np.arange(len(hashes))
    repeated = indices[first[inverse] != indices]
    pairs_by_band = [np.stack([first[inverse[repeated]], repeated], axis=1)]
    bits = np.unpackbits(distinct.view(np.uint8).reshape(len(distinct), _NUM_BITS // 8), axis=1)
    for band in range(max_distance + 1) if max_distance else ():
        keys = _band_keys(bits[:, band :: max_distance + 1])
        pairs_by_band.extend(first[pairs] for pairs in _near_pairs_by_key(distinct, keys, max_distance))
    pairs = np.sort(np.concatenate(pairs_by_band), axis=1)
    return np.asarray(np.unique(pairs, axis=0), dtype=np.int64)


def _band_keys(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Pack the first 64 bits of each hash's band into a key; candidates are checked by distance anyway."""
    packed = np.packbits(bits[:, :64], axis=1)
    padded = np.zeros((len(bits), 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)[:, 0]


def _near_pairs_by_key(hashes: Hashes, keys: npt.NDArray[np.uint64], max_distance: int) -> Iterator[IntArray]:
    """Yield the near pairs among hashes with equal keys, int [p, 2] at a time."""
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


def merge_pictures(ids: Sequence[str], pairs: IntArray) -> list[str]:
    """Give near duplicates, directly or through others, the same id: the smallest of their ids.

    Args:
        ids: N ids, equal for equal files.
        pairs: indices of near duplicates, int [P, 2].
    """
    distinct, nodes = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
    edges = (np.ones(len(pairs)), (nodes[pairs[:, 0]], nodes[pairs[:, 1]]))
    _, component = connected_components(coo_array(edges, shape=(len(distinct), len(distinct))), directed=False)
    _, first = np.unique(component, return_index=True)
    return [str(picture_id) for picture_id in distinct[first][component][nodes]]
