"""Votes: one model of several members, networks and linear heads on features, packed into one checkpoint.

Shapes: B batch, K classes, L logits, D features, S image side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_pipeline.config.teachers import OnnxEmbedding, TimmEmbedding
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.embedders import Embedder, OnnxEmbedder, TimmEmbedder
from ssl_pipeline.learning.model import FaceClassifier, build_model, class_log_probabilities

_ONNX = "onnx"
"""Name of the tensor with the bytes of an ONNX file."""


class FeatureHead(nn.Module):
    """A linear head on features: of an embedder, or of a table that only the faces of one run are in."""

    weights: Tensor
    bias: Tensor
    class_codes: Tensor

    def __init__(
        self, weights: Tensor, bias: Tensor, *, labels: LabelSpace, head: str, digest: str, embedder: Embedder | None
    ) -> None:
        super().__init__()
        self.labels = labels
        self.head = head
        self.digest = digest
        """Of the features: of the embedder, or of the table."""
        self.embedder = embedder
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)
        self.register_buffer("class_codes", torch.from_numpy(labels.class_codes), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the log probabilities of the classes, float32 [B, K], from features [B, D]."""
        with torch.autocast(features.device.type, enabled=False):
            logits = features.float() @ self.weights.T + self.bias
        return class_log_probabilities(logits, self.head, self.labels, self.class_codes)

    def features(self, faces: Tensor) -> Tensor:
        """Compute the features, float32 [B, D], of uint8 [B, 3, S, S].

        Raises:
            CheckpointError: if they come from a table.
        """
        if self.embedder is None:
            raise CheckpointError(
                "a teacher of type features cannot predict new images: it has features of the faces of its run only"
            )
        return torch.as_tensor(self.embedder(faces))


@dataclass(frozen=True)
class Member:
    """A model of a vote."""

    name: str
    weight: float
    """Relative to the other members'."""
    model: FaceClassifier | FeatureHead
    model_config: ModelConfig | None = None
    """Of a network."""


class Vote(nn.Module):
    """The weighted mean of the members' class probabilities: p(c | x) = Σ_m w_m · p_m(c | x) / Σ_m w_m."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = tuple(members)
        self.models = nn.ModuleList([member.model for member in members])
        self.labels: LabelSpace = members[0].model.labels

    def weighted(self) -> list[tuple[float, FaceClassifier | FeatureHead]]:
        """Return the members with weights that sum to 1."""
        total = sum(member.weight for member in self.members)
        return [(member.weight / total, member.model) for member in self.members]

    def only(self, name: str) -> "Vote":
        """Return the vote of one member."""
        return Vote([member for member in self.members if member.name == name])

    def to_channels_last(self, device: torch.device) -> "Vote":
        """Move to a device; return self."""
        for member in self.members:
            if isinstance(member.model, FaceClassifier):
                member.model.to_channels_last(device)
            else:
                member.model.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name, ``{position of the member}/{name}``; of an ONNX file its bytes."""
        tensors: dict[str, Tensor] = {}
        for position, member in enumerate(self.members):
            own = dict(member.model.state_dict())
            if isinstance(member.model, FeatureHead) and isinstance(member.model.embedder, OnnxEmbedder):
                own[_ONNX] = torch.from_numpy(member.model.embedder.content)
            tensors |= {f"{position}/{name}": tensor for name, tensor in own.items()}
        return tensors

    def describe(self) -> list[dict[str, Any]]:
        """Return what `rebuild` needs besides the tensors, as plain values."""
        return [
            {"name": member.name, "weight": member.weight, **_describe(member.model, member.model_config)}
            for member in self.members
        ]

    @classmethod
    def rebuild(
        cls, descriptions: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor], *, labels: LabelSpace, size: int
    ) -> "Vote":
        """Rebuild a vote from its `describe` and `tensors`.

        Args:
            descriptions: of the members.
            tensors: of all members.
            labels: the classes.
            size: image side in pixels of the networks.

        Raises:
            KeyError, ValueError, RuntimeError: if they do not fit each other.
        """
        members = []
        for position, description in enumerate(descriptions):
            prefix = f"{position}/"
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            build = _network if "model" in description else _head
            model, config = build(description, own, labels, size)
            members.append(Member(description["name"], float(description["weight"]), model.eval(), config))
        return cls(members)


def describe_network(model: FaceClassifier, config: ModelConfig | None) -> dict[str, Any]:
    """Return what a checkpoint needs to rebuild a network besides its tensors, as plain values."""
    assert config is not None
    return {
        "model": config.model_dump(mode="json", exclude={"pretrained", "weights_file"}),
        "normalization": {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()},
    }


def _describe(model: FaceClassifier | FeatureHead, config: ModelConfig | None) -> dict[str, Any]:
    if isinstance(model, FaceClassifier):
        return describe_network(model, config)
    description: dict[str, Any] = {"head": model.head, "digest": model.digest, "embedding": None}
    if model.embedder is not None:
        settings = model.embedder.settings
        kind = _ONNX if isinstance(model.embedder, OnnxEmbedder) else "timm"
        values = settings.model_dump(mode="json", exclude={"weights_file", "pretrained"})
        if "file" in values:
            values["file"] = Path(values["file"]).name  # named in messages only
        description["embedding"] = {"kind": kind, **values}
    return description


def _network(
    description: Mapping[str, Any], tensors: dict[str, Tensor], labels: LabelSpace, size: int
) -> tuple[FaceClassifier, ModelConfig]:
    config = ModelConfig.model_validate(description["model"])
    model = build_model(config, labels=labels, image_size=size, load_pretrained=False)
    model.load_state_dict(tensors)
    for name, buffer in (("mean", model.mean), ("std", model.std)):
        buffer.copy_(torch.tensor(description["normalization"][name]).view(1, 3, 1, 1))
    return model, config


def _head(
    description: Mapping[str, Any], tensors: dict[str, Tensor], labels: LabelSpace, size: int
) -> tuple[FeatureHead, None]:
    values, digest = description["embedding"], description["digest"]
    embedder: Embedder | None = None
    onnx = tensors.pop(_ONNX, None)
    if values is not None:
        settings = {name: value for name, value in values.items() if name != "kind"}
        if onnx is not None:
            embedder = OnnxEmbedder(OnnxEmbedding.model_validate(settings), content=onnx.numpy(), digest=digest)
        else:
            embedder = TimmEmbedder(TimmEmbedding.model_validate(settings), load_pretrained=False, digest=digest)
    head = FeatureHead(
        torch.zeros_like(tensors["weights"]),
        torch.zeros_like(tensors["bias"]),
        labels=labels,
        head=description["head"],
        digest=digest,
        embedder=embedder,
    )
    head.load_state_dict(tensors)
    return head, None
