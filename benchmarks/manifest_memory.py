"""Peak memory and processor time of selecting pseudo-labels and of merging them, per face of the pool; writes a part of docs/scaling.md.

    python -m benchmarks.manifest_memory

Random predictions over 18 classes, half of the faces with a known gender. Each step runs in its own process, from files to
files as in a run: selecting reads face table and predictions, and writes and summarizes the manifest; merging reads the
manifest and writes the training table. The figures are the process's peak resident memory above its size before it reads
the first file. Linux only: the peak is read from /proc.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.faces.table import FacesInOrder, read_faces, write_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.shard_prediction import read_shards, write_shard
from ssl_pipeline.pseudo_labels.manifest_columns import FACE_COLUMNS
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity, open_manifest
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.merging import merge, pool_columns, write_training_table
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.summary import summarize

LABELS = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["m", "f"], "age": ["<30", "30-59", ">=60"]})
_FACES_OF_SHARD = 4096


def peak_bytes() -> int:
    """Return this process's peak resident memory."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return 1024 * int(found[1])


def write_pool(directory: Path, num_faces: int) -> None:
    """Write a pool's face table and the shards of random predictions."""
    rng, codes = np.random.default_rng(0), np.full((num_faces, 3), -1)
    codes[::2, 1] = 0
    ids = pd.Series([f"pool:folder/picture-{number:09d}.jpg" for number in range(num_faces)], dtype="str")
    table = pd.DataFrame(dict.fromkeys(("image_id", "image_path", "person_id", "picture_id"), ids))
    table = table.assign(content_hash=[f"{number:064x}" for number in range(num_faces)], source="pool", origin="north")
    table = table.assign(split="unlabeled", derived=None, age_years=None, pixel_row=np.arange(num_faces))
    write_faces(directory / "unlabeled.parquet", pd.concat([table, LABELS.decode(codes)], axis=1), LABELS)
    for start in range(0, num_faces, _FACES_OF_SHARD):
        shard = ids[start : start + _FACES_OF_SHARD].tolist()
        likelihoods = np.exp(3 * rng.standard_normal((len(shard), LABELS.num_classes), dtype=np.float32))
        probabilities = likelihoods / likelihoods.sum(axis=1, keepdims=True)
        write_shard(directory / f"part-{start // _FACES_OF_SHARD:05d}.parquet", shard, probabilities, "random")


def select_labels(directory: Path) -> None:
    """Select from the predictions, write the manifest and summarize it."""
    path = directory / "unlabeled.parquet"
    pool = read_faces(path, ["image_id", "origin", *LABELS.names])
    config = FixedThreshold(type="fixed_threshold", confidence_threshold=0.7)
    probabilities = read_shards(directory, pool)
    selection = select(probabilities, LABELS.encode(pool), labels=LABELS, config=config, image_ids=pool["image_id"])
    tables = build_manifest(
        pool,
        selection,
        labels=LABELS,
        unreadable=pd.DataFrame({"source": [], "image_id": [], "image_path": [], "reason": []}),
        identity=ManifestIdentity("memory", 1, "faces", "teacher", "selection"),
        targets="soft",
        settings=config.model_dump(mode="json"),
        read_rows=FacesInOrder(path, FACE_COLUMNS).take,
    )
    write_manifest(directory / "manifest.parquet", tables)
    summarize(open_manifest(directory / "manifest.parquet"))


def merge_labels(directory: Path) -> None:
    """Write the training table of the manifest's accepted and known labels."""

    def merged() -> pd.DataFrame:
        pool = read_faces(directory / "unlabeled.parquet", pool_columns(LABELS))
        return merge(pool[:0], pool, open_manifest(directory / "manifest.parquet"), labels=LABELS)

    write_training_table(directory / "training.parquet", merged())


STEPS: dict[str, Callable[[Path], None]] = {"select": select_labels, "merge": merge_labels}


def measure(step: str, directory: Path) -> str:
    """Run a step in a new process and return its peak memory in bytes and its processor seconds."""
    command = [sys.executable, "-m", "benchmarks.manifest_memory", "--only", step, "--directory", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(
    faces: Annotated[str, typer.Option(help="Numbers of faces, separated by commas.")] = "100000,400000",
    only: Annotated[str | None, typer.Option(help="Run this step in this process and print its figures.")] = None,
    directory: Annotated[Path, typer.Option(help="Where the step's files are.")] = Path(),
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/scaling.md"),
) -> None:
    """Measure each number of faces and write the table."""
    if only is not None:
        before, started = peak_bytes(), time.process_time()
        STEPS[only](directory)
        print(peak_bytes() - before, time.process_time() - started)
        return
    rows, peaks = [], {step: [(0, 0.0)] for step in STEPS}
    for num_faces in map(int, faces.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write_pool(Path(folder), num_faces)
            for step in STEPS:
                peak, seconds = map(float, measure(step, Path(folder)).split())
                peaks[step].append((num_faces, peak))
                memory = [f"{peak / 2**20:,.0f} MiB", f"{peak / num_faces:,.0f} B"]
                rows.append([f"{num_faces:,}", f"`{step}`", *memory, f"{1e6 * seconds / num_faces:.0f} µs"])
    further = {step: (found[-1][1] - found[-2][1]) / (found[-1][0] - found[-2][0]) for step, found in peaks.items()}
    of_each = ", ".join(f"{number:,.0f} B in `{step}`" for step, number in further.items())
    text = [
        f"`python -m benchmarks.manifest_memory --faces {faces}`, 18 classes:",
        "",
        *markdown_table(
            ["faces of the pool", "step", "peak memory", "per face", "processor time per face"], "rlrrr", rows
        ),
        "",
        f"Most of the smaller figures is one group of rows, whatever the pool's size. Each further face takes {of_each}: 10⁷ "
        f"faces want about {max(further.values()) / 100:,.0f} GB.",
    ]
    replace_section(out, "manifest-memory", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    typer.run(main)
