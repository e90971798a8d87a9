"""What a person sees of a training: a bar on a terminal, log lines elsewhere."""

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ssl_pipeline.runs.progress import report

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Loss, metric and time left of one training. Log lines come about ten times a training."""

    def __init__(self, name: str, num_epochs: int, *, start: int = 0, shown: bool = True) -> None:
        self._name, self._num_epochs, self._epoch, self._shown = name, num_epochs, start, shown
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            transient=True,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task(f"{name} epochs", total=num_epochs, completed=start, numbers="")
        self._scores = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step_done(self, step: int, num_steps: int, loss: float) -> None:
        """Move on by a step of the epoch under way."""
        numbers = f"loss {loss:.3f} {self._scores}"
        self._bar.update(self._task, completed=self._epoch + step / num_steps, numbers=numbers)

    def epoch_done(self, row: dict[str, float], *, best: float, monitor: str) -> None:
        """Move on by an epoch, given its row of the history and the best of the monitored metric so far."""
        self._epoch += 1
        self._scores = f"{monitor.replace('_', ' ')} {row[monitor]:.3f} best {best:.3f}"
        self._bar.update(self._task, completed=self._epoch)
        report(self._name, self._epoch / self._num_epochs)
        if not self._shown:
            return
        if self._epoch % max(self._num_epochs // 10, 1) == 0 or self._epoch == self._num_epochs:
            logger.info(
                "%s: epoch %d of %d, loss %.3f, %s",
                self._name,
                self._epoch,
                self._num_epochs,
                row["train_loss"],
                self._scores,
            )
