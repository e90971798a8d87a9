"""What a training starts with: a head that is a linear probe, the same after a resume."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.network_check import check_network
from ssl_pipeline.learning.start import starting_model
from tests.conftest import SPACE, make_faces, make_role
from tests.learning.interruption import fit_until


def role(head: str = "per_attribute", start: str = "linear_probe", **training: Any) -> RoleConfig:
    return make_role(model={"architecture": "wrn10_1", "head": head}, head_start=start, **training)


def start(config: RoleConfig, faces: TrainingFaces) -> FaceClassifier:
    torch.manual_seed(0)
    return starting_model(config, faces, compute=Compute.build("cpu", "fp32"))[0]


def pixels_of(faces: TrainingFaces) -> torch.Tensor:
    return torch.from_numpy(faces.train.pixels[faces.train.pixel_rows]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("head", ["joint", "per_attribute"])
@pytest.mark.parametrize("class_balanced", [False, True])
def test_the_head_is_the_logistic_regression_on_the_features_of_faces_and_mirror_images(
    head: Literal["joint", "per_attribute"], class_balanced: bool
) -> None:
    faces = make_faces(40)
    model = start(role(head, class_balanced=class_balanced), faces).eval()
    with torch.no_grad():
        pixels = pixels_of(faces)
        features = torch.cat([model.features(pixels), model.features(pixels.flip(3))]).numpy()
        got = model(pixels).exp().numpy()
    classes = np.tile(faces.train.targets.argmax(axis=1), 2)
    targets = [classes] if head == "joint" else list(SPACE.class_codes[classes].T)
    scaled = StandardScaler().fit(features).transform(features)
    weight = "balanced" if class_balanced else None
    parts = [
        LogisticRegression(C=0.01, class_weight=weight, max_iter=2000).fit(scaled, target).predict_proba(scaled[:40])
        for target in targets
    ]
    expected = (
        parts[0] if head == "joint" else parts[0][:, SPACE.class_codes[:, 0]] * parts[1][:, SPACE.class_codes[:, 1]]
    )
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_only_known_human_labels_count() -> None:
    faces, is_human, known = make_faces(60), np.arange(60) % 2 == 0, np.ones((60, 2), bool)
    known[::4] = False
    wrong = np.roll(faces.train.targets, 1, axis=0)
    targets = np.where((is_human & known.all(axis=1))[:, None], faces.train.targets, wrong)
    mixed = dataclasses.replace(faces.train, targets=targets, known=known, is_human=is_human)
    rows = np.arange(2, 60, 4)
    names = ("pixel_rows", "targets", "known", "weights", "is_human")
    alone = dataclasses.replace(faces.train, **{name: getattr(faces.train, name)[rows] for name in names})
    one, other = (start(role(), dataclasses.replace(faces, train=train)) for train in (mixed, alone))
    assert torch.equal(one.backbone.classifier.weight, other.backbone.classifier.weight)


def test_the_rest_of_the_network_is_as_without_it_and_so_are_its_modes() -> None:
    faces = make_faces()
    random, probe = start(role(start="random"), faces), start(role(), faces)
    assert [module.training for module in probe.modules()] == [module.training for module in random.modules()]
    differing = {
        name for name, tensor in random.state_dict().items() if not torch.equal(tensor, probe.state_dict()[name])
    }
    assert differing == {"backbone.classifier.weight", "backbone.classifier.bias"}


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = role(ema_decay=0.9, save_every_steps=1)
    fit(config, make_faces(), directory=tmp_path / "whole", seed=3)
    fit_until(6, config, tmp_path / "halves", monkeypatch)
    fit(config, make_faces(), directory=tmp_path / "halves", seed=3)
    for name in ("trained.safetensors", "history.csv"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "architecture", ["test_efficientnet", "test_vit", "resnet10t", "wrn10_1", "mobilenetv3_small_050"]
)
def test_networks_have_a_linear_classifier(architecture: str) -> None:
    config = make_role(model={"architecture": architecture}, head_start="linear_probe")
    check_network(config, key="teacher", labels=SPACE, image_size=32)
    start(config, make_faces(12, size=32))


def test_a_network_without_a_linear_classifier_is_refused_before_work() -> None:
    config = make_role(model={"architecture": "deit_tiny_distilled_patch16_224"}, head_start="linear_probe")
    with pytest.raises(
        ConfigError, match=r"'teacher\.training': head_start: .* --set teacher\.training\.head_start=random"
    ):
        check_network(config, key="teacher", labels=SPACE, image_size=32)
