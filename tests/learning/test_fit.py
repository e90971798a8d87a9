"""Training: learning, exact resume, best checkpoint, early stopping, errors."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_pipeline.errors import TrainingError
from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.checkpoint import load_checkpoint
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.mixing import MixedBatch
from tests.conftest import SPACE, make_faces, make_role
from tests.learning.interruption import fit_until


def bytes_of(directory: Path) -> bytes:
    return (directory / "trained.safetensors").read_bytes()


def last_weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "last.pt", weights_only=True)["model"]


def test_training_learns_the_classes(tmp_path: Path) -> None:
    result = fit(make_role(epochs=8), make_faces(), directory=tmp_path)
    assert result.kept_metric > 0.9
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["train_loss"].iloc[-1] < 0.5 * history["train_loss"].iloc[0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_different_ones(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(make_role(augmentation="strong"), make_faces(), directory=tmp_path / name, seed=seed)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") != bytes_of(tmp_path / "c")


@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation": "strong", "ema_decay": 0.9, "scheduler": {"type": "cosine", "warmup_epochs": 1}},
        {"optimizer": {"type": "adamw"}, "scheduler": {"type": "plateau", "patience_epochs": 0}},
        {"scheduler": {"type": "step", "step_epochs": 1}, "accumulation_steps": 2, "class_balanced": True},
    ],
)
@pytest.mark.parametrize("stop_at_step", [2, 5, 9])
def test_resumed_training_equals_uninterrupted_training(
    tmp_path: Path, settings: dict, stop_at_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(epochs=3, model={"architecture": "wrn10_1", "dropout": 0.2, "stochastic_depth": 0.3}, **settings)
    fit(role, make_faces(), directory=tmp_path / "whole", seed=3)

    fit_until(stop_at_step, role, tmp_path / "halves", monkeypatch)
    torch.manual_seed(12345)  # other code may use the global generator in between
    result = fit(role, make_faces(), directory=tmp_path / "halves", seed=3)

    assert result.resumed_from_epoch == (stop_at_step - 1) // 4
    assert bytes_of(tmp_path / "halves") == bytes_of(tmp_path / "whole")
    assert (tmp_path / "halves/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
    for name, tensor in last_weights(tmp_path / "whole").items():
        assert torch.equal(tensor, last_weights(tmp_path / "halves")[name]), name


@pytest.mark.parametrize("stop_at_step", [1, 3, 6, 7, 11])
def test_a_training_stopped_within_an_epoch_resumes_from_its_last_saved_step(
    tmp_path: Path, stop_at_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "augmentation": "strong",
        "ema_decay": 0.9,
        "mixing": {"type": "cutmix", "probability": 0.5},
        "max_gradient_norm": 1.0,
        "scheduler": {"type": "one_cycle"},
        "epochs": 3,
    }
    model = {"architecture": "wrn10_1", "dropout": 0.2, "stochastic_depth": 0.3}
    fit(make_role(model=model, **settings), make_faces(), directory=tmp_path / "whole", seed=3)
    role = make_role(model=model, save_every_steps=2, **settings)
    fit_until(stop_at_step, role, tmp_path / "halves", monkeypatch)
    take_step, taken = training_loop.TrainingLoop._step, []
    monkeypatch.setattr(
        training_loop.TrainingLoop, "_step", lambda self, *args: taken.append(1) or take_step(self, *args)
    )
    fit(role, make_faces(), directory=tmp_path / "halves", seed=3)

    lost = (stop_at_step - 1) % 2  # steps since the last saved one
    assert len(taken) == 12 - (stop_at_step - 1 - lost)
    assert bytes_of(tmp_path / "halves") == bytes_of(tmp_path / "whole")
    assert (tmp_path / "halves/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
    for name, tensor in last_weights(tmp_path / "whole").items():
        assert torch.equal(tensor, last_weights(tmp_path / "halves")[name]), name


def test_a_state_of_another_seed_config_or_input_is_not_resumed(tmp_path: Path) -> None:
    fit(make_role(), make_faces(), directory=tmp_path, seed=1)
    assert fit(make_role(), make_faces(), directory=tmp_path, seed=1).resumed_from_epoch == 2
    assert fit(make_role(), make_faces(), directory=tmp_path, seed=2).resumed_from_epoch == 0
    assert (
        fit(
            make_role(loss={"type": "cross_entropy", "label_smoothing": 0.1}), make_faces(), directory=tmp_path, seed=2
        ).resumed_from_epoch
        == 0
    )
    assert fit(make_role(), make_faces(), directory=tmp_path, seed=2, inputs="other").resumed_from_epoch == 0


@pytest.mark.parametrize("loss", [{"type": "cross_entropy"}, {"type": "focal", "class_weights": "balanced"}])
def test_four_micro_batches_equal_the_whole_batch_without_batch_norm(loss: dict) -> None:
    faces = make_faces(64, size=32)
    gradients = []
    for parts in (1, 4):
        role = make_role(
            model={"architecture": "test_vit"}, batch_size=64, accumulation_steps=parts, precision="fp32", loss=loss
        )
        loop = training_loop.TrainingLoop(role, faces, seed=0, device="cpu", name="test")
        pixels = torch.from_numpy(faces.train.pixels[:64]).permute(0, 3, 1, 2)
        loop.optimizer.step = lambda: None  # type: ignore[method-assign]
        kept: dict[str, torch.Tensor] = {}
        loop.optimizer.zero_grad = lambda model=loop.model, kept=kept, **_: kept.update(  # type: ignore[method-assign]
            {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        )
        loop._step(pixels, torch.arange(64), 0)
        gradients.append(kept)
    assert max(gradient.abs().max() for gradient in gradients[0].values()) > 0.01
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6)


def test_the_best_checkpoint_is_that_of_the_best_epoch_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.7, 0.4])
    seen = []

    def validate(self: training_loop.TrainingLoop, faces: object) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in self.eval_model.state_dict().items()})
        return {"macro_f1": next(scores), "accuracy": 0.0, "log_loss": 1.0}

    monkeypatch.setattr(training_loop.TrainingLoop, "_validate", validate)
    result = fit(make_role(epochs=3), make_faces(), directory=tmp_path)
    assert (result.kept_epoch, result.kept_metric) == (1, 0.7)
    for name, tensor in load_checkpoint(tmp_path / "trained.safetensors").model.state_dict().items():
        assert torch.equal(tensor, seen[1][name])


def test_training_stops_early_after_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.9, 0.9])
    monkeypatch.setattr(
        training_loop.TrainingLoop,
        "_validate",
        lambda self, faces: {"macro_f1": next(scores), "accuracy": 0.0, "log_loss": 1.0},
    )
    result = fit(make_role(epochs=5, early_stopping_epochs=2), make_faces(), directory=tmp_path)
    assert (result.num_epochs, result.kept_epoch) == (3, 0)


def test_the_weight_average_is_validated_and_saved(tmp_path: Path) -> None:
    fit(make_role(epochs=1, ema_decay=0.5), make_faces(), directory=tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    kept = load_checkpoint(tmp_path / "trained.safetensors").model.state_dict()
    name = "backbone.classifier.weight"
    assert torch.equal(kept[name], state["ema"][name])
    assert not torch.equal(kept[name], state["model"][name])


def test_a_loss_that_is_not_finite_stops_training_with_the_cure(tmp_path: Path) -> None:
    role = make_role(optimizer={"type": "sgd", "learning_rate": 1e18}, epochs=3)
    with pytest.raises(
        TrainingError, match=r"the loss is .* at step \d+ .*learning rate .*face-.*--set optimizer.learning_rate="
    ):
        fit(role, make_faces(), directory=tmp_path)


def test_how_often_losses_are_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is not waited for at each step: the losses, a saved state and an error are those of reading each."""

    role, wild = make_role(batch_size=10, save_every_steps=4), {"type": "sgd", "learning_rate": 1e18}
    messages = []
    for steps in (1, 4, 100):
        monkeypatch.setattr(training_loop, "_STEPS_PER_READING", {"cpu": steps})
        fit(role, make_faces(), directory=tmp_path / str(steps))
        with pytest.raises(TrainingError) as error:
            fit(make_role(optimizer=wild, batch_size=10, epochs=3), make_faces(), directory=tmp_path / f"bad-{steps}")
        messages.append(str(error.value))
    assert messages[0] == messages[1] == messages[2]
    first = (tmp_path / "1" / "history.csv").read_text()
    assert first == (tmp_path / "4" / "history.csv").read_text() == (tmp_path / "100" / "history.csv").read_text()


def test_training_without_validation_faces_is_rejected(tmp_path: Path) -> None:
    faces = make_faces(num_validation=0)
    with pytest.raises(TrainingError, match="got 60 and 0"):
        fit(make_role(), faces, directory=tmp_path)


def test_a_face_of_weight_zero_has_no_effect(tmp_path: Path) -> None:
    faces = make_faces()
    wrong = np.roll(faces.train.targets, 1, axis=1)
    half = np.arange(60) < 30
    mixed = {
        "targets": np.where(half[:, None], faces.train.targets, wrong),
        "weights": np.repeat(half[:, None], 2, axis=1).astype(np.float32),
    }
    train = type(faces.train)(**{**faces.train.__dict__, **mixed})
    result = fit(make_role(epochs=10), TrainingFaces(faces.labels, train, faces.validation), directory=tmp_path)
    assert result.kept_metric > 0.9


def gradients_of(
    loop: training_loop.TrainingLoop, pixels: torch.Tensor, indices: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The gradients of a step, without taking it."""
    kept: dict[str, torch.Tensor] = {}
    loop.optimizer.step = lambda: kept.update(  # type: ignore[method-assign]
        {name: parameter.grad.clone() for name, parameter in loop.model.named_parameters()}
    )
    loop._step(pixels, indices, 0)
    return kept


def test_gradients_are_clipped_to_the_norm_only_if_they_exceed_it() -> None:
    faces, norms = make_faces(16), []
    pixels = torch.from_numpy(faces.train.pixels[:16]).permute(0, 3, 1, 2)
    for limit in (None, 0.05, 1e6):
        role = make_role(precision="fp32", max_gradient_norm=limit)
        loop = training_loop.TrainingLoop(role, faces, seed=0, device="cpu", name="test")
        gradients = gradients_of(loop, pixels, torch.arange(16)).values()
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
    assert norms[0] == pytest.approx(norms[2])
    assert norms[0] > 0.05 == pytest.approx(norms[1], rel=1e-4)


def test_a_mixed_batch_trains_on_both_labels_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    faces, weight = make_faces(12), 0.3
    pixels = torch.from_numpy(faces.train.pixels[:12]).permute(0, 3, 1, 2)
    partners = torch.arange(12).roll(5)
    monkeypatch.setattr(training_loop, "mix", lambda pixels, config: MixedBatch(pixels, partners, weight))
    both = dataclasses.replace(
        faces.train, targets=weight * faces.train.targets + (1 - weight) * faces.train.targets[partners.numpy()]
    )
    gradients = []
    for train, mixing in ((faces.train, {"type": "mixup"}), (both, None)):
        role = make_role(precision="fp32", mixing=mixing)
        seen = TrainingFaces(faces.labels, train, faces.validation)
        loop = training_loop.TrainingLoop(role, seen, seed=0, device="cpu", name="test")
        gradients.append(gradients_of(loop, pixels, torch.arange(12)))
    for name, gradient in gradients[1].items():  # cross-entropy is linear in the target
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("monitor", "kept_epoch"), [("log_loss", 0), ("gender.accuracy", 2), ("macro_f1", 1)])
def test_the_monitored_metric_chooses_the_kept_epoch_in_its_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str, kept_epoch: int
) -> None:
    rows = iter([(0.1, 0.2, 0.5), (0.5, 0.3, 0.6), (0.2, 0.9, 0.7)])

    def validate(self: training_loop.TrainingLoop, faces: object) -> dict:
        f1, gender, loss = next(rows)
        per_attribute = {"gender": {"accuracy": gender}}
        return {"macro_f1": f1, "accuracy": 0.0, "log_loss": loss, "per_attribute": per_attribute}

    monkeypatch.setattr(training_loop.TrainingLoop, "_validate", validate)
    assert fit(make_role(epochs=3, monitor=monitor), make_faces(), directory=tmp_path).kept_epoch == kept_epoch


def test_a_monitored_metric_that_is_not_defined_stops_training_with_the_cure(tmp_path: Path) -> None:
    faces = make_faces()
    one_gender = dataclasses.replace(faces.validation, codes=np.zeros_like(faces.validation.codes))
    role = make_role(monitor="gender.roc_auc")
    with pytest.raises(TrainingError, match=r"gender\.roc_auc is not defined on the 30 validation faces"):
        fit(role, TrainingFaces(faces.labels, faces.train, one_gender), directory=tmp_path)


def test_an_expected_number_is_learned_and_may_choose_the_kept_epoch(tmp_path: Path) -> None:
    of_value = np.array([20.0, 45.0, 70.0])

    def with_ages(faces: TrainingFaces) -> TrainingFaces:
        parts = []
        for part, codes in (
            (faces.train, SPACE.class_codes[faces.train.targets.argmax(axis=1)]),
            (faces.validation, faces.validation.codes),
        ):
            truth = of_value[codes[:, 1]] + np.arange(len(codes)) % 5 - 2
            parts.append(dataclasses.replace(part, numbers={"age": RegressionTargets(truth, of_value)}))
        return TrainingFaces(faces.labels, *parts)

    terms = [
        {"weight": 0.1, "loss": {"type": "cross_entropy"}},
        {"weight": 5.0, "loss": {"type": "expected_number", "attribute": "age"}},
    ]
    settings = {"monitor": "age.mean_absolute_error", "epochs": 6}
    faces = with_ages(make_faces())
    weak = {"type": "mixture", "terms": [terms[0], terms[1] | {"weight": 1e-6}]}
    without = fit(make_role(loss=weak, **settings), faces, directory=tmp_path / "without")
    result = fit(make_role(loss={"type": "mixture", "terms": terms}, **settings), faces, directory=tmp_path / "with")
    assert result.kept_metric < 0.7 * without.kept_metric
    errors = pd.read_csv(tmp_path / "with/history.csv")["age.mean_absolute_error"]
    assert result.kept_metric == pytest.approx(errors.min())
    with pytest.raises(TrainingError, match="with a number for every value of 'age'"):
        fit(make_role(loss={"type": "mixture", "terms": terms}), make_faces(), directory=tmp_path / "unknown")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_trains_the_same(tmp_path: Path) -> None:
    results = [
        fit(make_role(compile=compiled, precision="fp32"), make_faces(), directory=tmp_path / str(compiled))
        for compiled in (False, True)
    ]
    assert results[1].kept_metric == pytest.approx(results[0].kept_metric, abs=0.1)
    losses = [pd.read_csv(tmp_path / str(compiled) / "history.csv")["train_loss"] for compiled in (False, True)]
    assert losses[1].to_numpy() == pytest.approx(losses[0].to_numpy(), rel=0.01)


def test_running_out_of_memory_names_the_settings_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(self: object, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("ssl_pipeline.learning.model.FaceClassifier.forward", out_of_memory)
    with pytest.raises(TrainingError, match=r"out of memory at step 0 with 8 faces of 16 pixels.*accumulation_steps"):
        fit(make_role(accumulation_steps=2), make_faces(), directory=tmp_path)


def test_fp16_scales_gradients_skips_steps_that_overflow_and_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(precision="fp16", epochs=2, max_gradient_norm=1.0)
    whole = fit(role, make_faces(), directory=tmp_path / "whole", seed=3)
    assert whole.kept_metric > 0.3
    fit_until(6, role, tmp_path / "halves", monkeypatch)
    fit(role, make_faces(), directory=tmp_path / "halves", seed=3)
    assert bytes_of(tmp_path / "halves") == bytes_of(tmp_path / "whole")
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True)["scaler"] for name in ("whole", "halves")]
    assert states[0] == states[1]
    assert states[0]["scale"] == 65536.0

    loop = training_loop.TrainingLoop(role, make_faces(), seed=0, device="cpu", name="test")
    before = {name: tensor.clone() for name, tensor in loop.model.named_parameters()}
    loop.scaler.load_state_dict(loop.scaler.state_dict() | {"scale": 3e38})  # every gradient overflows
    pixels = torch.from_numpy(loop.faces.train.pixels[:16]).permute(0, 3, 1, 2)
    assert np.isfinite(loop._step(pixels, torch.arange(16), 0))
    assert loop.scaler.get_scale() < 3e38
    assert all(torch.equal(tensor, before[name]) for name, tensor in loop.model.named_parameters())


@pytest.mark.parametrize(
    ("loss", "at_least"),
    [
        ({"type": "focal", "class_weights": "balanced"}, 0.8),
        ({"type": "f1", "per": "attribute"}, 0.3),  # learns slowly alone; chance is 0.17
        (
            {
                "type": "mixture",
                "terms": [{"weight": 0.4, "loss": {"type": "f1"}}, {"weight": 0.6, "loss": {"type": "focal"}}],
            },
            0.8,
        ),
    ],
    ids=["focal", "f1", "mixture"],
)
@pytest.mark.parametrize("head", ["joint", "per_attribute"])
def test_every_loss_learns_with_either_head(tmp_path: Path, loss: dict, at_least: float, head: str) -> None:
    model = {"architecture": "wrn10_1", "head": head}
    result = fit(make_role(epochs=10, loss=loss, model=model), make_faces(), directory=tmp_path)
    assert result.kept_metric > at_least


def test_deterministic_mode_gives_the_same_bytes_and_is_reset_afterwards(tmp_path: Path) -> None:
    fit(make_role(deterministic=True), make_faces(), directory=tmp_path / "a")
    fit(make_role(), make_faces(), directory=tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert not torch.are_deterministic_algorithms_enabled()


def test_batches_too_small_for_the_processes_are_refused(tmp_path: Path) -> None:
    role = make_role(batch_size=8, num_processes=8)
    with pytest.raises(TrainingError, match="9 training faces make batches of 4, too few for num_processes 8; set"):
        fit(role, make_faces(9, 6), directory=tmp_path)
