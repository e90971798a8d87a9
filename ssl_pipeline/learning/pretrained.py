"""Pretrained weights from a file: read by timm, compared here, so that nothing but the classifier stays random."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from timm.models import load_state_dict
from torch import Tensor, nn

from ssl_pipeline.errors import CheckpointError

logger = logging.getLogger(__name__)


@dataclass
class _Loaded:
    """What loading left out."""

    fresh: list[str] = field(default_factory=list)
    """Tensors of the model that the file lacks, or has in another shape."""
    unused: list[str] = field(default_factory=list)
    """Tensors of the file that the model lacks."""
    num_tensors: int = 0


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights to the CPU, without running code from the file.

    Wrappers are removed: ``state_dict``, ``model`` or an EMA of them; ``module.``, ``_orig_mod.``, ``backbone.``.

    Raises:
        CheckpointError: if the file cannot be read as weights.
    """
    try:
        weights = load_state_dict(str(path), weights_only=True)
        weights = {str(name).removeprefix("backbone."): tensor for name, tensor in weights.items()}
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights ({type(error).__name__}); expected .safetensors or a plain state dict"
        ) from None
    if not any(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: contains no tensors; expected .safetensors or a plain state dict")
    return weights


def load_weights_file(
    path: Path, weights: dict[str, Tensor], create: Callable[..., Any], *, first_convolution: str | None
) -> Any:
    """Create a timm model with these weights; timm resamples position embeddings and convolutions of other channels.

    Args:
        path: named in messages.
        weights: from `read_weights`.
        create: creates the model; its keyword arguments replace entries of the model's `pretrained_cfg`.
        first_convolution: name of the convolution of the pixels, if the model has one that timm adapts to gray weights.

    Raises:
        CheckpointError: if a tensor other than the classifier's stays random, naming it.
    """
    overlay: dict[str, Any] = {
        "state_dict": weights,
        "num_classes": 0,
        "custom_load": False,
        "source": "",
    }  # 0: a new classifier
    with _recorded() as loaded:
        try:
            model = create(**overlay, **_channels(weights, first_convolution))
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{path}: does not fit the architecture ({' '.join(str(error).split())[:200]}); use weights of the same "
                "architecture"
            ) from None
    model.pretrained_cfg.pop("state_dict", None)  # else the weights stay in memory twice
    check_loaded(path, model, loaded)
    return model


def load_into(path: Path, weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Load weights into a model that is not timm's, except for its classifier.

    Raises:
        CheckpointError: if a tensor other than the classifier's stays random, naming it.
    """
    with _recorded() as loaded:
        model.load_state_dict(dict(weights))
    check_loaded(path, model, loaded)


def check_loaded(path: Path, model: Any, loaded: _Loaded) -> None:
    """Refuse a model of which more than the classifier stayed random; log what was left out."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or "classifier"
    heads = [f"{name}." for name in ((names,) if isinstance(names, str) else names)]
    body = [name for name in loaded.fresh if not name.startswith(tuple(heads))]
    if body:
        raise CheckpointError(
            f"{path}: {len(body)} of {loaded.num_tensors} tensors are missing or have another shape: {_list(body)}; use "
            "weights of the same architecture"
        )
    unused = [name for name in loaded.unused if not name.startswith(tuple(heads))]
    left_out = f"; not used from the file: {_list(unused)}" if unused else ""
    logger.info("%s: read; random: %s%s", path, _list(loaded.fresh) or "nothing", left_out)


@contextmanager
def _recorded() -> Iterator[_Loaded]:
    """Record what `load_state_dict` leaves out, since timm only logs it; shapes that differ count as left out."""
    loaded, load = _Loaded(), nn.Module.load_state_dict

    def record(module: nn.Module, weights: Mapping[str, Any], **_: Any) -> Any:
        expected = module.state_dict()
        fitting = {
            name: tensor
            for name, tensor in weights.items()
            if name in expected and tuple(expected[name].shape) == tuple(getattr(tensor, "shape", (-1,)))
        }
        loaded.fresh = [name for name, tensor in expected.items() if name not in fitting and tensor.is_floating_point()]
        loaded.unused = [name for name in weights if name not in expected]
        loaded.num_tensors = len(expected)
        return load(module, fitting, strict=False)

    with patch.object(nn.Module, "load_state_dict", record):
        yield loaded


def _channels(weights: Mapping[str, Tensor], first_convolution: str | None) -> dict[str, Any]:
    """Return the input size of weights that were trained on gray pictures, else nothing.

    The name matters: depthwise convolutions have one channel, too, and files list tensors in any order.
    """
    first = weights.get(f"{first_convolution}.weight")
    is_gray = isinstance(first, Tensor) and first.dim() == 4 and first.shape[1] == 1 and first.shape[0] > 1
    return {"input_size": (1, 224, 224)} if is_gray else {}


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
