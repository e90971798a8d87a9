"""Freezing of the backbone in the first epochs: bit for bit, with the weight average, across resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_pipeline.config.training import ModelConfig, RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.parameter_groups import FreezableBackbone, _layers
from tests.conftest import SPACE, make_faces, make_role
from tests.learning.interruption import fit_until


def role(**optimizer: Any) -> RoleConfig:
    return make_role(
        epochs=4,
        model={"architecture": "wrn10_1", "dropout": 0.2, "stochastic_depth": 0.3},
        optimizer={"type": "timm", "name": "nadamw", "learning_rate": 0.01, "weight_decay": 0.1, **optimizer},
        scheduler={"type": "cosine", "warmup_epochs": 1},
        ema_decay=0.9,
    )


def copy_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_the_backbone_does_not_change_by_a_bit_while_frozen_and_changes_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epoch = training_loop.TrainingLoop.run_epoch
    changes: list[set[str]] = []
    average_changes: list[set[str]] = []

    def watch(self: training_loop.TrainingLoop, bar: Any, **options: Any) -> dict[str, float]:
        assert self.ema is not None
        before, average = copy_of(self.model), copy_of(self.ema.module)
        row = run_epoch(self, bar, **options)
        changes.append(changed(before, copy_of(self.model)))
        average_changes.append(changed(average, copy_of(self.ema.module)))
        return row

    monkeypatch.setattr(training_loop.TrainingLoop, "run_epoch", watch)
    fit(role(freeze_backbone_epochs=2), make_faces(), directory=tmp_path)
    head = {"backbone.classifier.weight", "backbone.classifier.bias"}
    everything = set(torch.load(tmp_path / "last.pt", weights_only=True)["model"])
    assert changes == average_changes == [head, head, everything, everything]
    assert any("running_mean" in name for name in everything)


def start_and_end(config: RoleConfig, directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights that a training starts with, and its state at the end."""
    loop = training_loop.TrainingLoop(config, make_faces(), seed=0, device="cpu", name="model")
    fit(config, make_faces(), directory=directory)
    return copy_of(loop.model), torch.load(directory / "last.pt", weights_only=True)


@pytest.mark.parametrize("epochs", [0, 2])
def test_frozen_layers_keep_weights_and_statistics_and_the_others_train(tmp_path: Path, epochs: int) -> None:
    config = role(frozen_layers=3, layer_decay=0.8, freeze_backbone_epochs=epochs)
    before, state = start_and_end(config, tmp_path)
    frozen = {name for name in before if name.startswith(("backbone.stem", "backbone.blocks.0", "backbone.blocks.1"))}
    assert any("running_var" in name for name in frozen)
    assert changed(before, state["model"]) == changed(before, state["ema"]) == set(before) - frozen


def test_frozen_batch_norm_keeps_its_statistics_and_trains_scale_and_shift(tmp_path: Path) -> None:
    config = role()
    config = config.model_copy(update={"training": config.training.model_copy(update={"batch_norm": "frozen"})})
    before, state = start_and_end(config, tmp_path)
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert changed(before, state["model"]) == changed(before, state["ema"]) == set(before) - statistics


def test_all_layers_before_the_classifier_may_be_frozen_and_no_more() -> None:
    model = build_model(ModelConfig(architecture="resnet10t"), labels=SPACE, image_size=32)
    last = max(_layers(model, "frozen_layers=0").values())
    with pytest.raises(ConfigError, match=f"{last + 1} is more than the {last} layers .* --set frozen_layers="):
        FreezableBackbone(model, num_layers=last + 1)
    FreezableBackbone(model, num_layers=last)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "backbone.fc.weight",
        "backbone.fc.bias",
    ]


@pytest.mark.parametrize("stop_at_step", [3, 6, 9, 11])  # four steps per epoch: frozen, frozen, first unfrozen epoch
@pytest.mark.parametrize("frozen_layers", [0, 2])
def test_a_resumed_training_with_a_frozen_backbone_equals_an_uninterrupted_one(
    tmp_path: Path, stop_at_step: int, frozen_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = role(freeze_backbone_epochs=2, layer_decay=0.8, head_learning_rate_factor=3, frozen_layers=frozen_layers)
    fit(config, make_faces(), directory=tmp_path / "whole", seed=3)
    fit_until(stop_at_step, config, tmp_path / "halves", monkeypatch)
    fit(config, make_faces(), directory=tmp_path / "halves", seed=3)
    for name in ("trained.safetensors", "history.csv"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = (torch.load(tmp_path / half / "last.pt", weights_only=True) for half in ("whole", "halves"))
    assert changed(one["model"], other["model"]) == changed(one["ema"], other["ema"]) == set()


def test_the_backbone_may_be_frozen_in_all_epochs(tmp_path: Path) -> None:
    result = fit(role(freeze_backbone_epochs=4), make_faces(), directory=tmp_path)
    assert result.num_epochs == 4


@pytest.mark.parametrize("architecture", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "wrn10_1"])
def test_unfreezing_leaves_parameters_without_gradient_as_they_were(architecture: str) -> None:
    model = build_model(ModelConfig(architecture=architecture), labels=SPACE, image_size=32)
    fixed = next(model.backbone.parameters())
    fixed.requires_grad_(False)
    freezable = FreezableBackbone(model, epochs=1)
    model.train()
    freezable.start_epoch(0)
    assert not any(module.training for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(learning) == 2
    model.train()
    freezable.start_epoch(1)
    still = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert len(still) == 1
    assert still[0] is fixed
    assert all(module.training for module in model.modules())


def test_dropout_stays_active_in_a_frozen_backbone() -> None:
    model = build_model(ModelConfig(architecture="wrn10_1", dropout=0.5), labels=SPACE, image_size=32)
    freezable = FreezableBackbone(model, epochs=1)
    model.train()
    freezable.start_epoch(0)
    assert all(module.training for module in model.modules() if isinstance(module, torch.nn.Dropout))
