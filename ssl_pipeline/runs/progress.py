"""Progress of long work: a bar on a terminal, log lines, and shares reported to listeners such as Prefect."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ssl_pipeline.runs.run_progress import run_progress

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
    """Pass the finished share of some work, in [0, 1], to the listener and to the progress of the run."""
    run_progress().update(share)
    _listener.get()(name, share)


_are_hidden: ContextVar[bool] = ContextVar("bars_are_hidden", default=False)


@contextmanager
def hide_bars() -> Iterator[None]:
    """Draw no bars inside this context."""
    token = _are_hidden.set(True)
    try:
        yield
    finally:
        _are_hidden.reset(token)


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
        console, one_line = Console(stderr=True), Column(no_wrap=True)
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn(f"{{task.completed:,.0f}}/{{task.total:,}} {unit}", table_column=one_line),
            TimeRemainingColumn(compact=True, table_column=one_line),
            TextColumn("left", table_column=one_line),
            console=console,
            transient=True,
            expand=True,
            disable=_are_hidden.get() or not (is_shown and console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=total, completed=start, note="", unit=unit)

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
            with self._bar.hidden():  # else the line would be written into it
                logger.info("%s: %s", self._name, ", ".join(filter(None, (counts, note, run_progress().words))))

    def show(self, completed: float, *, note: str = "") -> None:
        """Move the bar alone, e.g. inside a unit."""
        run_progress().update(completed / self._total)
        self._bar.update(self._task, completed=completed, note=note)


class _Bar(Progress):
    """A bar that fits into 80 columns, with the work's speed and note below it, and the position in the run."""

    def __init__(self, *columns: ProgressColumn, **settings: Any) -> None:
        self._run = run_progress()  # not known to the thread that draws
        super().__init__(*columns, **settings)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar and the lines below it."""
        yield self.make_tasks_table(self.tasks)
        for texts in (*map(_details, self.tasks), (self._run.words,)):
            if line := ", ".join(filter(None, texts)):
                yield Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis")

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar off the terminal inside this context."""
        if self.disable:
            yield
            return
        self.stop()
        try:
            yield
        finally:  # a Live that starts again erases the lines above it
            self.live = Live(console=self.console, transient=True, get_renderable=self.get_renderable)
            self.start()


def _details(task: Task) -> tuple[str, str]:
    """Return the speed, if it is at least one unit per second, and the note."""
    speed = task.speed or 0
    return f"{speed:,.0f} {task.fields['unit']}/s" if speed >= 1 else "", task.fields["note"]
