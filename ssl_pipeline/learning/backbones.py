"""Backbones from timm: names, building for an image size, and a trial on the meta device, which allocates no memory."""

import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning.hub import HubWeights
from ssl_pipeline.learning.pretrained import load_weights_file, read_weights

_HUB_PREFIX = re.compile(r"^(hf-hub:|hf_hub:|local-dir:)", re.IGNORECASE)
_LOCAL_PREFIX = "local-dir:"
_OWN_PREFIX = re.compile(r"^((hf-hub:|hf_hub:)?timm/)", re.IGNORECASE)
_OPTIONS = {"drop_rate": "dropout", "drop_path_rate": "stochastic_depth"}
"""timm's name → the config's."""


def check_name(architecture: str) -> None:
    """Check that timm has an architecture; a name on a hub or in a folder is read only when the model is built.

    Raises:
        ConfigError: with the closest names.
    """
    name = timm_name(architecture)
    if _HUB_PREFIX.match(name) or timm.is_model(name.split(".")[0]):
        return
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
    raise ConfigError(
        f"architecture '{architecture}': expected a timm model name or wrn<depth>_<width>, e.g. wrn16_2{hint}"
    )


def check_hub(config: ModelConfig) -> None:
    """Check that pretrained weights are in the local cache, or that the hub would give them; nothing is downloaded.

    Raises:
        ConfigError: if timm knows of no such weights.
        CheckpointError: if they cannot be had.
    """
    name = timm_name(config.architecture)
    if config.pretrained and not name.startswith(_LOCAL_PREFIX):
        HubWeights(name).check()


def timm_name(architecture: str) -> str:
    """Return the name for timm's registry: ``timm/`` and ``hf-hub:timm/`` in front of a known model are dropped.

    >>> timm_name("hf-hub:timm/resnet18.a1_in1k"), timm_name("hf-hub:me/mine")
    ('resnet18.a1_in1k', 'hf-hub:me/mine')
    """
    name = _OWN_PREFIX.sub("", architecture)
    return name if timm.is_model(name.split(".")[0]) else architecture


def build_backbone(config: ModelConfig, *, num_logits: int, image_size: int, load_pretrained: bool) -> Any:
    """Build a timm model for an image size, with random weights from torch's global generator or pretrained ones.

    Raises:
        ConfigError: if the model rejects its options or the image size.
        CheckpointError: if pretrained weights, or a hub's settings of the architecture, cannot be fetched, read, or do not fit.
    """
    options = _options(config, num_logits)
    sized = _takes_image_size(timm_name(config.architecture), image_size)
    if sized:
        options["img_size"] = image_size
    weights_file = _weights_file(config) if load_pretrained else None
    if weights_file is not None:
        model = load_weights_file(
            weights_file,
            read_weights(weights_file),
            lambda **overlay: _create(config, options, pretrained=True, **overlay),
            first_convolution=_first_convolution(timm_name(config.architecture)),
        )
    else:
        model = _create(config, options, pretrained=config.pretrained and load_pretrained)
    if not sized and getattr(model, "patch_embed", None) is not None and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=image_size)
    return model


def _weights_file(config: ModelConfig) -> Path | None:
    """Return the file of pretrained weights, downloaded from the hub if need be; None without, or for timm to find."""
    name = timm_name(config.architecture)
    if not config.pretrained or name.startswith(_LOCAL_PREFIX):
        return config.weights_file
    return HubWeights(name).fetch()


def _name_for_timm(architecture: str) -> str:
    """Return the name to create a model by: of a hub model, its folder in the local cache, which needs no network."""
    name = timm_name(architecture)
    if _HUB_PREFIX.match(name) and not name.startswith(_LOCAL_PREFIX):
        return f"{_LOCAL_PREFIX}{HubWeights(name).settings_folder()}"
    return name


def _options(config: ModelConfig, num_logits: int) -> dict[str, Any]:
    """Return what was asked for only: not every model takes every option."""
    asked = {"drop_rate": config.dropout, "drop_path_rate": config.stochastic_depth}
    return {"num_classes": num_logits, **{name: value for name, value in asked.items() if value}}


def _create(config: ModelConfig, options: dict[str, Any], *, pretrained: bool, **overlay: Any) -> Any:
    name = _name_for_timm(config.architecture)
    try:
        return timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay or None, **options)
    except TypeError as error:
        refused = [name for name in _OPTIONS if name in options and f"'{name}'" in str(error)]
        if not refused:
            raise ConfigError(f"architecture '{config.architecture}' cannot be built: {one_line(error)}") from None
        name = _OPTIONS[refused[0]]
        raise ConfigError(
            f"architecture '{config.architecture}' does not take {name}; --set {name}=0, or choose another architecture"
        ) from None
    except Exception as error:  # whatever a model's code raises for options that it cannot have
        raise ConfigError(f"architecture '{config.architecture}' cannot be built: {one_line(error)}") from None


def _first_convolution(name: str) -> str | None:
    """Return the name of the convolution of the pixels; None if timm names none, or several."""
    settings = None if _HUB_PREFIX.match(name) else timm.get_pretrained_cfg(name, allow_unregistered=True)
    first = None if settings is None else settings.first_conv
    return first if isinstance(first, str) else None


@lru_cache(maxsize=64)
def _takes_image_size(name: str, image_size: int) -> bool:
    """Return whether a model is built with ``img_size=``: transformers and mixers are, networks of convolutions are not."""
    if _HUB_PREFIX.match(name):
        return False
    try:
        with torch.device("meta"):
            timm.create_model(name, img_size=image_size)
    except Exception:  # a TypeError; or the size is impossible, which the model without it says again
        return False
    return True


def one_line(error: BaseException) -> str:
    """Return an error's message, or its type, in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}…"


def own_image_size(architecture: str) -> int | None:
    """Return the image side that a timm model was made for; None if it has none, or one that a run cannot have."""
    name = timm_name(architecture)
    settings = None if _HUB_PREFIX.match(name) else timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = int(settings.input_size[-1]) if settings is not None else 0
    return size if 16 <= size <= 1024 else None
