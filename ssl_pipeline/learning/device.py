"""Device, precision and processes of training and prediction, over Hugging Face Accelerate."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn

from ssl_pipeline.config.run import Device
from ssl_pipeline.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of mallopt(3)


def resolve_device(device: Device) -> torch.device:
    """Choose the device; `auto` takes CUDA if available.

    Raises:
        ConfigError: if `cuda` or `mps` is requested and not available.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("'device': expected a CUDA device, found none; use device: auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("'device': expected a Mac's GPU (mps), found none; use device: auto or cpu")
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_processes(num_processes: int, device: Device) -> None:
    """Reject more training processes than GPUs, when training on GPUs; a Mac has one.

    Raises:
        ConfigError: with the number of GPUs.
    """
    if device == "mps" and num_processes > 1:
        raise ConfigError(f"num_processes: expected 1 on a Mac's GPU, got {num_processes}; --set num_processes=1")
    on_gpus = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpus and num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"num_processes: expected at most one process per GPU, got {num_processes} for "
            f"{torch.cuda.device_count()}; --set num_processes={max(torch.cuda.device_count(), 1)}, or --set /device=cpu"
        )


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the autocast dtype; `auto` takes bf16 if the processor supports it in hardware, else fp32.

    Emulated bf16 is slower than fp32.
    """
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "mps":
        return torch.float32
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        has_bf16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if has_bf16 else torch.float32


@contextmanager
def deterministic_algorithms(deterministic: bool) -> Iterator[None]:
    """Use torch's deterministic algorithms inside the block, if `deterministic`; restore the settings afterwards."""
    if not deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks instead of returning them to the system.

    Every layer allocates its activations anew; handing each block back costs page faults at the next use, which large
    batches feel. Other C libraries have no such setting and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**28)
        mallopt(_M_TRIM_THRESHOLD, 2**30)


@dataclass(frozen=True)
class Compute:
    """Device, autocast dtype and, under torchrun, the group of processes that train one model."""

    accelerator: Accelerator
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def build(cls, device: Device, precision: Precision, *, find_unused_parameters: bool = False) -> "Compute":
        """Set up Accelerate.

        Args:
            device: where to compute.
            precision: of matrix products and convolutions.
            find_unused_parameters: of DDP; needed while parts of the model are frozen.

        Raises:
            ConfigError: if the device is not available.
        """
        resolved = resolve_device(device)
        state = PartialState(cpu=resolved.type == "cpu")  # set up once per process; later calls return the first
        ddp = DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)
        # autocast and scaling are torch's own: Accelerate allows one precision per process, and no fp16 on a CPU
        accelerator = Accelerator(mixed_precision="no", device_placement=False, kwargs_handlers=[ddp])
        resolved = torch.device(state.device) if state.num_processes > 1 else resolved
        if resolved.type == "cpu":
            _keep_freed_memory()
        return cls(accelerator, resolved, resolve_dtype(precision, resolved))

    @property
    def precision(self) -> Precision:
        """The resolved precision, by its name in the config."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[None]:
        """Autocast to the lower precision inside the block; does nothing in fp32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Return a gradient scaler, enabled in fp16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def sum(self, value: Tensor) -> Tensor:
        """Sum a tensor over the processes, on this process's device."""
        return torch.as_tensor(self.accelerator.reduce(value.detach().to(self.device), reduction="sum"))

    def shard_indices(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this process's contiguous part of the indices."""
        return np.asarray(np.array_split(indices, self.accelerator.num_processes)[self.accelerator.process_index])

    def gather(self, shard: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Concatenate the processes' shards [n, K] in the order of `shard_indices`: [N, K]."""
        return np.concatenate(gather_object([shard]))

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers (batch-norm statistics) to every process."""
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer.clone()))
