"""A trial of a role's network before any work: one batch of the run's size on the meta device, which allocates no memory."""

from contextlib import suppress

import torch
from torch import Tensor

from ssl_pipeline.config.messages import with_whole_keys
from ssl_pipeline.config.training import STORED_PER_INPUT, ModelConfig, RoleConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.backbones import check_hub, one_line, own_image_size
from ssl_pipeline.learning.model import FaceClassifier, build_model, check_architecture
from ssl_pipeline.learning.optimizers import check_optimizer
from ssl_pipeline.learning.start import linear_classifier

_META = torch.device("meta")
_BATCH = 2


def check_network(
    role: RoleConfig, *, key: str, labels: LabelSpace, image_size: int, needs_features: bool = False
) -> None:
    """Check that a role's network can be built, takes faces of this size, and has what its training uses.

    Args:
        role: model and training.
        key: of the role in the config, for the cures.
        labels: the classes.
        image_size: side of the stored faces in pixels.
        needs_features: whether the network's pooled features are used, too.

    Raises:
        ConfigError: naming the key, the fault and the cure.
    """
    try:
        check_architecture(role.model)
        check_hub(role.model)
        model = _try(role.model, labels, image_size, needs_features=needs_features)
    except (ConfigError, CheckpointError) as error:
        raise ConfigError(f"'{key}.model': {with_whole_keys(str(error), f'{key}.model')}") from None
    try:
        if role.training.head_start == "linear_probe":
            linear_classifier(model)
    except ConfigError as error:
        raise ConfigError(f"'{key}.training': {with_whole_keys(str(error), f'{key}.training')}") from None
    try:
        check_optimizer(role, model)
    except ConfigError as error:
        raise ConfigError(
            f"'{key}.training.optimizer': {with_whole_keys(str(error), f'{key}.training.optimizer')}"
        ) from None


def _try(config: ModelConfig, labels: LabelSpace, image_size: int, *, needs_features: bool) -> FaceClassifier:
    """Build the model and pass a batch through it, on the meta device or, if its code needs real tensors, on the CPU."""
    try:
        return _build_and_pass(config, labels, image_size, needs_features=needs_features)
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:  # whatever the model's code raises for a size that it cannot have
        message = one_line(error)
    size, cure, own = (
        config.input_size or image_size,
        "choose another architecture",
        own_image_size(config.architecture),
    )
    if own not in (None, size):
        settings = [f"--set /faces.image_size={own}"]
        if config.input_size is not None:
            larger = [] if own <= image_size else [f"--set /faces.image_size={round(STORED_PER_INPUT * own)}"]
            settings = [*larger, f"--set input_size={own}"]
        with suppress(Exception):
            whole = config.model_copy(update={"input_size": None})
            _build_and_pass(whole, labels, own, needs_features=needs_features)
            cure = f"{' '.join(settings)}, the size that it was made for, or choose another architecture"
    raise ConfigError(
        f"architecture '{config.architecture}' does not take faces of {size} × {size} pixels ({message}); {cure}"
    )


def _build_and_pass(
    config: ModelConfig, labels: LabelSpace, image_size: int, *, needs_features: bool
) -> FaceClassifier:
    try:
        with _META:
            model = build_model(config, labels=labels, image_size=image_size, load_pretrained=False).to(_META)
        _pass(model, image_size, needs_features, _META)
    except Exception as error:
        if not isinstance(error, NotImplementedError) and "meta" not in str(error):
            raise
        model = build_model(config, labels=labels, image_size=image_size, load_pretrained=False)
        _pass(model, image_size, needs_features, torch.device("cpu"))
    return model


def _pass(model: FaceClassifier, image_size: int, needs_features: bool, device: torch.device) -> None:
    """Pass a batch through the model, in training mode as in the first step.

    Raises:
        ValueError: if it returns another number of log probabilities.
    """
    pixels = torch.zeros(_BATCH, 3, image_size, image_size, dtype=torch.uint8, device=device)
    with torch.no_grad():
        output = model.train()(pixels)
        if not isinstance(output, Tensor) or output.shape != (_BATCH, model.labels.num_classes):
            raise ValueError(f"it returns {getattr(output, 'shape', type(output).__name__)} for {_BATCH} faces")
        if needs_features:
            model.eval().features(pixels)
