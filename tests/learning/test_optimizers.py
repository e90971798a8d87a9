"""Optimizers: weight decay, learning rates per part of a model, timm's by name, rejected options."""

import io
from typing import Any

import pytest
import timm
import timm.optim
import torch
from pydantic import ValidationError
from timm.optim import param_groups_layer_decay
from torch import nn

from ssl_pipeline.config.training import ModelConfig, RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning.model import FaceClassifier, build_model
from ssl_pipeline.learning.optimizers import build_optimizer, check_optimizer
from tests.conftest import SPACE, make_role

OURS = [
    {"type": "sgd", "learning_rate": 0.1},
    {"type": "adamw", "learning_rate": 0.1, "weight_decay": 0.5},
    {"type": "timm", "name": "lamb", "learning_rate": 0.1, "weight_decay": 0.5},
]
# Without: fused and bitsandbytes optimizers (need a GPU and a package), adahessian (second derivatives), and kron's
# three, which resume exactly too but compile for a minute.
NAMES = [
    name
    for name in timm.optim.list_optimizers()
    if not isinstance(timm.optim.get_optimizer_info(name).opt_class, str)
    and not timm.optim.get_optimizer_info(name).second_order
    and not name.startswith("kron")
]


def role(optimizer: dict[str, Any], *, architecture: str = "wrn10_1") -> RoleConfig:
    return make_role(optimizer=optimizer, model={"architecture": architecture})


def face_model(architecture: str = "wrn10_1", **model: Any) -> FaceClassifier:
    return build_model(ModelConfig(architecture=architecture, **model), labels=SPACE, image_size=32)


def by_name(optimizer: torch.optim.Optimizer, model: nn.Module, key: str) -> dict[str, float]:
    """{parameter name: setting of its group}."""
    values = {id(parameter): group[key] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: values[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("config", OURS, ids=lambda config: config["type"])
@pytest.mark.parametrize("extra", [{}, {"head_learning_rate_factor": 3, "layer_decay": 0.5}], ids=["plain", "graded"])
def test_only_norms_and_biases_are_not_decayed(config: dict[str, Any], extra: dict[str, Any]) -> None:
    model = face_model()
    optimizer = build_optimizer(role({**config, **extra}).training.optimizer, model)
    decay = by_name(optimizer, model, "weight_decay")
    assert len(decay) == len(list(model.parameters()))
    undecayed = {
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        for parameter, _ in module.named_parameters(recurse=False)
        if isinstance(module, nn.BatchNorm2d) or parameter == "bias"
    }
    assert {name for name, value in decay.items() if value == 0} == undecayed
    assert len(set(decay.values())) == 2


@pytest.mark.parametrize("config", OURS, ids=lambda config: config["type"])
def test_a_step_with_zero_gradient_shrinks_only_decayed_parameters(config: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(role(config).training.optimizer, model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert moved == ["0.weight"]


def test_a_timm_models_no_weight_decay_is_respected() -> None:
    model = face_model("vit_tiny_patch16_224")
    decay = by_name(build_optimizer(role(OURS[1]).training.optimizer, model), model, "weight_decay")
    assert decay["backbone.pos_embed"] == decay["backbone.cls_token"] == 0
    assert decay["backbone.patch_embed.proj.weight"] == decay["backbone.head.weight"] == 0.5


@pytest.mark.parametrize("config", OURS, ids=lambda config: config["type"])
@pytest.mark.parametrize(
    ("architecture", "classifier"), [("wrn10_1", "classifier"), ("resnet10t", "fc"), ("convnext_atto", "head.fc")]
)
def test_the_classifier_alone_has_the_head_learning_rate(
    config: dict[str, Any], architecture: str, classifier: str
) -> None:
    model = face_model(architecture)
    optimizer = build_optimizer(role({**config, "head_learning_rate_factor": 10}).training.optimizer, model)
    rates = by_name(optimizer, model, "lr")
    head = {f"backbone.{classifier}.weight", f"backbone.{classifier}.bias"}
    assert rates == {name: pytest.approx(1.0 if name in head else 0.1) for name in rates}


def test_layer_decay_of_the_wide_resnet_follows_the_order_of_its_blocks() -> None:
    model = face_model("wrn10_1")  # stem, three blocks, classifier
    config = {"type": "adamw", "learning_rate": 1.0, "layer_decay": 0.5, "head_learning_rate_factor": 3}
    rates = by_name(build_optimizer(role(config).training.optimizer, model), model, "lr")
    layers = {"stem": 1 / 16, "blocks.0": 1 / 8, "blocks.1": 1 / 4, "blocks.2": 1 / 2, "norm": 1 / 2, "classifier": 3.0}
    for name, rate in rates.items():
        (expected,) = (value for layer, value in layers.items() if name.startswith(f"backbone.{layer}."))
        assert rate == expected, name


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "resnet10t", "convnext_atto", "efficientnet_b0"])
def test_layer_decay_of_timm_models_equals_timms(architecture: str) -> None:
    model = face_model(architecture)
    backbone: Any = model.backbone
    config = {"type": "adamw", "learning_rate": 1.0, "layer_decay": 0.7, "weight_decay": 0.3}
    optimizer = build_optimizer(role(config, architecture=architecture).training.optimizer, model)
    without = getattr(backbone, "no_weight_decay", set)()
    groups = param_groups_layer_decay(backbone, weight_decay=0.3, no_weight_decay_list=without, layer_decay=0.7)
    expected = {id(parameter): group for group in groups for parameter in group["params"]}
    rates, decay = by_name(optimizer, model, "lr"), by_name(optimizer, model, "weight_decay")
    for name, parameter in model.named_parameters():
        assert rates[name] == pytest.approx(expected[id(parameter)]["lr_scale"]), name
        assert decay[name] == expected[id(parameter)]["weight_decay"], name
    assert len({round(rate, 9) for rate in rates.values()}) > 4


def test_sgd_takes_the_same_steps_as_timms() -> None:
    weights = []
    for config in (
        {"type": "sgd", "learning_rate": 0.1, "weight_decay": 0.01},
        {"type": "timm", "name": "sgd", "learning_rate": 0.1, "weight_decay": 0.01},
    ):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        take_steps(build_optimizer(role(config).training.optimizer, model), model, range(3))
        weights.append(model.weight.detach())
    assert torch.equal(*weights)


def take_steps(optimizer: torch.optim.Optimizer, model: nn.Module, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)  # as in the training loop
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_timm_optimizer_learns_and_resumes_from_a_plain_state(name: str) -> None:
    config = role({"type": "timm", "name": name, "learning_rate": 0.01, "weight_decay": 0.01}).training.optimizer

    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
        return model, build_optimizer(config, model)

    model, optimizer = start()
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    take_steps(optimizer, model, range(2))
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    take_steps(optimizer, model, range(2, 4))
    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    other, its_optimizer = start()
    other.load_state_dict(state["model"])
    its_optimizer.load_state_dict(state["optimizer"])
    take_steps(its_optimizer, other, range(2, 4))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key]), key
        assert torch.isfinite(tensor).all()
    assert any(not torch.equal(tensor, fresh[key]) for key, tensor in model.state_dict().items())


def test_options_reach_the_optimizer_with_their_types() -> None:
    options = {"betas": [0.8, 0.9], "eps": "1e-5", "always_adapt": True}
    config = role({"type": "timm", "name": "lamb", "learning_rate": 0.01, "options": options}).training.optimizer
    group = build_optimizer(config, nn.Linear(2, 2)).param_groups[0]
    assert (group["betas"], group["eps"], group["always_adapt"]) == ((0.8, 0.9), 1e-5, True)
    assert type(config).model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"name": "lam"}, r"optimizer 'lam': not a timm optimizer; did you mean 'lamb'"),
        ({"name": "zzzzzzz"}, "optimizer 'zzzzzzz': not a timm optimizer: adabelief, "),
        ({"name": "LAMB"}, "did you mean 'lamb'"),
        ({"name": "adahessian"}, "it needs second derivatives, which the training loop does not compute"),
        ({"name": "fusedadam"}, "it needs the package apex and a GPU"),
        ({"name": "lamb", "options": {"beta": [0.9, 0.99]}}, "unknown option 'beta'; did you mean 'betas'"),
        ({"name": "sgd", "options": {"zzz": 1}}, "unknown option 'zzz'; expected one of momentum, dampening, nesterov"),
        ({"name": "sgd", "options": {"lr": 1}}, "'lr' is not an option; set optimizer.learning_rate instead"),
        ({"name": "lamb", "options": {"params": 1}}, "unknown option 'params'"),
        ({"name": "adamw", "options": {"betas": [2.0, 0.9]}}, "optimizer 'adamw' rejects options .*: Invalid beta"),
        ({"name": "adamw", "options": {"betas": 3}}, "optimizer 'adamw' rejects options "),
    ],
)
def test_an_invalid_optimizer_is_rejected(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_optimizer(role({"type": "timm", "learning_rate": 0.01, **optimizer}))


def test_layer_decay_is_rejected_for_an_architecture_without_an_order_of_layers() -> None:
    with pytest.raises(ConfigError, match=r"layer_decay: MetaFormer has no order of layers .*; --set layer_decay=null"):
        check_optimizer(role({"type": "adamw", "layer_decay": 0.7}, architecture="poolformer_s12"))
    check_optimizer(role({"type": "adamw", "head_learning_rate_factor": 2}, architecture="poolformer_s12"))
    check_optimizer(role({"type": "adamw", "layer_decay": 0.7}, architecture="vit_tiny_patch16_224"))


def test_a_head_learning_rate_is_rejected_for_a_model_without_a_classifier() -> None:
    config = role({"type": "sgd", "head_learning_rate_factor": 2}).training.optimizer
    with pytest.raises(ConfigError, match="Linear has no classifier"):
        build_optimizer(config, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            {"type": "sgd", "freeze_backbone_epochs": 3},
            "freeze_backbone_epochs 3 exceeds epochs 2; --set optimizer.freeze_backbone_epochs=2 trains only the class",
        ),
        ({"type": "sgd", "layer_decay": 1.2}, "layer_decay"),
        ({"type": "timm", "name": "lamb"}, "learning_rate"),
    ],
)
def test_an_optimizer_that_contradicts_the_training_is_rejected(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        role(optimizer)
