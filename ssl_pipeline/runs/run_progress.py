"""Progress of a whole run: which of its stages works, and how long the rest takes by the speeds measured in this run."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ssl_pipeline.runs.plan import PlannedStage, Work

logger = logging.getLogger(__name__)

FORWARD_SHARE = 1 / 3
"""Time of a prediction, as a share of a training step's with as many faces: backward costs twice as much as forward."""
_MIN_SECONDS = 3.0
"""Of work, before its speed counts as measured."""


class RunProgress:
    """Position of a run among its stages, and the time left; told by the stages' records and by progress bars."""

    def __init__(self, plan: Callable[[], Iterable[PlannedStage]] = tuple) -> None:
        """Follow the stages of `plan`, which is asked again at every stage, since a gate may shorten it."""
        self._plan = plan
        self._stages: Sequence[PlannedStage] = ()
        self._current: PlannedStage | None = None
        self._reached: dict[Path, None] = {}
        """Directories of the stages that worked or were skipped, in order. Stages that were passed over drop out."""
        self._is_announced = False
        self._num_parts_done = 0
        self._share = 0.0
        """Finished share of the current stage's work."""
        self._first: tuple[float, float] | None = None
        """Time in seconds and share at the first update of the work that is measured now."""
        self._is_measured = False
        self._seconds_per_share: float | None = None
        """Measured in the current stage."""
        self._seconds_per_face: dict[Hashable, float] = {}
        """Measured in this run, by `_speed_key`."""

    def begin(self, directory: Path) -> None:
        """Log the stage to which the work in a directory belongs, once per stage."""
        self._is_measured, stage = False, self._reach(directory)
        if stage is None:
            return
        if not self._is_announced:
            self._is_announced = True
            logger.info("%s: %s", self.words.capitalize(), stage.title)
        if stage.work is not None and directory in (stage.directory, *_parts(stage, directory)):
            self._is_measured, self._first = True, None

    def done(self, directory: Path) -> None:
        """The work in a directory is finished, now or before."""
        stage = self._reach(directory)
        self._is_measured = False
        if stage is not None and directory == stage.directory:
            self._share = 1.0
        elif stage is not None and _parts(stage, directory):
            self._num_parts_done += 1

    def update(self, share: float) -> None:
        """Note the finished share, in [0, 1], of the work that has begun last."""
        if not self._is_measured or self._current is None or self._current.work is None:
            return
        now = time.monotonic()
        self._share = (self._num_parts_done + share) / self._current.num_members
        if self._first is None:
            self._first = now, self._share
        elif now - self._first[0] >= _MIN_SECONDS and self._share > self._first[1]:
            self._seconds_per_share = (now - self._first[0]) / (self._share - self._first[1])
            if self._current.work.num_faces:
                key = _speed_key(self._current.work)
                self._seconds_per_face[key] = self._seconds_per_share / self._current.work.num_faces

    @property
    def words(self) -> str:
        """E.g. ``stage 3 of 9, about 4 minutes left``; without a time if it is not known, and empty outside a run."""
        if self._current is None:
            return ""
        position = f"stage {len(self._reached)} of {len(self._reached) + len(self._after)}"
        return f"{position}, {duration(seconds)} left" if (seconds := self.seconds_left) else position

    @property
    def seconds_left(self) -> float | None:
        """Time left of the trainings and the predictions of the pool; None if the speed of one of them is not known."""
        if self._current is None:
            return None
        times = [self._seconds_of(stage.work) for stage in self._after]
        if self._seconds_per_share is not None:
            times.append(self._seconds_per_share * (1 - self._share))
        elif self._share < 1 and (whole := self._seconds_of(self._current.work)) is not None:
            times.append(whole * (1 - self._share))
        elif self._share < 1:
            return None
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None

    @property
    def _after(self) -> list[PlannedStage]:
        return [stage for stage in self._stages[self._place + 1 :] if stage.directory not in self._reached]

    @property
    def _place(self) -> int:
        """Position of the current stage in the plan; -1 without one."""
        current = None if self._current is None else self._current.directory
        return next((place for place, stage in enumerate(self._stages) if stage.directory == current), -1)

    def _reach(self, directory: Path) -> PlannedStage | None:
        """Find the stage of a record, and make it the current one; None if it is none, or an earlier one."""
        self._stages = list(self._plan())
        current = self._place
        for path in (directory, directory.parent):
            for place, stage in enumerate(self._stages):
                if path in (stage.directory, *stage.also) and place >= current:
                    if place > current:
                        self._current, self._is_announced = stage, False
                        self._num_parts_done, self._share, self._seconds_per_share = 0, 0.0, None
                        self._reached[stage.directory] = None
                    return stage
        return None

    def _seconds_of(self, work: Work | None) -> float | None:
        if work is None:
            return 0.0
        if work.num_faces is None:
            return None
        speed = self._seconds_per_face.get(_speed_key(work))
        if speed is None and not work.trains:
            as_training = self._seconds_per_face.get(_speed_key(Work(work.role, None, trains=True)))
            speed = None if as_training is None else as_training * FORWARD_SHARE
        return None if speed is None else work.num_faces * speed


def _parts(stage: PlannedStage, directory: Path) -> tuple[Path, ...]:
    return (directory,) if stage.num_members > 1 and directory.parent == stage.directory else ()


def _speed_key(work: Work) -> Hashable:
    """What the time per face depends on."""
    assert work.role is not None
    model = work.role.model
    return work.trains, model.architecture, model.input_size


def duration(seconds: float) -> str:
    """Say a duration in words.

    >>> duration(20), duration(100), duration(3 * 3600)
    ('less than a minute', 'about 2 minutes', 'about 3 hours')
    """
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {round(minutes / 30) / 2:g} hours"


_run: ContextVar[RunProgress | None] = ContextVar("run_progress", default=None)


def run_progress() -> RunProgress:
    """Return the progress of the run that this code works in; of no stages outside a run."""
    return _run.get() or RunProgress()


@contextmanager
def follow_run(plan: Callable[[], Iterable[PlannedStage]]) -> Iterator[None]:
    """Follow a run inside this context."""
    token = _run.set(RunProgress(plan))
    try:
        yield
    finally:
        _run.reset(token)
