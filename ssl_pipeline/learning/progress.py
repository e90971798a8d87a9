"""Progress of a training: its position and history; loss and monitored metric on the bar, a log line per tenth of the epochs."""

import math
from dataclasses import dataclass, field

from ssl_pipeline.runs.progress import ProgressBar


@dataclass
class Progress:
    """Position and history of a training: completed epochs, and steps and losses of the current epoch."""

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    learning_rate: float = math.nan
    """At the first step of the current epoch."""
    best_metric: float = math.nan
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


class TrainingProgress(ProgressBar):
    """Progress bar over epochs that also moves by step."""

    def __init__(self, name: str, num_epochs: int, *, start: int = 0, shown: bool = True) -> None:
        super().__init__(name, num_epochs, unit="epochs", start=start, is_shown=shown, min_seconds_between_lines=0)
        self._epoch, self._scores = start, ""

    def step_done(self, step: int, num_steps: int, loss: float) -> None:
        """Move by one step of the current epoch."""
        self.show(self._epoch + step / num_steps, note=", ".join(filter(None, (f"loss {loss:.3f}", self._scores))))

    def epoch_done(self, row: dict[str, float], *, best: float, monitor: str) -> None:
        """Move by one epoch, given its row of the history and the best value of the monitored metric so far."""
        self._epoch += 1
        self._scores = f"{monitor.replace('_', ' ')} {row[monitor]:.3f} best {best:.3f}"
        self.advance(note=f"loss {row['train_loss']:.3f}, {self._scores}")
