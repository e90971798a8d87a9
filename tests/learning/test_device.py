"""The device that a setting stands for, and its precision."""

import pytest
import torch

from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning.device import check_processes, resolve_device, resolve_dtype


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(
        getattr(torch, device) if device == "cuda" else torch.backends.mps, "is_available", lambda: False
    )
    with pytest.raises(ConfigError, match="found none; use device: auto or cpu"):
        resolve_device(device)  # type: ignore[arg-type]


def test_a_device_is_taken_when_it_is_named_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen = {device: resolve_device(device).type for device in ("auto", "cpu", "cuda", "mps")}  # type: ignore[arg-type]
    assert chosen == {"auto": "cuda", "cpu": "cpu", "cuda": "cuda", "mps": "mps"}
    assert resolve_dtype("auto", torch.device("mps")) == torch.float32
    with pytest.raises(ConfigError, match="expected 1 on a Mac's GPU"):
        check_processes(2, "mps")
    with pytest.raises(ConfigError, match="at most one process per GPU"):
        check_processes(2, "auto")
