"""What a person sees of a prediction: images done, images a second, time left, once it is known how many there are."""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class ImageProgress:
    """A bar on a terminal, nothing elsewhere. Images are counted in the background; until then no total is shown."""

    def __init__(self, images: Iterable[object]) -> None:
        """Take the images, to be counted: not the iterator that is predicted from."""
        console = Console(stderr=True)
        self._images, self._is_shown = images, console.is_terminal
        self._bar = Progress(
            TextColumn("predicting"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not self._is_shown,
        )
        self._task = self._bar.add_task("", total=None)
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        self._bar.start()
        if self._is_shown:
            threading.Thread(target=self._count, name="counting", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._bar.stop()

    def advance(self, num_images: int) -> None:
        """Move on by a number of images."""
        self._bar.advance(self._task, num_images)

    def _count(self) -> None:
        number = 0
        for number, _ in enumerate(self._images, start=1):  # noqa: B007 - the last is the count
            if self._is_over.is_set():
                return
        self._bar.update(self._task, total=number)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")
