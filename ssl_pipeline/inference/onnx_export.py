"""Export of a model to ONNX: pixels in, calibrated probabilities out; checked against torch on real pixels."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.runs.files import atomic_path, digest_file

FITTING_ROUNDS = 50
"""Of iterative proportional fitting; far more than it takes to converge to float32."""
MAX_DIFFERENCE = 1e-3
"""Of a probability between torch and ONNX; a larger one is no rounding."""


@dataclass(frozen=True)
class Parity:
    """How far the exported file's probabilities are from the model's."""

    num_images: int
    largest_difference: float


class _Calibrated(nn.Module):
    """A classifier whose outputs are calibrated probabilities: of the classes, and of each attribute's values."""

    def __init__(self, model: FaceClassifier, calibration: TemperatureCalibration | None) -> None:
        super().__init__()
        self.model = model
        self.calibration = calibration
        codes = torch.from_numpy(model.labels.class_codes)
        for position, number in enumerate(model.labels.num_values):  # [K, V]: which classes have a value
            self.register_buffer(f"has_{position}", nn.functional.one_hot(codes[:, position].long(), number).float())

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute [B, K] and one [B, V] per attribute from uint8 [B, 3, S, S]."""
        log_probabilities = self.model(pixels)
        probabilities = torch.exp(log_probabilities)
        if self.calibration is not None:
            probabilities = self._calibrate(log_probabilities, self.calibration)
        return probabilities, *self._marginals(probabilities)

    def _marginals(self, probabilities: Tensor) -> list[Tensor]:
        return [probabilities @ getattr(self, f"has_{position}") for position in range(len(self.model.labels.names))]

    def _calibrate(self, log_probabilities: Tensor, calibration: TemperatureCalibration) -> Tensor:
        """Do what `TemperatureCalibration.apply` does, in a fixed number of rounds."""
        if calibration.per == "class":
            return torch.softmax(log_probabilities / calibration.temperatures[0], dim=1)
        probabilities = torch.exp(log_probabilities)
        targets = [
            torch.softmax(torch.log(marginal.clamp_min(1e-12)) / temperature, dim=1)
            for marginal, temperature in zip(self._marginals(probabilities), calibration.temperatures, strict=True)
        ]
        fitted = probabilities.clamp_min(1e-12)
        # attributes that are independent given the face are fitted in one round
        for _ in range(1 if self.model.head == "per_attribute" else FITTING_ROUNDS):
            for position, target in enumerate(targets):
                ratio = target / self._marginals(fitted)[position]
                fitted = fitted * (ratio @ getattr(self, f"has_{position}").T)
        return fitted / fitted.sum(dim=1, keepdim=True)


def export_onnx(checkpoint: Checkpoint, out: Path) -> None:
    """Write a network as ONNX.

    The input ``pixels`` is uint8 [N, 3, S, S], RGB, any N; normalization and calibration are inside. The outputs are
    ``probabilities``, float32 [N, K], and one [N, V] per attribute, named like it. The file's metadata
    ``ssl_pipeline`` is JSON with the labels, the side S, the cropping, and the checkpoint's digest.

    Raises:
        CheckpointError: for a vote, which is several models.
        ConfigError: if the extra is not installed.
    """
    onnx = _import("onnx")
    _import("onnxscript")
    model = checkpoint.model
    if not isinstance(model, FaceClassifier):
        raise CheckpointError(
            f"{checkpoint.path}: several teachers that vote are not one network; export the student, or one teacher of "
            "round-00/teacher/members"
        )
    example = torch.zeros(2, 3, checkpoint.image_size, checkpoint.image_size, dtype=torch.uint8)
    module = _Calibrated(model.cpu(), checkpoint.calibration).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with atomic_path(out) as temporary, torch.inference_mode():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=["pixels"],
            output_names=["probabilities", *model.labels.names],
        )
        assert program is not None
        program.save(str(temporary))
        file = onnx.load(str(temporary))
        onnx.helper.set_model_props(file, {"ssl_pipeline": json.dumps(_describe(checkpoint), ensure_ascii=False)})
        onnx.save(file, str(temporary))


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    labels = checkpoint.labels
    rules = checkpoint.cropping
    return {
        "labels": labels.to_dict(),
        "classes": list(labels.class_names),
        "image_size": checkpoint.image_size,
        "cropping": rules if rules is None or isinstance(rules, str) else rules.model_dump(mode="json"),
        "checkpoint": digest_file(checkpoint.path),
    }


def check_parity(checkpoint: Path, exported: Path, faces: npt.NDArray[np.uint8]) -> Parity:
    """Compare the probabilities of an exported file with the checkpoint's, without a mirrored view.

    Args:
        checkpoint: the model's file.
        exported: the ONNX file.
        faces: uint8 [N, S, S, 3].

    Raises:
        CheckpointError: if they differ by more than `MAX_DIFFERENCE`.
    """
    session = _import("onnxruntime").InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    config = PredictionConfig(horizontal_flip=False, precision="fp32")
    expected = CheckpointPredictor.load(checkpoint, config, device="cpu").predict(faces, np.arange(len(faces)))
    (found,) = session.run(["probabilities"], {"pixels": np.ascontiguousarray(faces.transpose(0, 3, 1, 2))})
    parity = Parity(len(faces), float(np.abs(found - expected).max()))
    if parity.largest_difference > MAX_DIFFERENCE:
        raise CheckpointError(
            f"{exported}: its probabilities differ from the model's by up to {parity.largest_difference:.2g}; use the "
            "checkpoint itself, with `ssl-pipeline predict` or ssl_pipeline.Predictor"
        )
    return parity


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ConfigError(f"export needs {name}; install the extra: pip install 'ssl-pipeline[export]'") from None
