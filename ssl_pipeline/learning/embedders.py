"""Embedders: fixed networks that turn faces into features: frozen timm networks, ONNX files.

Shapes: N faces, B batch, S image side, D features, M rows of the pixel array.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resized_crop

from ssl_pipeline.config.teachers import Embedding, OnnxEmbedding, TimmEmbedding
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.backbones import build_backbone, check_name, one_line, own_image_size
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.runs.files import digest_file, digest_of

_ONNX_BATCH = 32  # bounds OpenCV's memory


class Embedder(nn.Module):
    """A fixed network: faces, uint8 [B, 3, S, S] at any S, to features, float32 [B, D]."""

    def __init__(self, settings: Embedding, *, image_size: int, digest: str) -> None:
        super().__init__()
        self.settings = settings
        self.image_size = image_size
        """Side in pixels that the network sees."""
        self.digest = digest
        """Of the weights and of the settings."""

    def forward(self, faces: Tensor) -> Tensor:
        """Compute the features, averaged with those of the mirrored faces if the settings say so."""
        crops = self._crop(faces)
        features = self.embed(crops).float().flatten(1)
        if self.settings.mirror:
            features = (features + self.embed(crops.flip(3)).float().flatten(1)) / 2
        return features

    def embed(self, crops: Tensor) -> Tensor:
        """Compute the features of uint8 [B, 3, image_size, image_size]."""
        raise NotImplementedError

    def _crop(self, faces: Tensor) -> Tensor:
        """Crop the centered square and resize it (bilinear)."""
        side = faces.shape[-1]
        crop_side = max(round(side * self.settings.center_crop), 1)
        if crop_side == side == self.image_size:
            return faces
        margin, size = (side - crop_side) // 2, [self.image_size, self.image_size]
        box = (margin, margin, crop_side, crop_side)
        return torch.as_tensor(resized_crop(faces, *box, size, InterpolationMode.BILINEAR, antialias=True))


class TimmEmbedder(Embedder):
    """Pooled features of a timm network."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: TimmEmbedding, *, load_pretrained: bool = True, digest: str | None = None) -> None:
        super().__init__(settings, image_size=timm_image_size(settings), digest=digest or embedding_digest(settings))
        self.backbone = build_backbone(
            network_of(settings), num_logits=0, image_size=self.image_size, load_pretrained=load_pretrained
        ).requires_grad_(False)
        self.backbone.eval()
        for name in ("mean", "std"):
            values = torch.tensor(self.backbone.pretrained_cfg[name], dtype=torch.float32)
            self.register_buffer(name, values.view(1, 3, 1, 1))

    def embed(self, crops: Tensor) -> Tensor:
        """Compute the pooled features of uint8 [B, 3, image_size, image_size]."""
        return torch.as_tensor(self.backbone((crops.float() / 255 - self.mean) / self.std))


class OnnxEmbedder(Embedder):
    """An output of an ONNX file, computed on the CPU by OpenCV."""

    def __init__(
        self, settings: OnnxEmbedding, *, content: npt.NDArray[np.uint8] | None = None, digest: str | None = None
    ) -> None:
        super().__init__(settings, image_size=settings.image_size, digest=digest or embedding_digest(settings))
        self.content = read_onnx(settings.file) if content is None else content
        """Of the file, uint8 [number of bytes]."""
        self._net = open_onnx(self.content, settings.file)
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))

    def embed(self, crops: Tensor) -> Tensor:
        """Compute the output for uint8 [B, 3, image_size, image_size].

        Raises:
            CheckpointError: if the file's network does not take such faces.
        """
        settings: Any = self.settings
        images = (crops.cpu().flip(1) if settings.channels == "bgr" else crops.cpu()).float() / 255
        inputs = ((images - self._mean) / self._std).numpy()
        parts = [self._run(inputs[n : n + _ONNX_BATCH], settings) for n in range(0, len(inputs), _ONNX_BATCH)]
        return torch.from_numpy(np.concatenate(parts)).to(crops.device)

    def _run(self, images: npt.NDArray[np.float32], settings: OnnxEmbedding) -> npt.NDArray[np.float32]:
        try:
            self._net.setInput(
                np.ascontiguousarray(images), *([] if settings.input_name is None else [settings.input_name])
            )
            names = self._net.getUnconnectedOutLayersNames()
            output = np.array(self._net.forward(settings.output_name or names[-1]), np.float32)
        except Exception as error:
            raise CheckpointError(
                f"{settings.file}: OpenCV cannot compute it for faces of {self.image_size} × {self.image_size} pixels "
                f"({one_line(error)}); check image_size, input_name and output_name"
            ) from None
        if len(output) != len(images):
            raise CheckpointError(
                f"{settings.file}: gives {len(output)} rows for {len(images)} faces; export it with a dynamic batch"
            )
        return output.reshape(len(images), -1)


def build_embedder(settings: Embedding) -> Embedder:
    """Build an embedder from its settings.

    Raises:
        ConfigError: if the architecture is unknown, or OpenCV is not installed.
        CheckpointError: if a file is missing or cannot be used, or the weights cannot be fetched.
    """
    if isinstance(settings, TimmEmbedding):
        return TimmEmbedder(settings)
    if isinstance(settings, OnnxEmbedding):
        return OnnxEmbedder(settings)
    raise TypeError(f"no embedder for {type(settings).__name__}")


def embedding_digest(settings: Embedding) -> str:
    """Digest what the features of a face depend on: the content of the file, and the settings."""
    path = getattr(settings, "file", None) or getattr(settings, "weights_file", None)
    if path is not None and not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    values = settings.model_dump(mode="json", exclude={"file", "weights_file"})
    return digest_of([type(settings).__name__, values, None if path is None else digest_file(path)])


def network_of(settings: TimmEmbedding) -> ModelConfig:
    """Return the network of an embedding, whose weights are a file's or the hub's."""
    return ModelConfig(
        architecture=settings.architecture,
        pretrained=settings.pretrained and settings.weights_file is None,
        weights_file=settings.weights_file,
    )


def timm_image_size(settings: TimmEmbedding) -> int:
    """Return the side in pixels that a timm network sees.

    Raises:
        ConfigError: if the architecture is unknown, or does not say its image size.
    """
    check_name(settings.architecture)
    size = settings.image_size or own_image_size(settings.architecture)
    if size is None:
        raise ConfigError(
            f"architecture '{settings.architecture}' does not say for which image size it was made; e.g. --set image_size=224"
        )
    return size


def read_onnx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a file's bytes, uint8.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def open_onnx(content: npt.NDArray[np.uint8], path: Path) -> Any:
    """Open an ONNX file's network by OpenCV.

    Raises:
        ConfigError: if OpenCV is not installed.
        CheckpointError: if OpenCV cannot read it.
    """
    try:
        import cv2
    except ImportError:
        raise ConfigError("ONNX files need OpenCV: pip install 'ssl-pipeline[landmarks]'") from None
    try:
        return cv2.dnn.readNetFromONNX(content)
    except cv2.error as error:
        raise CheckpointError(f"{path}: OpenCV cannot read it as an ONNX file ({one_line(error)})") from None


@torch.inference_mode()
def embed_faces(
    embedder: Embedder,
    pixels: npt.NDArray[np.uint8],
    pixel_rows: IntArray,
    *,
    compute: Compute,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Compute the features of the faces in these rows of uint8 [M, S, S, 3], float32 [N, D], in batches, in order.

    Raises:
        CheckpointError: if features are not finite.
    """
    embedder.to(compute.device)
    parts = []
    for start in range(0, len(pixel_rows), batch_size):
        rows = pixel_rows[start : start + batch_size]
        faces = torch.from_numpy(np.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2).to(compute.device)
        with compute.autocast():
            parts.append(embedder(faces).cpu().numpy())
        if not np.isfinite(parts[-1]).all():
            raise CheckpointError(
                f"the network's features are not finite numbers in {compute.precision}; --set prediction.precision=fp32"
            )
        if on_batch is not None:
            on_batch(len(rows))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
