"""Soft voting: the mean computed by hand, across architectures and sizes; checkpoints with other labels are refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.faces.decoding import decode_rgb, square_pixels
from ssl_pipeline.inference.files import find_images
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.labels import LabelSpace
from tests.conftest import SPACE
from tests.learning.prediction_support import prediction_config, predictor, save_random_model, write_images


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Three checkpoints that differ in weights, width, head and size."""
    return [
        save_random_model(tmp_path / "a.safetensors", seed=1),
        save_random_model(tmp_path / "b.safetensors", seed=2, image_size=24, head="per_attribute"),
        save_random_model(tmp_path / "c.safetensors", seed=3, architecture="wrn10_2"),
    ]


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_the_vote_is_the_weighted_mean_of_probabilities_each_at_its_own_size(
    checkpoints: list[Path], tmp_path: Path, weights: list[float] | None
) -> None:
    names = [f"{number:02d}.png" for number in range(9)]
    write_images(tmp_path / "faces", names, size=40)
    vote = SoftVote.load(checkpoints, prediction_config(batch_size=4), weights=weights, device="cpu")
    assert vote.image_sizes == (16, 24)
    got = np.concatenate([batch.probabilities for batch in predict_stream(vote, find_images(tmp_path / "faces").files)])

    votes = []
    for checkpoint, size in zip(checkpoints, (16, 24, 16), strict=True):
        images = [decode_rgb((tmp_path / "faces" / name).read_bytes()) for name in names]
        pixels = np.stack([square_pixels(image, size=size) for image in images])
        votes.append(predictor(checkpoint).predict(pixels, np.arange(9)))
    one, two, three = weights or [1.0, 1.0, 1.0]
    by_hand = (one * votes[0] + two * votes[1] + three * votes[2]) / (one + two + three)
    assert got.dtype == np.float32
    assert np.abs(votes[0] - votes[1]).max() > 0.05
    np.testing.assert_allclose(got, by_hand, atol=1e-6)


def test_a_vote_of_one_checkpoint_equals_its_model(checkpoints: list[Path], tmp_path: Path) -> None:
    faces = np.stack(list(write_images(tmp_path / "faces", ["a.png", "b.png"]).values()))
    vote = SoftVote.load(checkpoints[:1], prediction_config(), device="cpu")
    np.testing.assert_array_equal(
        vote.predict_sizes({16: faces}), predictor(checkpoints[0]).predict(faces, np.arange(2))
    )


@pytest.mark.parametrize(
    "other", [{"gender": ["male", "female"], "age": ["<30", ">=30"]}, {"age": ["<30", "30-59", ">=60"]}, {}]
)
def test_checkpoints_of_other_labels_do_not_vote_together(
    checkpoints: list[Path], tmp_path: Path, other: dict[str, list[str]]
) -> None:
    # the same classes in another order are different labels
    labels = LabelSpace.of(other or {"gender": ["female", "male"], "age": ["<30", "30-59", ">=60"]})
    other_checkpoint = save_random_model(tmp_path / "other.safetensors", labels=labels)
    with pytest.raises(CheckpointError) as refusal:
        SoftVote.load([*checkpoints, other_checkpoint], prediction_config(), device="cpu")
    message = str(refusal.value)
    assert f"{other_checkpoint}: cannot vote together with {checkpoints[0]}" in message
    assert f"{checkpoints[0]} predicts gender {{male, female}} × age {{<30, 30-59, >=60}}" in message
    assert f"{other_checkpoint} predicts " in message
    assert labels != SPACE


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "1 weights for 3 checkpoints"),
        ([1.0, 0.0, 1.0], "expected numbers above 0, got 0.0"),
        ([1.0, float("nan"), 1.0], "expected numbers above 0, got nan"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(checkpoints: list[Path], weights: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        SoftVote.load(checkpoints, prediction_config(), weights=weights, device="cpu")
