"""Two sets of faces that are alike cannot be told apart, others can; what the teacher says of both, side by side."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.evaluation.shift import Separability, acceptance_by_group, compare_predictions, separability
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from tests.conftest import SPACE, colored_pixels


def told_apart(pool: np.ndarray, validation: np.ndarray, *, seed: int = 0) -> Separability:
    return separability(
        pool.astype(np.float32),
        validation.astype(np.float32),
        pool_people=[f"pool {row}" for row in range(len(pool))],
        validation_people=[f"validation {row}" for row in range(len(validation))],
        seed=seed,
    )


def test_faces_of_one_population_cannot_be_told_apart() -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found.append(told_apart(rng.normal(size=(600, 20)), rng.normal(size=(150, 20)), seed=seed))
    assert all(abs(one.auc - 0.5) < 4 * max(one.standard_error, 0.02) for one in found)
    assert abs(np.mean([one.auc for one in found]) - 0.5) < 0.03
    assert {one.num_pool for one in found} == {600} and {one.num_validation for one in found} == {150}


def test_faces_of_two_populations_are_told_apart_whatever_the_scale_of_the_features() -> None:
    rng = np.random.default_rng(1)
    pool, validation = rng.normal(size=(400, 20)), rng.normal(size=(100, 20))
    pool[:, :5] += 3
    scale = 10.0 ** np.arange(-8, 12)
    found = told_apart(pool * scale, validation * scale)
    assert found.auc > 0.99 and found.standard_error < 0.01
    weak = pool.copy()
    weak[:, :5] -= 2.7
    assert 0.55 < told_apart(weak, validation).auc < 0.85


def test_the_same_seed_gives_the_same_figures() -> None:
    rng = np.random.default_rng(2)
    pool, validation = rng.normal(size=(200, 5)) + 0.3, rng.normal(size=(60, 5))
    assert told_apart(pool, validation, seed=4) == told_apart(pool, validation, seed=4)
    assert told_apart(pool, validation, seed=4) != told_apart(pool, validation, seed=5)


def test_pictures_of_a_person_are_not_recognised_from_other_pictures_of_the_person() -> None:
    rng = np.random.default_rng(3)
    people = {side: np.repeat(rng.normal(size=(25, 200)), 8, axis=0) for side in ("pool", "validation")}
    features = {side: (of + rng.normal(scale=0.05, size=of.shape)).astype(np.float32) for side, of in people.items()}
    names = {side: [f"{side} {row // 8}" for row in range(200)] for side in people}
    found = separability(
        features["pool"],
        features["validation"],
        pool_people=names["pool"],
        validation_people=names["validation"],
        seed=0,
    )
    assert found.auc < 0.75
    assert told_apart(features["pool"], features["validation"]).auc > 0.99  # what it would be otherwise


def test_too_few_people_and_features_that_are_no_numbers_are_said_and_not_measured() -> None:
    few = told_apart(np.ones((50, 3)), np.ones((9, 3)))
    assert (few.auc, few.standard_error, few.num_validation) == (None, None, 9) and "fewer than 10 people" in few.note
    assert told_apart(np.zeros((0, 0)), np.ones((20, 3))).auc is None
    assert "not finite" in told_apart(np.full((50, 3), np.nan), np.ones((50, 3))).note
    one_person = separability(
        np.ones((50, 3), np.float32),
        np.ones((200, 3), np.float32),
        pool_people=["a"] * 50,
        validation_people=[str(row) for row in range(200)],
        seed=0,
    )
    assert one_person.auc is None


@pytest.mark.parametrize("architecture", ["wrn10_1", "resnet10t", "vit_tiny_patch16_224"])
def test_features_are_what_the_last_layer_sees(architecture: str) -> None:
    size = 32
    model = build_model(ModelConfig(architecture=architecture, dropout=0.5), labels=SPACE, image_size=size)
    pixels = colored_pixels(np.arange(7) % SPACE.num_classes, size=size)
    checkpoint = Checkpoint.__new__(Checkpoint)
    object.__setattr__(checkpoint, "model", model)
    predictor = CheckpointPredictor(checkpoint, PredictionConfig(batch_size=3), Compute.build("cpu", "fp32"))
    model.train()
    features = pooled_features(predictor, pixels, np.array([5, 0, 1, 2, 6]))
    assert model.training and model.backbone.training  # left as it came
    model.eval()
    last = model.backbone.classifier if architecture == "wrn10_1" else model.backbone.get_classifier()
    images = torch.from_numpy(pixels[[5, 0, 1, 2, 6]]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(model.log_probabilities(last(torch.from_numpy(features))), expected, atol=1e-4)


def test_predictions_of_both_sides_are_compared_by_class_and_attribute() -> None:
    space = LabelSpace.of({"gender": ["male", "female"], "age": ["young", "old"]})
    pool = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
    validation = np.array([[0.1, 0.1, 0.2, 0.6], [0.0, 0.0, 0.0, 1.0]])
    found = compare_predictions(pool, validation, labels=space)
    assert found["class"]["mix"]["male/young"] == {"pool": 0.5, "validation": 0.0}
    assert found["class"]["mix_distance"] == 0.5
    assert found["class"]["confidence"]["pool"] == {"mean": 0.65, "p10": 0.61, "median": 0.65, "p90": 0.69}
    assert found["gender"]["confidence"]["validation"]["mean"] == 0.9  # of 0.8 and 1
    assert found["age"]["mix"]["old"] == {"pool": 0.5, "validation": 1.0}
    assert compare_predictions(pool, pool[::-1], labels=space)["class"]["mix_distance"] == 0
    assert json.loads(json.dumps(found)) == found


def test_acceptance_is_counted_over_labels_that_were_to_decide_in_every_known_group() -> None:
    groups = pd.DataFrame({"origin": ["a", "b", "a", None], "gender": [None] * 4, "age": ["x", "x", pd.NA, "y"]})
    accepted = np.array([[True, False], [True, True], [True, False], [True, True]])
    undecided = np.array([[True, True], [True, True], [True, False], [True, True]])
    found = acceptance_by_group(groups, accepted, undecided)
    assert list(found) == ["origin", "age"]
    assert found["origin"]["a"] == {"num_faces": 2, "num_undecided": 3, "num_accepted": 2, "acceptance_rate": 0.6667}
    assert found["age"]["y"]["acceptance_rate"] == 1
    nothing = acceptance_by_group(groups[["age"]], accepted & False, undecided & False)
    assert nothing["age"]["x"]["acceptance_rate"] is None
