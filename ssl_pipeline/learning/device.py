"""Where a network computes, in what precision, and with how many processes: decided once, for training and labeling."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn

from ssl_pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: Device) -> torch.device:
    """Give the device to compute on; `auto` takes CUDA where there is one.

    Raises:
        ConfigError: if CUDA is asked for and absent.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("'device': expected a CUDA device, found none; use device: auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_processes(num_processes: int, device: Device) -> None:
    """Refuse more training processes than this machine has GPUs, where it computes on GPUs.

    Raises:
        ConfigError: with the number of GPUs.
    """
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus and num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"num_processes: expected at most one process a GPU, got {num_processes} for {torch.cuda.device_count()}; "
            "lower it, or set device: cpu"
        )


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Give the type to multiply in; `auto` takes bf16 where the processor multiplies it in hardware, else fp32.

    On a CPU without such instructions bf16 is emulated and slower than fp32.
    """
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    has_bf16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if has_bf16 or torch.cpu._is_avx512_bf16_supported() else torch.float32


@contextmanager
def deterministic_algorithms(deterministic: bool) -> Iterator[None]:
    """Refuse, inside the block, operations whose result may differ in the last bits each time, where that is asked for.

    On a CPU there are none in our networks; CUDA's cuBLAS asks for a fixed workspace besides.
    """
    if not deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@dataclass(frozen=True)
class Compute:
    """A device and a precision; and, under torchrun, this process's place among those that train one model together.

    With one process, what concerns the others does nothing.
    """

    accelerator: Accelerator
    dtype: torch.dtype

    @classmethod
    def build(cls, device: Device, precision: Precision) -> "Compute":
        """Set up Hugging Face Accelerate for one training or labeling.

        Raises:
            ConfigError: if the device is not there.
        """
        resolved = resolve_device(device)
        # Accelerate keeps its choice of device a process; another training of this process may ask for another
        AcceleratorState._reset_state(reset_partial_state=True)
        # precision is torch's own autocast: Accelerate refuses fp16 on a CPU, where the tests of its scaling run
        accelerator = Accelerator(mixed_precision="no", cpu=resolved.type == "cpu")
        return cls(accelerator, resolve_dtype(precision, resolved))

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return torch.device(self.accelerator.device)

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self.accelerator.process_index)

    @property
    def num_processes(self) -> int:
        """How many train together."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return bool(self.accelerator.is_main_process)

    @property
    def precision(self) -> Precision:
        """The precision that was taken, by its name in the config."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[None]:
        """Multiply in the lower precision inside the block, where there is one."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Scale losses up before, and gradients down after going backward, so that fp16 holds them; else do nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def wrap_ddp(self, model: nn.Module, *, some_may_be_frozen: bool) -> nn.Module:
        """Wrap a model so that going backward leaves every process the mean of all processes' gradients."""
        if self.num_processes == 1:
            return model
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=some_may_be_frozen)
        wrapped: nn.Module = self.accelerator.prepare_model(model)
        return wrapped

    def no_sync(self, model: nn.Module, *, unless: bool) -> AbstractContextManager[None]:
        """Keep gradients to oneself inside the block: parts of a batch are added up first, then exchanged once."""
        return self.accelerator.no_sync(model) if self.num_processes > 1 and not unless else nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """Add up a number over the processes."""
        if self.num_processes == 1:
            return value
        summed: Tensor = self.accelerator.reduce(value.detach().to(self.device), reduction="sum")
        return summed.to(value.device)

    def shard_indices(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give this process's part of rows that the processes share out."""
        return np.array_split(rows, self.num_processes)[self.rank]

    def gather(self, part: npt.NDArray[np.float32], *, num_rows: int) -> npt.NDArray[np.float32]:
        """Put the parts [n, K] of all processes together again: [num_rows, K], in the order of `shard_indices`."""
        if self.num_processes == 1:
            return part
        padded = self.accelerator.pad_across_processes(torch.from_numpy(part).to(self.device))
        parts = self.accelerator.gather(padded).cpu().numpy().reshape(self.num_processes, len(padded), -1)
        lengths = [len(rows) for rows in np.array_split(np.arange(num_rows), self.num_processes)]
        return np.concatenate([own[:length] for own, length in zip(parts, lengths, strict=True)])

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: batch norm's statistics are of the faces that each has seen."""
        if self.num_processes > 1:
            for buffer in model.buffers():
                buffer.copy_(broadcast(buffer.clone()))
