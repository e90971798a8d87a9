"""Cropping travels in checkpoints: images are cropped as the faces of the training were, or the refusal says the cure."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.inference import framing
from ssl_pipeline.inference.framing import cropper_of, warn_of_other_cropping
from ssl_pipeline.learning.calibrate import save_calibrated
from ssl_pipeline.learning.checkpoint import METADATA_KEY, Checkpoint, load_checkpoint
from ssl_pipeline.learning.fit import fit
from tests.conftest import make_faces, make_role
from tests.learning.prediction_support import save_random_model

RULES = CropRules(margin=0.25, min_score=0.4, fallback="whole", detection_sides=(192,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    return load_checkpoint(save_random_model(path))


def test_a_training_writes_its_cropping_into_the_checkpoint_and_calibration_keeps_it(tmp_path: Path) -> None:
    faces = replace(make_faces(12, 6), cropping=RULES)
    path = fit(make_role(epochs=1), faces, directory=tmp_path, device="cpu").checkpoint
    assert load_checkpoint(path).cropping == RULES
    save_calibrated(path, load_checkpoint(path), None)
    assert load_checkpoint(path).cropping == RULES


def test_an_earlier_checkpoint_says_that_its_cropping_is_unknown(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with safe_open(checkpoint.path, framework="pt") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    del metadata["cropping"]
    save_file(tensors, tmp_path / "old.safetensors", metadata={METADATA_KEY: json.dumps(metadata)})
    old = load_checkpoint(tmp_path / "old.safetensors")
    assert (checkpoint.cropping, old.cropping) == (None, "unknown")
    assert cropper_of([old], detector=None) is None
    assert "it does not say how its faces were cropped; images are not cropped" in caplog.text


def test_a_model_of_crops_is_refused_whole_images_and_crops_by_its_own_rules(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_crops = replace(checkpoint, cropping=RULES)
    with pytest.raises(
        ConfigError, match=r"trained on faces cropped by yunet \(margin 0.25, .*--crop FILE, or --no-crop"
    ):
        cropper_of([of_crops], detector=None)
    assert cropper_of([of_crops], detector=None, crop=False) is None
    monkeypatch.setattr(framing, "uncached_cropper", lambda config: config)
    settings = cropper_of([of_crops], detector=Path("yunet.onnx"))
    assert settings == RULES.with_detector(Path("yunet.onnx"))
    assert (settings.margin, settings.fallback, settings.detection_sides) == (0.25, "whole", (192,))  # type: ignore[union-attr, attr-defined]


def test_models_of_different_crops_do_not_vote_together(checkpoint: Checkpoint) -> None:
    others = [checkpoint, replace(checkpoint, cropping=RULES)]
    with pytest.raises(CheckpointError, match="their faces were cropped differently"):
        cropper_of(others, detector=Path("yunet.onnx"))
    assert cropper_of(others, detector=None, crop=False) is None


def test_faces_cropped_by_other_rules_are_told(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_other_cropping(replace(checkpoint, cropping=RULES), RULES)
    assert caplog.text == ""
    warn_of_other_cropping(checkpoint, RULES)
    assert "trained on centered squares of its pictures; these faces are faces cropped by yunet" in caplog.text


def test_the_rules_are_those_of_the_labeled_sources() -> None:
    def rules(*croppings: dict[str, object] | None, cropping: dict[str, object] | None) -> CropRules | None:
        sources = [
            {"type": "folder", "name": f"s{number}", "path": "x", "cropping": own}
            for number, own in enumerate(croppings)
        ]
        unlabeled = {
            "sources": [{"type": "folder", "path": "x", "cropping": cropping and {"type": "face", "margin": 2}}]
        }
        labeled = {"sources": sources, "test_fraction": 0.2}
        return FacesConfig.model_validate({"labeled": labeled, "unlabeled": unlabeled, "cropping": cropping}).crop_rules

    run = {"model": "yunet.onnx", "margin": 0.1, "detection_sides": [192]}
    own, none = {"type": "face", "margin": 0.5}, {"type": "none"}
    assert rules(None, cropping=None) is None
    assert rules(None, none, cropping=run) == CropRules(margin=0.1, detection_sides=(192,))
    assert rules(own, own, cropping=run) == CropRules(margin=0.5, detection_sides=(192,))
    assert rules(own, None, cropping=run) == CropRules(margin=0.1, detection_sides=(192,))
    assert rules(none, cropping=run) == CropRules(margin=0.1, detection_sides=(192,))
