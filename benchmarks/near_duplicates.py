"""How long does it take to find the near duplicates among a million pictures, once they are hashed?

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
    like: Annotated[
        float, typer.Option(help="How alike pictures are: a bit's chance to be as in the mean one.")
    ] = 0.75,
) -> None:
    """Hash nothing: draw hashes as alike as aligned faces' are, one in a hundred a near copy of another; time the search."""
    rng = np.random.default_rng(0)
    mean = rng.random(256) < 0.5
    hashes = np.zeros((num_pictures, 4), dtype=np.uint64)
    for start in range(0, num_pictures, 100_000):
        number = min(100_000, num_pictures - start)
        bits = (rng.random((number, 256), dtype=np.float32) < like) == mean
        hashes[start : start + number] = np.packbits(bits, axis=1).view(np.uint64)
    copies = rng.choice(num_pictures // 2, num_pictures // 100, replace=False)
    bits = np.unpackbits(hashes[copies].view(np.uint8), axis=1)
    for row in bits:
        row[rng.choice(256, rng.integers(0, MAX_DISTANCE + 1), replace=False)] ^= 1
    hashes[num_pictures // 2 : num_pictures // 2 + len(copies)] = np.packbits(bits, axis=1).view(np.uint64)
    started = time.perf_counter()
    pairs = near_pairs(hashes, max_distance=MAX_DISTANCE)
    seconds = time.perf_counter() - started
    asked = {(int(copy), num_pictures // 2 + place) for place, copy in enumerate(copies)}
    found = asked & {(int(one), int(other)) for one, other in pairs}
    print(f"{num_pictures:,} hashes, at most {MAX_DISTANCE} of 256 bits apart: {seconds:.1f} s on one thread")
    print(f"{len(found):,} of {len(asked):,} near copies found; {len(pairs):,} pairs in all")


if __name__ == "__main__":
    typer.run(main)
