"""Optimizers and schedules against torch's own closed forms."""

import math

import pytest
import torch
from torch import nn

from ssl_pipeline.config_training import TrainingConfig
from ssl_pipeline.learning.optimization import Schedule, build_optimizer
from tests.conftest import make_role


def training(**settings: object) -> TrainingConfig:
    return make_role(**settings).training


def curve(config: TrainingConfig, *, steps_per_epoch: int = 5, metrics: list[float] | None = None) -> list[float]:
    """The learning rate of every step."""
    optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
    schedule = Schedule(config, optimizer, steps_per_epoch=steps_per_epoch)
    rates = []
    for epoch in range(config.epochs):
        for _ in range(steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(metrics[epoch] if metrics else 0.0)
    return rates


def test_cosine_without_warmup_is_torchs_cosine_annealing() -> None:
    config = training(epochs=4, scheduler={"type": "cosine", "final_fraction": 0.1})
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.05)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.005)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert curve(config) == pytest.approx(expected, rel=1e-9)


def test_warmup_rises_linearly_to_the_peak_and_the_cosine_follows() -> None:
    rates = curve(training(epochs=4, scheduler={"type": "cosine", "warmup_epochs": 2}))
    assert rates[:10] == pytest.approx([0.05 * (step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])


def test_step_falls_by_the_factor_every_so_many_epochs() -> None:
    rates = curve(training(epochs=5, scheduler={"type": "step", "step_epochs": 2, "factor": 0.5}))
    assert rates[::5] == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.0125])


def test_plateau_falls_only_when_the_metric_no_longer_rises() -> None:
    config = training(epochs=6, scheduler={"type": "plateau", "patience_epochs": 1, "factor": 0.1})
    rates = curve(config, metrics=[0.1, 0.2, 0.3, 0.3, 0.3, 0.3])
    assert rates[::5] == pytest.approx([0.05, 0.05, 0.05, 0.05, 0.05, 0.005])


@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_a_restored_schedule_goes_on_where_it_was(scheduler: str) -> None:
    config = training(epochs=4, scheduler={"type": scheduler})
    optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
    schedule = Schedule(config, optimizer, steps_per_epoch=5)
    for _ in range(7):
        optimizer.step()
        schedule.after_step()
    schedule.after_epoch(0.5)
    other_optimizer = build_optimizer(config.optimizer, nn.Linear(2, 2))
    other = Schedule(config, other_optimizer, steps_per_epoch=5)
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(schedule.state_dict())
    for one, its_optimizer in ((schedule, optimizer), (other, other_optimizer)):
        its_optimizer.step()
        one.after_step()
        one.after_epoch(0.4)
    assert optimizer.param_groups[0]["lr"] == other_optimizer.param_groups[0]["lr"]
    assert schedule.state_dict() == other.state_dict()


@pytest.mark.parametrize("optimizer", [{"type": "sgd"}, {"type": "adamw", "weight_decay": 0.5}])
def test_norms_and_biases_are_not_decayed(optimizer: dict) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = build_optimizer(training(optimizer=optimizer).optimizer, model).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    decayed = [name for name, parameter in model.named_parameters() if decay[id(parameter)] > 0]
    assert decayed == ["0.weight"]
    assert len(decay) == 4
