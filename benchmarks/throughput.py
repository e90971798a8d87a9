"""Images per second of labeling and training, beside timm's scripts and beside the bare network on this machine.

python -m benchmarks.throughput [--peer FOLDER] [--architectures resnet18,wide_resnet50_2] [--out FILE]   (make bench)

Drawn JPEGs of 200×200 pixels at 128 pixels. `ours` is this library on them, `theirs` the scripts inference.py and train.py of
a checkout of timm (its wheel lacks them; without --peer null), `limit` the bare network on batches in memory. All three are
measured in turns; a figure is the median of the turns, and a rate is of further images, so that no start-up counts.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import timm
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig, RoleConfig
from ssl_pipeline.inference.files import ImageFile
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.dataset import LabeledSet, TrainingFaces, TrainingSet, UnlabeledSet
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.loop import TrainingLoop
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.runs.files import write_text

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
SIZE, FILE_SIZE, BATCH_SIZE, NUM_FACES = 128, 200, 64, 256
TRAINING = {
    "epochs": 1,
    "batch_size": BATCH_SIZE,
    "optimizer": {"type": "sgd", "learning_rate": 0.01},
    "ema_decay": None,
}
Measure = Callable[[], float | None]


def draw_jpegs(folder: Path, num: int) -> None:
    """Draw smooth random pictures into ``once/a`` and ``once/b``, and link each twice in ``twice``."""
    random = np.random.default_rng(0)
    for number in range(num):
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        path = folder / "once" / "ab"[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((FILE_SIZE, FILE_SIZE), Image.Resampling.BICUBIC).save(path, quality=90)
        for copy in "xy":
            link = folder / "twice" / path.parent.name / f"{copy}{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


class Labeling:
    """Labeling of a folder of JPEGs by a network with random weights."""

    def __init__(self, architecture: str, folder: Path, peer: Path | None) -> None:
        self.architecture, self.folder, self.peer = architecture, folder, peer
        config = ModelConfig(architecture=architecture)
        model = build_model(config, labels=LABELS, image_size=SIZE)
        checkpoint = folder / f"{architecture}.safetensors"
        save_checkpoint(checkpoint, model, model_config=config, image_size=SIZE, cropping=None)
        settings = PredictionConfig(batch_size=BATCH_SIZE, horizontal_flip=False)
        self.predictor = CheckpointPredictor.load(checkpoint, settings, device="auto")
        self.files = [ImageFile(str(path), str(path)) for path in sorted((folder / "once").rglob("*.jpg"))]

    def ours(self) -> float:
        """Files to probabilities."""
        started = time.perf_counter()
        count = sum(len(batch.names) for batch in predict_stream(self.predictor, self.files))
        return count / (time.perf_counter() - started)

    def theirs(self) -> float | None:
        """inference.py on the same files, and on twice as many: the rate of the second half."""
        if self.peer is None:
            return None
        command = [sys.executable, str(self.peer / "inference.py"), "--label-type", "none", "--log-freq", "1000"]
        command += ["--model", self.architecture, "--num-classes", str(LABELS.num_classes), "--img-size", str(SIZE)]
        command += ["--checkpoint", str(self._peers_checkpoint())]  # without one, it asks a hub
        command += ["--batch-size", str(BATCH_SIZE), *self._machine(), "--results-dir", str(self.folder)]
        return _rate_of_command([*command, "--no-console-results"], self.folder, len(self.files))

    def limit(self) -> float:
        """The forward pass on a batch in memory, the best of three batch sizes."""
        compute, model = self.predictor.compute, self.predictor.model
        rates = []
        for size in (BATCH_SIZE // 2, BATCH_SIZE, 2 * BATCH_SIZE):
            faces = torch.randint(0, 256, (size, 3, SIZE, SIZE), dtype=torch.uint8, device=compute.device)
            with torch.inference_mode(), compute.autocast():
                rates.append(_rate(lambda faces=faces: model(faces), size, compute))  # type: ignore[misc]
        return max(rates)

    def _peers_checkpoint(self) -> Path:
        path = self.folder / f"{self.architecture}-of-timm.safetensors"
        if not path.is_file():
            network = timm.create_model(self.architecture, num_classes=LABELS.num_classes)
            save_file(network.state_dict(), path)
        return path

    def _machine(self) -> list[str]:
        compute = self.predictor.compute
        amp = ["--amp", "--amp-dtype", "bfloat16"] if compute.dtype == torch.bfloat16 else []
        return ["--device", compute.device.type, "--workers", str(os.cpu_count()), "--channels-last", *amp]


class Training:
    """Training steps of a network on faces in memory; with a pool, by FixMatch."""

    def __init__(self, architecture: str, folder: Path, peer: Path | None, *, fixmatch: bool) -> None:
        self.folder, self.peer, self.fixmatch, self.architecture = folder, peer, fixmatch, architecture
        pool = {"fixmatch": {"faces_per_labeled": 1, "confidence_threshold": 0.0}, "augmentation": "weak"}
        extra: dict[str, Any] = pool if fixmatch else {"augmentation": "strong"}
        self.role = RoleConfig.model_validate({"model": {"architecture": architecture}, "training": TRAINING | extra})
        self.faces = _random_faces(NUM_FACES, with_pool=fixmatch)
        self.loop = TrainingLoop(self.role, self.faces, seed=0, device="auto", name="benchmark")

    def ours(self) -> float:
        """An epoch of the one training loop, with augmentation, without validation."""
        loop = self.loop
        loop.progress.epoch += 1
        loop.config = loop.config.model_copy(update={"epochs": loop.progress.epoch + 1})
        loop._validate = lambda faces: {"log_loss": 0.0, "macro_f1": 0.0, "accuracy": 0.0}  # type: ignore[method-assign]
        started = time.perf_counter()
        with TrainingProgress("benchmark", 1, shown=False) as bar:
            loop.run_epoch(bar)
        return NUM_FACES / (time.perf_counter() - started)

    def theirs(self) -> float | None:
        """train.py on the same number of faces with RandAugment, and on twice as many: the rate of the second half."""
        if self.peer is None or self.fixmatch:
            return None
        command = [sys.executable, str(self.peer / "train.py"), "--train-split", "", "--val-split", ""]
        command += ["--model", self.architecture, "--num-classes", str(LABELS.num_classes), "--img-size", str(SIZE)]
        command += [
            "--batch-size",
            str(BATCH_SIZE),
            "--epochs",
            "1",
            "--warmup-epochs",
            "0",
            "--opt",
            "sgd",
            "--lr",
            "0.01",
        ]
        command += ["--aa", "rand-m9-n2", "--reprob", "0.5", "--scale", "0.8", "1"]
        command += ["--output", str(self.folder / "output"), "--checkpoint-hist", "1", "--log-interval", "1000"]
        amp = ["--amp", "--amp-dtype", "bfloat16"] if self.loop.compute.dtype == torch.bfloat16 else []
        machine = ["--device", self.loop.compute.device.type, "--workers", str(os.cpu_count()), "--channels-last", *amp]
        return _rate_of_command(command + machine, self.folder, NUM_FACES)

    def limit(self) -> float:
        """Forward, backward and optimizer step on a batch in memory; for FixMatch with the weak views' forward pass."""
        loop, compute = self.loop, self.loop.compute
        size = BATCH_SIZE * (2 if self.fixmatch else 1)
        faces = torch.randint(0, 256, (size, 3, SIZE, SIZE), dtype=torch.uint8, device=compute.device)
        weak = faces[:BATCH_SIZE]
        classes = torch.zeros(size, dtype=torch.long, device=compute.device)
        model: FaceClassifier = loop.model

        def step() -> None:
            if self.fixmatch:
                model.eval()
                with torch.no_grad(), compute.autocast():
                    model(weak)
            model.train()
            with compute.autocast():
                log_probabilities = model(faces)
            torch.autograd.backward(torch.nn.functional.nll_loss(log_probabilities.float(), classes))
            loop.optimizer.step()
            loop.optimizer.zero_grad(set_to_none=True)

        return _rate(step, BATCH_SIZE, compute)


def _random_faces(num: int, *, with_pool: bool) -> TrainingFaces:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * num, SIZE, SIZE, 3), np.uint8)
    rows, class_ids = np.arange(num), np.arange(num) % LABELS.num_classes
    train = TrainingSet(
        pixels=pixels,
        pixel_rows=rows,
        image_ids=[str(row) for row in rows],
        targets=np.eye(LABELS.num_classes, dtype=np.float32)[class_ids],
        known=np.ones((num, 2), bool),
        weights=np.ones((num, 2), np.float32),
        is_human=np.ones(num, bool),
    )
    pool = UnlabeledSet(pixels, rows + num, np.full((num, 2), -1)) if with_pool else None
    return TrainingFaces(LABELS, train, LabeledSet(pixels, rows, LABELS.class_codes[class_ids]), pool)


def _rate(work: Callable[[], object], num: int, compute: Compute, *, repeats: int = 4) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return num / min(seconds)


def _rate_of_command(command: list[str], folder: Path, num: int) -> float:
    """Return the images per second of a command between `num` images and twice as many."""
    seconds = []
    for data in ("once", "twice"):
        started = time.perf_counter()
        subprocess.run([*command, "--data-dir", str(folder / data)], check=True, capture_output=True, cwd=folder)
        seconds.append(time.perf_counter() - started)
    return num / (seconds[1] - seconds[0])


def measure(name: str, work: "Labeling | Training", turns: int) -> dict[str, Any]:
    """Measure in turns, after one to warm up; return the JSON line."""
    measures: dict[str, Measure] = {"ours": work.ours, "theirs": work.theirs, "limit": work.limit}
    work.ours()
    rates: dict[str, list[float | None]] = {key: [] for key in measures}
    for _ in range(turns):
        for key, take in measures.items():
            rates[key].append(take())
    medians = {
        key: None if None in values else statistics.median(value for value in values if value is not None)
        for key, values in rates.items()
    }
    against = "theirs" if medians["theirs"] is not None else "limit"
    ratios = [float(ours or 0) / float(other or 1) for ours, other in zip(rates["ours"], rates[against], strict=True)]
    return {
        "name": name,
        **{key: None if value is None else round(value, 1) for key, value in medians.items()},
        "unit": "images/s",
        "ratio": round(statistics.median(ratios), 3),
        "ratio_to": against,
        "ratio_to_limit": round(float(medians["ours"] or 0) / float(medians["limit"] or 1), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }


def main(
    peer: Annotated[Path | None, typer.Option(help="A checkout of timm, with inference.py and train.py.")] = None,
    architectures: Annotated[str, typer.Option(help="timm networks, separated by commas.")] = "resnet18",
    turns: Annotated[int, typer.Option(min=1, help="Measurements of each figure.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the lines to this file.")] = None,
) -> None:
    """Print one JSON line per figure."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_jpegs(folder, NUM_FACES)
        for architecture in architectures.split(","):
            works: dict[str, Callable[[], Labeling | Training]] = {
                "labeling": lambda a=architecture: Labeling(a, folder, peer),  # type: ignore[misc]
                "training": lambda a=architecture: Training(a, folder, peer, fixmatch=False),  # type: ignore[misc]
                "training with fixmatch": lambda a=architecture: Training(a, folder, peer, fixmatch=True),  # type: ignore[misc]
            }
            for what, build in works.items():
                lines.append(json.dumps(measure(f"{what}, {architecture}, {SIZE} px", build(), turns)))
                print(lines[-1], flush=True)
    if out is not None:
        write_text(out, "\n".join([*lines, ""]))


if __name__ == "__main__":
    typer.run(main)
