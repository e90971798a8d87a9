"""Which device, which precision: decided once, the same for teacher, student and labeling."""

import logging
import os
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ssl_pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


def resolve_device(device: Device) -> torch.device:
    """Give the device to compute on; `auto` takes CUDA where there is one.

    Raises:
        ConfigError: if CUDA is asked for and absent.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("'device': expected a CUDA device, found none; use device: auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Give the precision to compute in; `auto` takes bf16 where the processor multiplies it in hardware.

    On a CPU without such instructions bf16 is emulated and slower than fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    has_bf16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if has_bf16 or torch.cpu._is_avx512_bf16_supported() else "fp32"


def set_deterministic(deterministic: bool) -> None:
    """Refuse operations whose result may differ in the last bits each time, or allow them.

    On a CPU there are none in our networks; CUDA's cuBLAS asks for a fixed workspace besides.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def build_accelerator(device: Device, precision: Precision) -> Accelerator:
    """Set up Hugging Face Accelerate for one training or labeling."""
    resolved = resolve_device(device)
    mixed = "bf16" if resolve_precision(precision, resolved) == "bf16" else "no"
    # Accelerate keeps one precision a process; teacher and student of one cycle may differ
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=mixed, cpu=resolved.type == "cpu")
