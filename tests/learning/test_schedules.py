"""Learning-rate schedules against torch's schedulers, step by step; warm-up; restoring; rejected settings."""

import itertools
import math
import random
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from ssl_pipeline.config.training import TrainingConfig
from ssl_pipeline.learning.optimizers import build_optimizer
from ssl_pipeline.learning.schedules import Mode, Schedule, learning_rates
from tests.conftest import make_role

E = 5  # steps per epoch
PEAK = 0.05


def training(scheduler: dict[str, Any], *, epochs: int = 12) -> TrainingConfig:
    return make_role(epochs=epochs, scheduler=scheduler).training


def curve(config: TrainingConfig, *, metrics: list[float] | None = None, mode: Mode = "max") -> list[float]:
    """The learning rate of every step."""
    optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
    schedule = Schedule(config, optimizer, steps_per_epoch=E, mode=mode)
    rates = []
    for epoch in range(config.epochs):
        for _ in range(E):
            assert optimizer.param_groups[0]["lr"] == schedule.learning_rate
            rates.append(schedule.learning_rate)
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(metrics[epoch] if metrics else 0.0)
    return rates


def torch_curve(kind: Any, *, epochs: int = 12, per: str = "step", metrics: list[float] | None = None, **settings: Any):
    """The learning rate of every step under torch's scheduler, moved per step or per epoch."""
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=PEAK)
    scheduler = kind(optimizer, **settings)
    rates = []
    for epoch in range(epochs):
        for step in range(E):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per == "step" and (epoch, step) != (epochs - 1, E - 1):
                scheduler.step()
        if per == "epoch":
            scheduler.step(*([metrics[epoch]] if metrics else []))
    return rates


METRICS = [0.1, 0.2, 0.2, 0.19, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]

TORCH = {
    "constant": ({"type": "constant"}, (lr_scheduler.ConstantLR, {"factor": 1.0})),
    "step": (
        {"type": "step", "step_epochs": 3, "factor": 0.3},
        (lr_scheduler.StepLR, {"per": "epoch", "step_size": 3, "gamma": 0.3}),
    ),
    "multi_step": (
        {"type": "multi_step", "milestones": [2, 3, 9], "factor": 0.3},
        (lr_scheduler.MultiStepLR, {"per": "epoch", "milestones": [2, 3, 9], "gamma": 0.3}),
    ),
    "cosine": (
        {"type": "cosine", "final_fraction": 0.1},
        (lr_scheduler.CosineAnnealingLR, {"T_max": 12 * E, "eta_min": 0.1 * PEAK}),
    ),
    "equal restarts": (
        {"type": "cosine_restarts", "first_cycle_epochs": 4, "final_fraction": 0.1},
        (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 4 * E, "eta_min": 0.1 * PEAK}),
    ),
    "longer restarts": (
        {"type": "cosine_restarts", "first_cycle_epochs": 1, "cycle_factor": 2},
        (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": E, "T_mult": 2}),
    ),
    "one_cycle": ({"type": "one_cycle"}, (lr_scheduler.OneCycleLR, {"max_lr": PEAK, "total_steps": 12 * E})),
    "another one_cycle": (
        {"type": "one_cycle", "peak_fraction": 0.47, "div_factor": 7, "final_div_factor": 3},
        (
            lr_scheduler.OneCycleLR,
            {"max_lr": PEAK, "total_steps": 12 * E, "pct_start": 0.47, "div_factor": 7, "final_div_factor": 3},
        ),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_each_schedule_equals_torchs_at_every_step(name: str) -> None:
    ours, (kind, settings) = TORCH[name]
    assert curve(training(ours)) == pytest.approx(torch_curve(kind, **settings), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_plateau_equals_torchs_for_both_directions_of_the_metric(patience: int, mode: Mode) -> None:
    ours = training({"type": "plateau", "patience_epochs": patience, "factor": 0.3})
    theirs = {"patience": patience, "factor": 0.3, "mode": mode, "eps": 0.0}
    expected = torch_curve(lr_scheduler.ReduceLROnPlateau, per="epoch", metrics=METRICS, **theirs)
    assert curve(ours, metrics=METRICS, mode=mode) == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) > 1


def test_cosine_with_warmup_follows_its_formula() -> None:
    rates = curve(training({"type": "cosine", "warmup_epochs": 2}, epochs=4))
    assert rates[:10] == pytest.approx([PEAK * (step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([PEAK * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])


WITH_WARMUP: list[dict[str, Any]] = [
    {"type": "constant"},
    {"type": "step", "step_epochs": 3},
    {"type": "multi_step", "milestones": [2, 7]},
    {"type": "cosine", "final_fraction": 0.2},
    {"type": "cosine_restarts", "first_cycle_epochs": 3, "cycle_factor": 2},
    {"type": "plateau", "patience_epochs": 1},
]


@pytest.mark.parametrize("scheduler", WITH_WARMUP, ids=lambda scheduler: scheduler["type"])
@pytest.mark.parametrize("warmup_epochs", [1.4, 2])
def test_a_warmup_rises_linearly_before_any_schedule(scheduler: dict[str, Any], warmup_epochs: float) -> None:
    rates = curve(training({**scheduler, "warmup_epochs": warmup_epochs}), metrics=list(range(12)))
    plain = curve(training(scheduler), metrics=list(range(12)))
    steps = round(warmup_epochs * E)
    assert rates[:steps] == pytest.approx([PEAK * (step + 1) / steps for step in range(steps)])
    if scheduler["type"] == "cosine_restarts":  # cycles begin after the warm-up
        assert rates[steps:] == pytest.approx(plain[: len(rates) - steps])
    elif scheduler["type"] == "cosine":  # one half cosine over the remaining steps
        assert rates[steps] == PEAK
        assert all(later < earlier for earlier, later in itertools.pairwise(rates[steps:]))
    else:  # reductions count from the start of training
        assert rates[steps:] == pytest.approx(plain[steps:])


def test_the_plateau_also_reduces_the_rate_during_a_warmup() -> None:
    config = training({"type": "plateau", "patience_epochs": 0, "factor": 0.5, "warmup_epochs": 2}, epochs=4)
    rates = curve(config, metrics=[0.5, 0.4, 0.6, 0.7])
    assert rates[E - 1] == pytest.approx(PEAK / 2)
    assert rates[2 * E - 1] == pytest.approx(PEAK)
    assert rates[2 * E :] == pytest.approx([PEAK / 2] * 2 * E)


EVERY = [*(ours for ours, _ in TORCH.values()), *({**scheduler, "warmup_epochs": 1.4} for scheduler in WITH_WARMUP)]


@pytest.mark.parametrize("scheduler", EVERY, ids=str)
def test_a_restored_schedule_continues_exactly(scheduler: dict[str, Any]) -> None:
    config = training(scheduler)
    stop = random.Random(str(scheduler)).randrange(1, 12 * E - 1)
    whole = curve(config, metrics=METRICS)
    rates = []
    optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
    schedule = Schedule(config, optimizer, steps_per_epoch=E)
    for step in range(12 * E):
        if step == stop:
            state, optimizer_state = schedule.state_dict(), optimizer.state_dict()
            optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
            schedule = Schedule(config, optimizer, steps_per_epoch=E)
            optimizer.load_state_dict(optimizer_state)
            schedule.load_state_dict(state)
            assert schedule.state_dict() == state
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.after_step()
        if (step + 1) % E == 0:
            schedule.after_epoch(METRICS[step // E])
    assert rates == whole


def test_all_groups_change_in_proportion_to_their_peaks() -> None:
    config = training({"type": "cosine", "warmup_epochs": 1}, epochs=3)
    groups = [{"params": [torch.zeros(1)], "lr": PEAK}, {"params": [torch.zeros(1)], "lr": 10 * PEAK}]
    optimizer = torch.optim.SGD(groups, lr=PEAK)
    schedule = Schedule(config, optimizer, steps_per_epoch=E)
    for _ in range(3 * E):
        slow, fast = (group["lr"] for group in optimizer.param_groups)
        assert fast == pytest.approx(10 * slow)
        assert slow == pytest.approx(schedule.learning_rate)
        schedule.after_step()


def test_the_computed_learning_rates_are_those_of_training() -> None:
    for scheduler in EVERY:
        config = training(scheduler)
        assert learning_rates(config, steps_per_epoch=E).tolist() == curve(config)


def test_a_training_of_one_step_has_a_learning_rate_under_every_schedule() -> None:
    for scheduler in ({"type": "constant"}, {"type": "cosine"}, {"type": "one_cycle"}, {"type": "plateau"}):
        assert learning_rates(training(scheduler, epochs=1), steps_per_epoch=1).tolist() == [PEAK]


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"type": "constant", "warmup_epochs": 12}, "warmup_epochs 12 must be less than epochs 12; --set scheduler"),
        ({"type": "plateau", "warmup_epochs": 13}, "warmup_epochs 13 must be less than epochs 12"),
        (
            {"type": "step", "step_epochs": 12},
            "step_epochs 12 is not less than epochs 12: the learning rate would never",
        ),
        ({"type": "step", "step_epochs": 2, "warmup_epochs": 3}, "warmup_epochs 3 exceeds step_epochs 2"),
        ({"type": "multi_step", "milestones": [3, 12, 20]}, r"milestones \[12, 20\] lie beyond the last epoch"),
        ({"type": "multi_step", "milestones": [5, 3]}, r"milestones \[5, 3\] must ascend without duplicates"),
        ({"type": "multi_step", "milestones": [3, 3]}, r"milestones \[3, 3\] must ascend without duplicates"),
        ({"type": "multi_step", "milestones": []}, "milestones"),
        ({"type": "multi_step", "milestones": [2, 5], "warmup_epochs": 3}, "exceeds the first of milestones 2"),
        ({"type": "cosine_restarts", "first_cycle_epochs": 12}, "leaves no epoch of 12 for a restart; .*type: cosine"),
        ({"type": "cosine_restarts", "first_cycle_epochs": 9, "warmup_epochs": 3}, "leaves no epoch of 12"),
        ({"type": "one_cycle", "warmup_epochs": 1}, "one_cycle has its own warm-up, .*: remove warmup_epochs"),
        ({"type": "one_cycle", "peak_fraction": 1}, "peak_fraction"),
    ],
)
def test_an_invalid_schedule_is_rejected_with_the_cure(scheduler: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        training(scheduler)
