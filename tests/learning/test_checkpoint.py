"""Checkpoints: rebuilding a model, identical bytes, rejected files, no code execution."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import load_checkpoint, load_training_state, save_checkpoint, save_training_state
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.shard_prediction import check_image_size

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def save(path: Path, architecture: str = "wrn10_1", head: str = "joint") -> torch.nn.Module:
    config = ModelConfig(architecture=architecture, head=head, dropout=0.1)
    model = build_model(config, labels=SPACE, image_size=32).eval()
    save_checkpoint(path, model, model_config=config, image_size=32, cropping=None)
    return model


@pytest.mark.parametrize("architecture", ["wrn10_1", "resnet10t"])
@pytest.mark.parametrize("head", ["joint", "per_attribute"])
def test_a_checkpoint_rebuilds_its_model_alone(tmp_path: Path, architecture: str, head: str) -> None:
    model = save(tmp_path / "best.safetensors", architecture, head)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    loaded = load_checkpoint(tmp_path / "best.safetensors")
    assert (loaded.labels, loaded.image_size) == (SPACE, 32)
    assert torch.equal(loaded.model(pixels), model(pixels))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(7)
        save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_checkpoint_of_other_labels_is_rejected_with_both(tmp_path: Path) -> None:
    save(tmp_path / "best.safetensors")
    other = LabelSpace.of({"mask": ["wear", "normal"]})
    expected = (
        f"{tmp_path}/best.safetensors: the checkpoint has other labels than the config\n"
        "  checkpoint: gender {male, female} × age {<30, 30-59, >=60}\n"
        "  config:     mask {wear, normal}\n"
        "  use the config that it was trained with, or train again"
    )
    with pytest.raises(CheckpointError, match=re.escape(expected)):
        load_checkpoint(tmp_path / "best.safetensors", labels=other)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    for name in ("text", "foreign"):
        with pytest.raises(CheckpointError, match="not a checkpoint of ssl-pipeline"):
            load_checkpoint(tmp_path / f"{name}.safetensors")


def test_a_checkpoint_of_another_image_size_is_rejected(tmp_path: Path) -> None:
    save(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"trained on faces of 32 pixels, faces\.image_size is 64"):
        check_image_size(load_checkpoint(tmp_path / "best.safetensors"), 64)


def test_a_training_state_never_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "last.pt").write_bytes(pickle.dumps({"key": "k", "evil": Evil()}))
    assert load_training_state(tmp_path / "last.pt", key="k") is None
    torch.save({"key": "k", "evil": Evil()}, tmp_path / "last.pt")
    assert load_training_state(tmp_path / "last.pt", key="k") is None
    assert not (tmp_path / "ran").exists()


def test_a_training_state_is_loaded_only_with_its_key(tmp_path: Path) -> None:
    save_training_state(tmp_path / "last.pt", {"key": "a", "epoch": 3})
    assert load_training_state(tmp_path / "last.pt", key="a") == {"key": "a", "epoch": 3}
    assert load_training_state(tmp_path / "last.pt", key="b") is None
