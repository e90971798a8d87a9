"""Engines of prediction: torch, or OpenVINO on a CPU. An engine maps a network and its faces to class probabilities.

Shapes: N faces, B batch, K classes, S image side.
"""

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_pipeline.config.run import EngineName
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import FloatArray

if TYPE_CHECKING:  # torch is imported when a network is converted: `ssl-pipeline check` asks for the package only
    import torch
    from torch import Tensor

    from ssl_pipeline.learning.device import Compute
    from ssl_pipeline.learning.model import FaceClassifier

Engine = Callable[["FaceClassifier", "Tensor"], "Tensor"]
"""Takes a network in eval mode and uint8 [B, 3, S, S] on its device; returns class probabilities, float32 [B, K]."""

MAX_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.1}
"""Of a probability between an engine and torch, by precision; a larger one is no rounding."""
_TORCH = "--set prediction.engine=torch (of `ssl-pipeline predict`: --engine=torch)"


def torch_engine(network: "FaceClassifier", faces: "Tensor") -> "Tensor":
    """Compute the class probabilities with the network itself, whose weights may change between calls."""
    log_probabilities: Tensor = network(faces)
    return log_probabilities.exp()


class FoldedTorchEngine:
    """torch with a copy of each network whose batch norms are folded; its weights must not change after its first batch."""

    def __init__(self) -> None:
        self._folded: dict[FaceClassifier, FaceClassifier] = {}

    def __call__(self, network: "FaceClassifier", faces: "Tensor") -> "Tensor":
        """Compute the class probabilities."""
        if network not in self._folded:
            from ssl_pipeline.learning.batch_norm_folding import fold_batch_norms

            folded = copy.deepcopy(network).eval()
            fold_batch_norms(folded, faces[:1])
            self._folded[network] = folded
        return torch_engine(self._folded[network], faces)


class OpenVinoEngine:
    """OpenVINO on a CPU. A network is converted once, at its first batch; its weights must not change afterwards."""

    def __init__(self, dtype: "torch.dtype", *, num_threads: int) -> None:
        """Set up OpenVINO.

        Args:
            dtype: float32, or bfloat16 where the processor has it; OpenVINO computes in float32 elsewhere.
            num_threads: as torch would use.
        """
        self._core = _import_openvino().Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"torch.float32": "f32", "torch.bfloat16": "bf16"}[str(dtype)],
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes of one machine would share the first cores
        }
        self._compiled: dict[FaceClassifier, Any] = {}

    def __call__(self, network: "FaceClassifier", faces: "Tensor") -> "Tensor":
        """Compute the class probabilities.

        Raises:
            CheckpointError: if OpenVINO cannot compute this network.
        """
        import torch

        if network not in self._compiled:
            try:
                self._compiled[network] = self._core.compile_model(_convert(network, faces), "CPU", self._settings)
            except Exception as error:  # of torch.export or OpenVINO: many types, one meaning
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                name = type(network.backbone).__name__
                raise CheckpointError(f"OpenVINO cannot compute this {name} ({reason}); {_TORCH}") from None
        (probabilities,) = self._compiled[network](faces.contiguous().numpy()).values()
        return torch.from_numpy(np.array(probabilities))


def _convert(network: "FaceClassifier", faces: "Tensor") -> Any:
    """Convert a network to OpenVINO's model, for any number of faces of this size."""
    import torch
    from torch import nn

    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: "Tensor") -> "Tensor":
            return torch_engine(self.network, pixels)

    example = torch.zeros(2, *faces.shape[1:], dtype=torch.uint8)
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        any_number = ({0: torch.export.Dim("N")},)
        program = torch.export.export(Probabilities().eval(), (example,), dynamic_shapes=any_number)
    model = _import_openvino().convert_model(program)
    model.reshape([-1, *faces.shape[1:]])
    return model


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports every import to Intel unless the user has opted out."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable; OpenVINO has a stub
    import openvino

    return openvino


def find_engine_faults(engine: EngineName, *, device: str) -> list[str]:
    """Describe why an engine cannot predict here; takes no time.

    Args:
        engine: of the config.
        device: ``cpu``, ``cuda`` or ``mps``; ``auto`` where it is not decided yet.
    """
    if engine == "torch":
        return []
    faults = []
    spec = importlib.util.find_spec(engine)
    if spec is None or spec.origin is None:
        faults.append(
            f"'prediction.engine': the package of {engine} is not installed; pip install 'ssl-pipeline[openvino]', or {_TORCH}"
        )
    if device not in ("auto", "cpu"):
        faults.append(
            f"'prediction.engine': {engine} predicts on a CPU, and the device is {device}, which torch uses better; {_TORCH}"
        )
    return faults


def build_engine(engine: EngineName, compute: "Compute") -> Engine:
    """Build the engine of a config.

    Raises:
        ConfigError: if it cannot predict here.
    """
    if engine == "torch":
        return FoldedTorchEngine()
    if faults := find_engine_faults(engine, device=compute.device.type):
        raise ConfigError(faults[0])
    import torch

    return OpenVinoEngine(compute.dtype, num_threads=torch.get_num_threads())


def version_of_engine(engine: EngineName) -> str:
    """Return the version of an engine's package."""
    return version(engine)


@dataclass(frozen=True)
class EngineDifference:
    """How far an engine's class probabilities are from torch's."""

    num_faces: int
    differing_labels: float
    """Share of the faces whose most probable class differs."""
    largest_difference: float
    """Of a probability."""

    @classmethod
    def between(cls, found: FloatArray, expected: FloatArray) -> "EngineDifference":
        """Compare class probabilities, float [N, K].

        >>> EngineDifference.between(np.array([[0.6, 0.4], [0.75, 0.25]]), np.array([[0.5, 0.5], [0.25, 0.75]]))
        EngineDifference(num_faces=2, differing_labels=0.5, largest_difference=0.5)
        """
        return cls(
            num_faces=len(found),
            differing_labels=float((found.argmax(axis=1) != expected.argmax(axis=1)).mean()),
            largest_difference=float(np.abs(found - expected).max()),
        )

    def check(self, engine: EngineName, precision: str) -> None:
        """Refuse a difference that is no rounding.

        Raises:
            CheckpointError: if a probability differs by more than `MAX_DIFFERENCE`.
        """
        if not self.largest_difference <= MAX_DIFFERENCE[precision]:
            raise CheckpointError(
                f"{engine}'s probabilities differ from torch's by up to {self.largest_difference:.2g} on {self.num_faces} faces, "
                f"more than {MAX_DIFFERENCE[precision]:g}; {_TORCH}"
            )
