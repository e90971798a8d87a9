"""Where the time of a stage goes: seconds of decoding, augmentation, computing and so on, kept in the stage's record.

Only the thread that runs the stage is measured. What other threads do meanwhile, e.g. read ahead, costs it nothing but `wait`.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Part = Literal["decode", "wait", "augment", "transfer", "compute", "write"]
"""`wait`: for pixels that another thread reads; `transfer`: of pixels to the device; `compute`: by the networks."""


class StageProfile:
    """Seconds of the parts of one stage; a part inside another counts for itself alone."""

    def __init__(self) -> None:
        """Start the clock."""
        self._seconds: dict[str, float] = {}
        self._open = ["other"]
        self._since = time.perf_counter()

    def enter(self, part: str) -> None:
        """Begin a part."""
        self._charge()
        self._open.append(part)

    def leave(self) -> None:
        """End the part that began last."""
        self._charge()
        self._open.pop()

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far by part, the longest first; ``other`` is all else."""
        self._charge()
        return {part: round(own, 2) for part, own in sorted(self._seconds.items(), key=lambda item: -item[1])}

    def _charge(self) -> None:
        _wait_for_gpu()
        now = time.perf_counter()
        self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


_is_on: ContextVar[bool] = ContextVar("profile_is_on", default=False)
_stage: ContextVar[StageProfile | None] = ContextVar("stage_profile", default=None)


@contextmanager
def profiling(is_on: bool) -> Iterator[None]:
    """Measure the stages inside this context, or not."""
    token = _is_on.set(is_on)
    try:
        yield
    finally:
        _is_on.reset(token)


@contextmanager
def stage_profile() -> Iterator[StageProfile | None]:
    """Measure one stage; None if profiling is off."""
    profile = StageProfile() if _is_on.get() else None
    token = _stage.set(profile)
    try:
        yield profile
    finally:
        _stage.reset(token)


@contextmanager
def part_of_stage(part: Part) -> Iterator[None]:
    """Count the time inside this context as a part of the current stage, if it is measured."""
    profile = _stage.get()
    if profile is None:
        yield
        return
    profile.enter(part)
    try:
        yield
    finally:
        profile.leave()


def shares_in_words(seconds: Mapping[str, float]) -> str:
    """Say the share of each part.

    >>> shares_in_words({"compute": 9.0, "write": 0.96, "other": 0.04})
    'compute 90 %, write 10 %'
    """
    total = sum(seconds.values()) or 1.0
    return ", ".join(
        f"{part} {own / total:.0%}".replace("%", " %") for part, own in seconds.items() if own / total >= 0.005
    )


def _wait_for_gpu() -> None:
    """Wait for the work that was sent to a GPU: it counts for the part that sent it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
