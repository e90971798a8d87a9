"""Training that is interrupted before a step."""

from pathlib import Path

import pytest

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.trackers import Tracking
from tests.conftest import make_faces


class Interrupted(Exception):
    pass


def fit_until(
    step: int,
    role: RoleConfig,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tracking: Tracking | None = None,
) -> None:
    """Train until just before this step, counted from 1."""
    take_step, taken = training_loop.TrainingLoop._step, []

    def interrupt(self: object, *args: object) -> float:
        taken.append(1)
        if len(taken) == step:
            raise Interrupted
        return take_step(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(training_loop.TrainingLoop, "_step", interrupt)
        fit(role, make_faces(), directory=directory, seed=3, tracking=tracking)
