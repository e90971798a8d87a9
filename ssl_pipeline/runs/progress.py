"""Progress of long work: a bar on a terminal, log lines, and shares reported to listeners such as Prefect."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

logger = logging.getLogger(__name__)

Listener = Callable[[str, float], None]
"""Called with the name of the work, e.g. ``teacher`` or ``labeling``, and the finished share, in [0, 1]."""

_listener: ContextVar[Listener] = ContextVar("listener", default=lambda name, share: None)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call `listener` for the work inside this context, in this process. It is called often, so it must be quick."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(name: str, share: float) -> None:
    """Pass the finished share of some work, in [0, 1], to the listener."""
    _listener.get()(name, share)


class ProgressBar:
    """Progress of one piece of work: a bar on a terminal, a log line per tenth, and the share for the listener."""

    def __init__(
        self,
        name: str,
        total: int,
        *,
        unit: str,
        start: int = 0,
        is_shown: bool = True,
        min_seconds_between_lines: float = 10,
    ) -> None:
        """Create a bar; enter it as a context to show it.

        Args:
            name: the work's name, for people and listeners.
            total: units in all.
            unit: plural noun, e.g. ``images``.
            start: units finished earlier.
            is_shown: whether to draw the bar and log; listeners are called anyway.
            min_seconds_between_lines: log less often than per tenth if tenths are shorter than this.
        """
        self._name, self._total, self._unit, self._completed = name, total, unit, start
        self._is_shown, self._min_seconds = is_shown, min_seconds_between_lines
        self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit} {{task.fields[note]}}"),
            _Rate(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (is_shown and console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=total, completed=start, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, num_units: int = 1, *, note: str = "") -> None:
        """Count finished units; the note follows them on the bar and in the log line."""
        tenth = 10 * self._completed // self._total
        self._completed += num_units
        self.show(self._completed, note=note)
        report(self._name, self._completed / self._total)
        is_line_due = time.monotonic() - self._last_line >= self._min_seconds
        if self._is_shown and 10 * self._completed // self._total > tenth and is_line_due:
            self._last_line = time.monotonic()
            counts = f"{self._completed:,} of {self._total:,} {self._unit}"
            logger.info("%s: %s", self._name, ", ".join(filter(None, (counts, note))))

    def show(self, completed: float, *, note: str = "") -> None:
        """Move the bar alone, e.g. inside a unit."""
        self._bar.update(self._task, completed=completed, note=note)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        is_known = task.speed is not None and task.speed >= 1
        return Text(f"{task.speed:,.0f} {self._unit}/s" if is_known else "")
