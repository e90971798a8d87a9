"""Peak memory of `ssl-pipeline predict` over few and many images.

    python -m benchmarks.predict_memory

A few drawn faces are hard-linked many times, into nested folders and into one flat folder. Each prediction runs in its
own process, with a tiny network of random weights. The figures are the peak resident memory of that process, and images
per second including start-up. Linux only: the peak is read from /proc.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
NUM_FACES, SIZE, NAMES_IN_FOLDER = 200, 32, 1000
# not getrusage: its peak survives exec, so it would include this process
COMMAND = """
import re, sys
from pathlib import Path
from ssl_pipeline.cli.main import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


def main(
    few: Annotated[int, typer.Option(help="Images of the smaller prediction.")] = 10_000,
    many: Annotated[int, typer.Option(help="Images of the larger one.")] = 100_000,
    suffix: Annotated[str, typer.Option(help="Of the table: .csv or .parquet.")] = ".parquet",
) -> None:
    """Print a line for each folder and number of images, then the ratios."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw_faces(root / "faces")
        model_config = ModelConfig(architecture="wrn10_1")
        model = build_model(model_config, labels=SPACE, image_size=SIZE)
        save_checkpoint(root / "best.safetensors", model, model_config=model_config, image_size=SIZE, cropping=None)
        print(f"{'folder':8} {'images':>9} {'peak MiB':>9} {'images/s':>9}")
        for layout in ("nested", "flat"):
            peaks = []
            for count in (few, many):
                images = root / f"{layout}-{count}"
                link_faces(root / "faces", images, count, nested=layout == "nested")
                peak, seconds = measure(root / "best.safetensors", images, root / f"out{suffix}")
                peaks.append(peak)
                print(f"{layout:8} {count:>9,} {peak:>9.1f} {count / seconds:>9,.0f}", flush=True)
            print(f"{layout:8} ratio of peaks {peaks[1] / peaks[0]:.3f}", flush=True)


def draw_faces(folder: Path) -> None:
    """Draw the faces to link."""
    folder.mkdir()
    people = sample_people(NUM_FACES, population="home", seed=0)
    for number, face in enumerate(sample_faces(people, images_per_person=1, seed=0)):
        draw_face(face, size=48).save(folder / f"{number}.jpg")


def link_faces(faces: Path, folder: Path, count: int, *, nested: bool) -> None:
    """Link the faces in turn under `count` names."""
    originals = sorted(faces.iterdir())
    for number in range(count):
        inside = folder / f"{number // NAMES_IN_FOLDER:05d}" if nested else folder
        if number % NAMES_IN_FOLDER == 0:
            inside.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % len(originals)], inside / f"face-{number:09d}.jpg")


def measure(checkpoint: Path, images: Path, out: Path) -> tuple[float, float]:
    """Predict in a new process; return its peak memory in MiB and its seconds."""
    options = [checkpoint, images, "--out", out, "--device", "cpu", "--no-flip"]
    started = time.perf_counter()
    arguments = [sys.executable, "-c", COMMAND, "predict", *map(str, options)]
    finished = subprocess.run(arguments, check=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    return int(finished.stderr.split()[-1]) / 1024, time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
