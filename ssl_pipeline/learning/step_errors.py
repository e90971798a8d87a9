"""Errors of a training step, with their cures: a loss that is not finite, too little memory, a failed compilation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_pipeline.config.training import TrainingConfig
from ssl_pipeline.errors import TrainingError


class StepPosition(NamedTuple):
    """A step of a training, for messages."""

    name: str
    """The model's."""
    config: TrainingConfig
    image_size: int
    epoch: int
    """From 0."""
    step: int
    """Of the training, from 0."""


def not_finite(image_ids: Sequence[str], indices: Tensor, loss: float, position: StepPosition) -> TrainingError:
    """Return the error of a loss that is not finite, naming the batch's faces, int [B]."""
    shown = [image_ids[index] for index in indices[:8].tolist()]
    more = f" and {len(indices) - len(shown):,} more" if len(indices) > len(shown) else ""
    rate = position.config.optimizer.learning_rate
    return TrainingError(
        f"{position.name}: the loss is {loss} at step {position.step} (epoch {position.epoch}), learning rate {rate:.3g}, "
        f"faces {', '.join(shown)}{more}; --set optimizer.learning_rate={rate / 10:.3g}, --set max_gradient_norm=1 or "
        "--set precision=fp32"
    )


@contextmanager
def translate_errors(position: StepPosition) -> Iterator[None]:
    """Turn out-of-memory and compile failures into TrainingError."""
    name, config = position.name, position.config
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"{name}: torch.compile failed ({reason}); --set compile=false") from None
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        parts = [
            n
            for n in range(config.accumulation_steps + 1, config.batch_size + 1)
            if config.batch_size % (n * config.num_processes) == 0
        ]
        raise TrainingError(
            f"{name}: out of memory at step {position.step} with {config.batch_size // config.accumulation_steps} faces "
            f"of {position.image_size} pixels per micro-batch; "
            f"{f'--set accumulation_steps={parts[0]} (same result for networks without batch norm), ' if parts else ''}"
            f"lower batch_size (now {config.batch_size}) or the faces' image_size"
        ) from None
