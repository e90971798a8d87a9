"""Speed and memory of streamed selection over a hundred million faces.

    python -m benchmarks.selection --rows 100000000

Confidences (float32) and labels (uint8) are generated into files in a temporary folder (5 bytes per row), then read in
chunks, once to choose the thresholds and once to select. Strategies: fixed threshold, top-k and guaranteed precision.
Each line gives the accepted rows, the seconds and the rows per second; the last line gives the peak of resident memory,
with and without the pages of the mapped files. Linux only: peaks are read from /proc.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ssl_pipeline.labels import BoolArray
from ssl_pipeline.pseudo_labels.precision_guarantee import count_right, faces_needed, fixed_sequence, threshold_grid
from ssl_pipeline.pseudo_labels.streaming import ColumnPool, at_least, count_columns, top_k_cutoffs, within_cutoffs

NUM_VALUES, TARGET, DELTA = 18, 0.9, 0.1
CHUNK = 1 << 20


def main(
    rows: Annotated[int, typer.Option(help="Faces in the pool.")] = 100_000_000,
    held_out: Annotated[int, typer.Option(help="Held-out labeled faces.")] = 20_000,
    k: Annotated[int, typer.Option(help="Faces per value, for top-k.")] = 100_000,
) -> None:
    """Print a line per strategy."""
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        pool = generate(Path(name), rows)
        print(f"{rows:,} rows of {NUM_VALUES} values generated in {time.perf_counter() - started:.1f} s")
        print(f"{'strategy':20} {'accepted':>12} {'seconds':>8} {'rows/s':>12}")
        measure("fixed threshold", rows, lambda: at_least(pool, np.full(NUM_VALUES, 0.95)))
        measure("balanced top-k", rows, lambda: within_cutoffs(pool, top_k_cutoffs(pool, k=k, num_values=NUM_VALUES)))
        measure("guaranteed precision", rows, lambda: at_least(pool, guaranteed_thresholds(pool, rows, held_out)))
        status = Path("/proc/self/status").read_text()
        peak, anonymous = (int(re.findall(rf"{key}:\s*(\d+)", status)[0]) / 2**20 for key in ("VmHWM", "RssAnon"))
        print(f"peak memory {peak:.2f} GiB, of that now without mapped files {anonymous:.2f} GiB")


def generate(directory: Path, rows: int) -> ColumnPool:
    """Write two columns: labels of unequal frequency, and confidences, most of them near 1."""
    shares = np.arange(1, NUM_VALUES + 1) / np.arange(1, NUM_VALUES + 1).sum()
    labels_by_share = np.repeat(np.arange(NUM_VALUES, dtype=np.uint8), np.round(shares * 4096).astype(int))
    for start in range(0, rows, CHUNK):
        rng = np.random.default_rng([0, start])
        num_rows = min(CHUNK, rows - start)
        with open(directory / "confidence", "ab") as confidence, open(directory / "labels", "ab") as labels:
            confidence.write(sample_confidence(rng, num_rows).tobytes())
            labels.write(labels_by_share[rng.integers(0, len(labels_by_share), num_rows)].tobytes())
    confidences = np.memmap(directory / "confidence", np.float32, mode="r")
    return ColumnPool(confidences, np.memmap(directory / "labels", np.uint8, mode="r"), rows_at_once=CHUNK)


def sample_confidence(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    """Sample 1 - 0.9 u³ for uniform u, float32."""
    return np.float32(1) - np.float32(0.9) * rng.random(num_rows, dtype=np.float32) ** 3


def guaranteed_thresholds(pool: ColumnPool, rows: int, num_held_out: int) -> np.ndarray:
    """Return the thresholds for a calibrated teacher, float [V]; infinite where nothing can be guaranteed."""
    rng = np.random.default_rng(1)
    confidence = sample_confidence(rng, num_held_out).astype(np.float64).round(7)
    labels, right = rng.integers(0, NUM_VALUES, num_held_out), rng.random(num_held_out) < confidence
    counts = count_columns(pool, num_values=NUM_VALUES)
    thresholds = np.full(NUM_VALUES, np.inf)
    for value in range(NUM_VALUES):
        grid = threshold_grid(
            counts[value],
            unseen_per_pool_face=num_held_out / rows,
            least=faces_needed(TARGET, DELTA),
            num_thresholds=20,
        )
        has_value = labels == value
        last = int(
            fixed_sequence(*count_right(confidence[has_value], right[has_value], grid), target=TARGET, delta=DELTA)
        )
        if last >= 0:
            thresholds[value] = grid[last]
    return thresholds


def measure(name: str, rows: int, select: Callable[[], Iterable[BoolArray]]) -> None:
    """Time a selection, all passes over the pool included."""
    started = time.perf_counter()
    num_accepted = sum(int(accepted.sum()) for accepted in select())
    seconds = time.perf_counter() - started
    print(f"{name:20} {num_accepted:12,} {seconds:8.1f} {rows / seconds:12,.0f}")


if __name__ == "__main__":
    typer.run(main)
