"""Budgets in steps, and which epoch's weights are kept."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.schedules import learning_rates
from tests.conftest import make_faces, make_role
from tests.learning import interruption


def test_a_budget_in_steps_ends_within_an_epoch_and_the_schedule_ends_with_it(tmp_path: Path) -> None:
    role = make_role(steps=6, save_every_steps=1, scheduler={"type": "cosine", "warmup_steps": 2})
    result = fit(role, make_faces(), directory=tmp_path)  # 4 steps per epoch
    assert result.num_epochs == 2
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["schedule"]["per_step"]["last_epoch"] == 6
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0)
    rates = learning_rates(role.training, steps_per_epoch=4)
    assert len(rates) == 6
    assert rates[:3] == pytest.approx([0.025, 0.05, 0.05])


def test_a_budget_in_steps_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role = make_role(steps=6, save_every_steps=1, keep="last", ema_decay=0.9)
    fit(role, make_faces(), directory=tmp_path / "whole", seed=3)
    interruption.fit_until(5, role, tmp_path / "halves", monkeypatch)
    fit(role, make_faces(), directory=tmp_path / "halves", seed=3)
    files = [(tmp_path / name / "trained.safetensors").read_bytes() for name in ("whole", "halves")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("keep", "stops_early", "kept"),
    [("best", False, 0), ("last", False, 2), ("auto", False, 2), ("auto", True, 0)],
)
def test_the_last_weights_are_kept_where_few_validation_faces_would_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, stops_early: bool, kept: int
) -> None:
    """The metric falls with every epoch; 30 validation faces are few."""
    values = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(training_loop, "metric_value", lambda *_: next(values))
    saved = {}
    save = training_loop.TrainingLoop._close_epoch

    def close(loop: training_loop.TrainingLoop, scores: object) -> dict[str, float]:
        saved[loop.progress.epoch] = {name: tensor.clone() for name, tensor in loop.eval_model.state_dict().items()}
        return save(loop, scores)  # type: ignore[arg-type]

    monkeypatch.setattr(training_loop.TrainingLoop, "_close_epoch", close)
    early = {"early_stopping_epochs": 5} if stops_early else {}
    result = fit(make_role(epochs=3, keep=keep, **early), make_faces(), directory=tmp_path)
    assert (result.kept_epoch, result.kept_metric) == (kept, pytest.approx(0.9 - kept / 10))
    assert result.kept == ("last" if kept else "best")
    for name, tensor in load_file(tmp_path / "trained.safetensors").items():
        assert torch.equal(tensor, saved[kept][name]), name
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3


def test_with_many_validation_faces_the_best_is_kept() -> None:
    training = make_role(keep="auto").training
    assert not training.keeps_last(300)
    assert training.keeps_last(299)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2, "steps": 5}, "give epochs or steps, and not both"),
        ({"steps": None, "epochs": None}, "give epochs or steps, and not both"),
        ({"steps": 5, "scheduler": {"type": "cosine", "warmup_epochs": 1}}, "warmup_epochs counts epochs"),
        ({"steps": 5, "scheduler": {"type": "step", "step_epochs": 1}}, "scheduler step counts epochs"),
        ({"steps": 5, "scheduler": {"type": "cosine", "warmup_steps": 5}}, "warmup_steps 5 must be less than steps 5"),
        ({"scheduler": {"type": "cosine", "warmup_steps": 5, "warmup_epochs": 1}}, "warmup_epochs or warmup_steps"),
        ({"keep": "last", "early_stopping_epochs": 3}, "early stopping is for the best epoch"),
    ],
)
def test_contradictory_budgets_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_role(**settings)
