"""Peak memory of selecting pseudo-labels and writing their manifest, per face of the pool; writes a part of docs/scaling.md.

    python -m benchmarks.manifest_memory

Each number of faces runs in its own process, with random probabilities over 18 classes, half of the faces with a known
gender. The figures are the process's peak resident memory above its size before the arrays exist. Linux only: the peak is
read from /proc.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity
from ssl_pipeline.pseudo_labels.selection import select

LABELS = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["m", "f"], "age": ["<30", "30-59", ">=60"]})


def peak_bytes() -> int:
    """Return this process's peak resident memory."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return 1024 * int(found[1])


def measure(num_faces: int) -> int:
    """Select from random predictions, write the manifest, and return the bytes that this took at its peak."""
    before, rng = peak_bytes(), np.random.default_rng(0)
    logits = 3 * rng.standard_normal((num_faces, LABELS.num_classes), dtype=np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = np.full((num_faces, 3), -1)
    codes[::2, 1] = 0
    ids = pd.Series([f"pool:folder/picture-{number:09d}.jpg" for number in range(num_faces)], dtype="str")
    identity = dict.fromkeys(("image_id", "image_path", "content_hash", "person_id", "picture_id"), ids)
    config = FixedThreshold(type="fixed_threshold", confidence_threshold=0.7)
    selection = select(probabilities, codes, labels=LABELS, config=config, image_ids=ids)
    table = build_manifest(
        pd.DataFrame(identity).assign(source="pool", derived=None),
        selection,
        labels=LABELS,
        unreadable=pd.DataFrame({"source": [], "image_id": [], "image_path": [], "reason": []}),
        identity=ManifestIdentity("memory", 1, "faces", "teacher", "selection"),
        targets="soft",
        settings=config.model_dump(mode="json"),
    )
    with tempfile.TemporaryDirectory() as directory:
        write_manifest(Path(directory) / "manifest.parquet", table)
    return peak_bytes() - before


def main(
    faces: Annotated[str, typer.Option(help="Numbers of faces, separated by commas.")] = "50000,200000",
    only: Annotated[int | None, typer.Option(help="Measure this number in this process and print the bytes.")] = None,
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/scaling.md"),
) -> None:
    """Measure each number of faces in a new process and write the table."""
    if only is not None:
        print(measure(only))
        return
    rows = []
    for num_faces in map(int, faces.split(",")):
        command = [sys.executable, "-m", "benchmarks.manifest_memory", "--only", str(num_faces)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append([f"{num_faces:,}", f"{peak / 2**20:,.0f} MiB", f"{peak / num_faces / 1000:.1f} kB"])
    per_face = float(rows[-1][-1].split()[0])
    text = [
        f"`python -m benchmarks.manifest_memory --faces {faces}`, 18 classes:",
        "",
        *markdown_table(["faces of the pool", "peak of selecting and writing", "per face"], "rrr", rows),
        "",
        f"At the last figure, 10⁷ faces want {10 * per_face:,.0f} GB and 10⁸ faces {100 * per_face:,.0f} GB.",
    ]
    replace_section(out, "manifest-memory", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    typer.run(main)
