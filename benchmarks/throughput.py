"""Images per second of labeling and training, beside timm's scripts and beside the bare network on this machine.

python -m benchmarks.throughput [--peer FOLDER] [--networks resnet18@128,wide_resnet50_2@128] [--out FILE]   (make bench)

On a GPU, in a few minutes:
python -m benchmarks.throughput --networks wide_resnet50_2@224,wrn28_2@64 --faces 8192 --batch-size 256 --out gpu.jsonl

Drawn JPEGs of 200×200 pixels. `ours` is this library on them, `theirs` the scripts inference.py and train.py of a checkout
of timm (its wheel lacks them, and it lacks the networks wrn…; then null), `limit` the bare network on batches in memory, with
bf16 and channels last as the library chooses; its batch norms are not folded. All three are measured in turns; a figure is the median of the turns, and a
rate is of further images, so that no start-up counts. `decoding` are the files to pixels alone. With a GPU, `utilization`
is the mean that nvidia-smi tells while `ours` works.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import timm
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from ssl_pipeline.config.run import EngineName, PredictionConfig
from ssl_pipeline.config.training import ModelConfig, RoleConfig
from ssl_pipeline.inference.files import ImageFile
from ssl_pipeline.inference.stream import decode_ahead, predict_stream
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
FILE_SIZE, NUM_FILES = 200, 256
TRAINING = {
    "epochs": 1,
    "optimizer": {"type": "sgd", "learning_rate": 0.01},
    "ema_decay": None,
}
Measure = Callable[[], float | None]


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    architecture: str
    size: int
    """Side of the network's input in pixels."""
    batch_size: int
    num_faces: int
    folder: Path
    peer: Path | None
    """A checkout of timm; None for a network that timm lacks."""
    engine: EngineName = "torch"
    """Of labeling."""


def draw_jpegs(folder: Path, num: int) -> None:
    """Draw smooth random pictures into ``once/a`` and ``once/b``, and link each twice in ``twice``; from some on, the same again."""
    random = np.random.default_rng(0)
    for number in range(num):
        path = folder / "once" / "ab"[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= NUM_FILES:
            path.hardlink_to(folder / "once" / "ab"[number % 2] / f"{number % NUM_FILES:05d}.jpg")
        else:
            coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
            coarse.resize((FILE_SIZE, FILE_SIZE), Image.Resampling.BICUBIC).save(path, quality=90)
        for copy in "xy":
            link = folder / "twice" / path.parent.name / f"{copy}{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


class Labeling:
    """Labeling of a folder of JPEGs by a network with random weights."""

    def __init__(self, setting: Setting) -> None:
        self.setting, folder = setting, setting.folder
        config = ModelConfig(architecture=setting.architecture)
        model = build_model(config, labels=LABELS, image_size=setting.size)
        checkpoint = folder / f"{setting.architecture}.safetensors"
        save_checkpoint(checkpoint, model, model_config=config, image_size=setting.size, cropping=None)
        settings = PredictionConfig(batch_size=setting.batch_size, horizontal_flip=False, engine=setting.engine)
        self.predictor = CheckpointPredictor.load(checkpoint, settings, device="auto")
        self.files = [ImageFile(str(path), str(path)) for path in sorted((folder / "once").rglob("*.jpg"))]

    def ours(self) -> float:
        """Files to probabilities."""
        started = time.perf_counter()
        count = sum(len(batch.names) for batch in predict_stream(self.predictor, self.files))
        return count / (time.perf_counter() - started)

    def decoding(self) -> float:
        """Files to pixels."""
        started, setting = time.perf_counter(), self.setting
        count = sum(1 for _ in decode_ahead(self.files, (setting.size,), batch_size=setting.batch_size, framer=None))
        return count / (time.perf_counter() - started)

    def theirs(self) -> float | None:
        """inference.py on the same files, and on twice as many: the rate of the second half."""
        setting = self.setting
        if setting.peer is None:
            return None
        command = [sys.executable, str(setting.peer / "inference.py"), "--label-type", "none", "--log-freq", "1000"]
        command += ["--model", setting.architecture, "--num-classes", str(LABELS.num_classes)]
        command += [
            "--checkpoint",
            str(self._peers_checkpoint()),
            "--img-size",
            str(setting.size),
        ]  # else it asks a hub
        command += ["--batch-size", str(setting.batch_size), *self._machine(), "--results-dir", str(setting.folder)]
        return _rate_of_command([*command, "--no-console-results"], setting.folder, len(self.files))

    def limit(self) -> float:
        """The forward pass of the network as it is, on a batch in memory, at the best of three batch sizes."""
        compute, model, side = self.predictor.compute, self.predictor.model, self.setting.size
        rates = []
        for size in (self.setting.batch_size // 2, self.setting.batch_size, 2 * self.setting.batch_size):
            faces = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, device=compute.device)
            with torch.inference_mode(), compute.autocast():
                rates.append(_rate(lambda faces=faces: model(faces), size, compute))  # type: ignore[misc]
        return max(rates)

    def _peers_checkpoint(self) -> Path:
        path = self.setting.folder / f"{self.setting.architecture}-of-timm.safetensors"
        if not path.is_file():
            network = timm.create_model(self.setting.architecture, num_classes=LABELS.num_classes)
            save_file(network.state_dict(), path)
        return path

    def _machine(self) -> list[str]:
        compute = self.predictor.compute
        amp = ["--amp", "--amp-dtype", "bfloat16"] if compute.dtype == torch.bfloat16 else []
        return ["--device", compute.device.type, "--workers", str(os.cpu_count()), "--channels-last", *amp]


class Training:
    """Training steps of a network on faces in memory; with a pool, by FixMatch."""

    def __init__(self, setting: Setting, *, fixmatch: bool) -> None:
        self.setting, self.fixmatch = setting, fixmatch
        pool = {"fixmatch": {"faces_per_labeled": 1, "confidence_threshold": 0.0}, "augmentation": "weak"}
        extra: dict[str, Any] = pool if fixmatch else {"augmentation": "strong"}
        training = TRAINING | extra | {"batch_size": setting.batch_size}
        role = RoleConfig.model_validate({"model": {"architecture": setting.architecture}, "training": training})
        self.faces = _random_faces(setting, with_pool=fixmatch)
        self.loop = TrainingLoop(role, self.faces, seed=0, device="auto", name="benchmark")

    def ours(self) -> float:
        """An epoch of the one training loop, with augmentation, without validation."""
        loop = self.loop
        loop.progress.epoch += 1
        loop.config = loop.config.model_copy(update={"epochs": loop.progress.epoch + 1})
        loop._validate = lambda faces: {"log_loss": 0.0, "macro_f1": 0.0, "accuracy": 0.0}  # type: ignore[method-assign]
        started = time.perf_counter()
        with TrainingProgress("benchmark", 1, shown=False) as bar:
            loop.run_epoch(bar)
        return self.setting.num_faces / (time.perf_counter() - started)

    def theirs(self) -> float | None:
        """train.py on the same number of faces with RandAugment, and on twice as many: the rate of the second half."""
        setting, compute = self.setting, self.loop.compute
        if setting.peer is None or self.fixmatch:
            return None
        command = [sys.executable, str(setting.peer / "train.py"), "--train-split", "", "--val-split", ""]
        command += ["--model", setting.architecture, "--num-classes", str(LABELS.num_classes)]
        command += ["--img-size", str(setting.size), "--batch-size", str(setting.batch_size)]
        command += ["--epochs", "1", "--warmup-epochs", "0", "--opt", "sgd", "--lr", "0.01"]
        command += ["--aa", "rand-m9-n2", "--reprob", "0.5", "--scale", "0.8", "1"]
        command += ["--output", str(setting.folder / "output"), "--checkpoint-hist", "1", "--log-interval", "1000"]
        amp = ["--amp", "--amp-dtype", "bfloat16"] if compute.dtype == torch.bfloat16 else []
        machine = ["--device", compute.device.type, "--workers", str(os.cpu_count()), "--channels-last", *amp]
        return _rate_of_command(command + machine, setting.folder, setting.num_faces)

    def limit(self) -> float:
        """Forward, backward and optimizer step on a batch in memory; for FixMatch with the weak views' forward pass."""
        loop, compute = self.loop, self.loop.compute
        side, batch_size = self.setting.size, self.setting.batch_size
        size = batch_size * (2 if self.fixmatch else 1)
        faces = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, device=compute.device)
        weak = faces[:batch_size]
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

        return _rate(step, batch_size, compute)


def _random_faces(setting: Setting, *, with_pool: bool) -> TrainingFaces:
    num, side = setting.num_faces, setting.size
    pixels = np.random.default_rng(0).integers(0, 256, ((1 + with_pool) * num, side, side, 3), np.uint8)
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
    seconds, on_gpu = [], compute.device.type == "cuda"
    for _ in range(1 + repeats):  # the first warms up
        started = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return num / statistics.median(seconds[1:])


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
    if isinstance(work, Labeling):
        measures["decoding"] = work.decoding
    with _utilization() as shares:
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
        **({"utilization": round(statistics.mean(shares), 2)} if shares else {}),
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }


@contextmanager
def _utilization() -> Iterator[list[float]]:
    """Collect the GPU's utilization, in [0, 1], twice a second; an empty list without a GPU."""
    shares: list[float] = []
    if not torch.cuda.is_available():
        yield shares
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield shares
        finally:
            process.terminate()
            shares += [float(line) / 100 for line in (process.stdout or ()) if line.strip().isdigit()]


def main(
    peer: Annotated[Path | None, typer.Option(help="A checkout of timm, with inference.py and train.py.")] = None,
    networks: Annotated[str, typer.Option(help="architecture@pixels, separated by commas.")] = "resnet18@128",
    faces: Annotated[int, typer.Option(min=64, help="Faces per measurement.")] = 256,
    batch_size: Annotated[int, typer.Option(min=2, help="Faces per batch.")] = 64,
    turns: Annotated[int, typer.Option(min=1, help="Measurements of each figure.")] = 3,
    figures: Annotated[
        str, typer.Option(help="Of labeling, training and fixmatch, separated by commas.")
    ] = "labeling,training,fixmatch",
    engine: Annotated[EngineName, typer.Option(help="Of labeling.")] = "torch",
    out: Annotated[Path | None, typer.Option("--out", help="Also write the lines to this file.")] = None,
) -> None:
    """Print one JSON line per figure."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        draw_jpegs(Path(name), faces)
        for network in networks.split(","):
            architecture, _, size = network.partition("@")
            of_timm = peer if timm.is_model(architecture) else None
            setting = Setting(architecture, int(size or 128), batch_size, faces, Path(name), of_timm, engine)
            works: dict[str, tuple[str, Callable[[], Labeling | Training]]] = {
                "labeling": ("labeling" if engine == "torch" else f"labeling by {engine}", partial(Labeling, setting)),
                "training": ("training", partial(Training, setting, fixmatch=False)),
                "fixmatch": ("training with fixmatch", partial(Training, setting, fixmatch=True)),
            }
            for what, build in (works[figure] for figure in figures.split(",")):
                lines.append(json.dumps(measure(f"{what}, {architecture}, {setting.size} px", build(), turns)))
                print(lines[-1], flush=True)
    if out is not None:
        write_text(out, "\n".join([*lines, ""]))


if __name__ == "__main__":
    typer.run(main)
