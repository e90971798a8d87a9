"""Peak memory and processor time of labeling, resuming, selecting and merging, per face of the pool; writes a part of docs/scaling.md.

    python -m benchmarks.pool_growth

Random faces of 64 pixels, a small network of 18 classes with random weights, half of the faces with a known gender. Each
step runs in its own process, from files to files as in a run: labeling reads the stored pixels and writes shards of
predictions, resuming finds them all; selecting reads face table and predictions, and writes and summarizes the manifest;
merging reads the manifest and writes the training table. Memory is the process's own (without the pages of mapped files,
which the system takes back when it needs them), above its size before the first file is read. Linux only: it is read from
/proc.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.execution.shards import IN_PROCESS
from ssl_pipeline.faces.table import FacesInOrder, read_faces, write_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import predict_shards, read_shards
from ssl_pipeline.pseudo_labels.manifest_columns import FACE_COLUMNS
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity, open_manifest
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.merging import merge, pool_columns, write_training_table
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.summary import summarize

LABELS = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["m", "f"], "age": ["<30", "30-59", ">=60"]})
_FACES_OF_SHARD, _IMAGE_SIZE = 4096, 64


class PeakMemory(threading.Thread):
    """The peak of this process's anonymous memory, looked at fifty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first = self.peak = self._now()
        self.start()

    def run(self) -> None:  # noqa: D102 - of Thread
        while True:
            time.sleep(0.02)
            self.peak = max(self.peak, self._now())

    def growth(self) -> int:
        """Return the bytes between the first look and the peak."""
        return max(self.peak, self._now()) - self.first

    def _now(self) -> int:
        found = re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
        assert found is not None
        return 1024 * int(found[1])


def write_pool(directory: Path, num_faces: int) -> None:
    """Write a pool's face table and pixels, and a network."""
    rng, codes = np.random.default_rng(0), np.full((num_faces, 3), -1)
    codes[::2, 1] = 0
    ids = pd.Series([f"pool:folder/picture-{number:09d}.jpg" for number in range(num_faces)], dtype="str")
    table = pd.DataFrame(dict.fromkeys(("image_id", "image_path", "person_id", "picture_id"), ids))
    table = table.assign(content_hash=[f"{number:064x}" for number in range(num_faces)], source="pool", origin="north")
    table = table.assign(split="unlabeled", derived=None, age_years=None, pixel_row=np.arange(num_faces))
    write_faces(directory / "unlabeled.parquet", pd.concat([table, LABELS.decode(codes)], axis=1), LABELS)
    shape = (num_faces, _IMAGE_SIZE, _IMAGE_SIZE, 3)
    pixels = np.lib.format.open_memmap(directory / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, num_faces, _FACES_OF_SHARD):
        part = pixels[start : start + _FACES_OF_SHARD]
        part[:] = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
    torch.manual_seed(0)
    config = ModelConfig(architecture="wrn10_1", input_size=16)
    model = build_model(config, labels=LABELS, image_size=_IMAGE_SIZE)
    with torch.no_grad():  # probabilities that differ between faces
        classifier: Any = model.backbone.classifier
        classifier.weight.mul_(100)
    save_checkpoint(directory / "best.safetensors", model, model_config=config, image_size=_IMAGE_SIZE, cropping=None)


def label(directory: Path) -> None:
    """Predict every face that has no prediction yet."""
    predictor = CheckpointPredictor.load(directory / "best.safetensors", PredictionConfig(), device="cpu")
    faces = read_faces(directory / "unlabeled.parquet", ["image_id", "pixel_row"])
    pixels = np.load(directory / "pixels.npy", mmap_mode="r")
    predict_shards(
        predictor, faces, pixels, shard_size=_FACES_OF_SHARD, identity="a", directory=directory, execution=IN_PROCESS
    )


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


STEPS: dict[str, Callable[[Path], None]] = {
    "label": label,
    "label again": label,
    "select": select_labels,
    "merge": merge_labels,
}


def measure(step: str, directory: Path) -> str:
    """Run a step in a new process and return its peak memory in bytes and its processor seconds."""
    command = [sys.executable, "-m", "benchmarks.pool_growth", "--only", step, "--directory", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(
    faces: Annotated[str, typer.Option(help="Numbers of faces, separated by commas.")] = "10000,100000,1000000",
    only: Annotated[str | None, typer.Option(help="Run this step in this process and print its figures.")] = None,
    directory: Annotated[Path, typer.Option(help="Where the step's files are.")] = Path(),
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/scaling.md"),
) -> None:
    """Measure each number of faces and write the table."""
    if only is not None:
        watched, started = PeakMemory(), time.process_time()
        STEPS[only](directory)
        print(watched.growth(), time.process_time() - started)
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
        f"`python -m benchmarks.pool_growth --faces {faces}`, 18 classes:",
        "",
        *markdown_table(
            ["faces of the pool", "step", "peak memory", "per face", "processor time per face"], "rlrrr", rows
        ),
        "",
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads. Most of the smaller figures is the start of torch and one "
        f"shard or group of rows, whatever the pool's size. Between the two largest pools, each further face takes {of_each}: "
        f"10⁷ faces want about {max(further.values()) / 100:,.0f} GB.",
    ]
    replace_section(out, "pool-growth", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    typer.run(main)
