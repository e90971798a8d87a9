"""Images per second of prediction by each engine on a CPU, and how far its probabilities are from the network's own.

python -m benchmarks.engines [--architectures resnet18] [--batch-size 32] [--turns 20] [--precision fp32] [--out FILE]

Faces are drawn, at 128 pixels, in memory; networks have random weights, their last layer scaled so that the probabilities of
the faces differ widely. `network` is the network as it is, `torch` that with its batch norms folded. After a pass to warm up,
they predict a batch each in turns; a figure is the median of the turns, and a ratio that of the turns' ratios to `network`, so
that a busy machine slows all.
"""

import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.engine import EngineDifference, torch_engine
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.predict import CheckpointPredictor, eval_mode
from ssl_pipeline.runs.files import write_text
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
SIZE = 128
STANDARD_DEVIATION = 3.0
"""Of the logits over the faces."""


def drawn_faces(num: int) -> npt.NDArray[np.uint8]:
    """Draw faces, uint8 [N, S, S, 3]."""
    people = sample_people(num, population="home", seed=0)
    return np.stack(
        [np.asarray(draw_face(face, size=SIZE)) for face in sample_faces(people, images_per_person=1, seed=0)]
    )


def save_network(path: Path, architecture: str, faces: npt.NDArray[np.uint8]) -> None:
    """Save a network with random weights, whose logits spread over the faces."""
    torch.manual_seed(0)
    config = ModelConfig(architecture=architecture)
    model = build_model(config, labels=LABELS, image_size=SIZE)
    with torch.no_grad(), eval_mode(model):
        _spread(model, torch.from_numpy(faces[:32]).permute(0, 3, 1, 2))
    save_checkpoint(path, model, model_config=config, image_size=SIZE, cropping=None)


def _spread(model: FaceClassifier, faces: torch.Tensor) -> None:
    backbone: Any = model.backbone
    logits, classifier = backbone(model._normalized(faces)), backbone.get_classifier()
    scale = STANDARD_DEVIATION / logits.std(dim=0)
    classifier.weight.mul_(scale[:, None])
    classifier.bias.copy_((classifier.bias - logits.mean(dim=0)) * scale)


def measure(architecture: str, faces: npt.NDArray[np.uint8], settings: PredictionConfig, turns: int) -> dict[str, Any]:
    """Measure the engines in turns; return the JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "best.safetensors"
        save_network(checkpoint, architecture, faces)
        engines = {
            name: CheckpointPredictor.load(checkpoint, settings.model_copy(update={"engine": name}), device="cpu")
            for name in ("torch", "openvino")
        }
    predictors = {"network": replace(engines["torch"], engine=torch_engine), **engines}
    rows, rates = np.arange(len(faces)), {name: list[float]() for name in predictors}
    started = time.perf_counter()
    engines["openvino"].predict(faces, rows[:1])
    seconds_to_convert = time.perf_counter() - started
    expected = predictors["network"].predict(faces, rows)
    differences = {
        name: EngineDifference.between(engine.predict(faces, rows), expected) for name, engine in engines.items()
    }
    batch = rows[: settings.batch_size]
    for _ in range(turns):
        for name, predictor in predictors.items():
            started = time.perf_counter()
            predictor.predict(faces, batch)
            rates[name].append(len(batch) / (time.perf_counter() - started))
    precision = engines["torch"].compute.precision
    return {
        "name": f"engines, {architecture}, {SIZE} px, batches of {settings.batch_size}, {precision}",
        **{name: round(statistics.median(values), 1) for name, values in rates.items()},
        "unit": "images/s",
        "ratio": {name: _ratio(rates[name], rates["network"]) for name in engines},
        "seconds_to_convert": round(seconds_to_convert, 1),
        "num_faces": len(faces),
        "differing_labels": {name: difference.differing_labels for name, difference in differences.items()},
        "largest_difference": {name: difference.largest_difference for name, difference in differences.items()},
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"openvino {version('openvino')}",
    }


def _ratio(rates: list[float], of_network: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile of the turns' ratios."""
    ratios = [ours / theirs for ours, theirs in zip(rates, of_network, strict=True)]
    return [round(value, 3) for value in statistics.quantiles(ratios, n=4)]


def main(
    architectures: Annotated[str, typer.Option(help="timm networks, separated by commas.")] = "resnet18",
    faces: Annotated[int, typer.Option(min=32, help="Faces whose probabilities are compared.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces per batch.")] = 32,
    turns: Annotated[int, typer.Option(min=2, help="Measurements of each engine.")] = 20,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    out: Annotated[Path | None, typer.Option("--out", help="Also write the lines to this file.")] = None,
) -> None:
    """Print one JSON line per network."""
    settings = PredictionConfig.model_validate(
        {"batch_size": batch_size, "horizontal_flip": False, "precision": precision, "engine": "openvino"}
    )
    pixels, lines = drawn_faces(faces), []
    for architecture in architectures.split(","):
        lines.append(json.dumps(measure(architecture, pixels, settings, turns)))
        print(lines[-1], flush=True)
    if out is not None:
        write_text(out, "\n".join([*lines, ""]))


if __name__ == "__main__":
    typer.run(main)
