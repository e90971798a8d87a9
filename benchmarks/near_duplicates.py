"""The speed of the near-duplicate search among a million hashed pictures.

python -m benchmarks.near_duplicates
"""

import time
from typing import Annotated

import numpy as np
import typer

from ssl_pipeline.faces.near_duplicates import near_pairs

MAX_DISTANCE = 12


def main(
    num_pictures: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    similarity: Annotated[
        float, typer.Option(help="Probability that a bit equals that of the mean hash; random hashes have 0.5.")
    ] = 0.75,
) -> None:
    """Draw random hashes as similar as those of aligned faces, one in a hundred a near copy; time the search."""
    rng = np.random.default_rng(0)
    mean_hash = rng.random(256) < 0.5
    hashes = np.zeros((num_pictures, 4), dtype=np.uint64)
    for start in range(0, num_pictures, 100_000):
        num_hashes = min(100_000, num_pictures - start)
        bits = (rng.random((num_hashes, 256), dtype=np.float32) < similarity) == mean_hash
        hashes[start : start + num_hashes] = np.packbits(bits, axis=1).view(np.uint64)
    originals = rng.choice(num_pictures // 2, num_pictures // 100, replace=False)
    bits = np.unpackbits(hashes[originals].view(np.uint8), axis=1)
    for row in bits:  # a copy differs in a few bits
        row[rng.choice(256, rng.integers(0, MAX_DISTANCE + 1), replace=False)] ^= 1
    hashes[num_pictures // 2 : num_pictures // 2 + len(originals)] = np.packbits(bits, axis=1).view(np.uint64)
    started = time.perf_counter()
    pairs = near_pairs(hashes, max_distance=MAX_DISTANCE)
    seconds = time.perf_counter() - started
    expected = {(int(original), num_pictures // 2 + index) for index, original in enumerate(originals)}
    found = expected & {(int(first), int(second)) for first, second in pairs}
    print(f"{num_pictures:,} hashes, at most {MAX_DISTANCE} of 256 bits apart: {seconds:.1f} s on one thread")
    print(f"{len(found):,} of {len(expected):,} near copies found; {len(pairs):,} pairs in all")


if __name__ == "__main__":
    typer.run(main)
