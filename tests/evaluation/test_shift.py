"""Separability of faces from one or two populations; comparison of predictions; acceptance by group."""

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


def measure_separability(pool: np.ndarray, validation: np.ndarray, *, seed: int = 0) -> Separability:
    return separability(
        pool.astype(np.float32),
        validation.astype(np.float32),
        units=np.arange(len(pool) + len(validation)),
        seed=seed,
    )


def test_faces_of_one_population_are_inseparable() -> None:
    results = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        results.append(measure_separability(rng.normal(size=(600, 20)), rng.normal(size=(150, 20)), seed=seed))
    assert all(abs(result.auc - 0.5) < 4 * max(result.standard_error, 0.02) for result in results)
    assert abs(np.mean([result.auc for result in results]) - 0.5) < 0.03
    assert {result.num_pool for result in results} == {600} and {result.num_validation for result in results} == {150}


def test_faces_of_two_populations_are_separable_at_any_scale_of_the_features() -> None:
    rng = np.random.default_rng(1)
    pool, validation = rng.normal(size=(400, 20)), rng.normal(size=(100, 20))
    pool[:, :5] += 3
    scale = 10.0 ** np.arange(-8, 12)
    result = measure_separability(pool * scale, validation * scale)
    assert result.auc > 0.99 and result.standard_error < 0.01
    weak = pool.copy()
    weak[:, :5] -= 2.7
    assert 0.55 < measure_separability(weak, validation).auc < 0.85


def test_the_same_seed_gives_the_same_figures() -> None:
    rng = np.random.default_rng(2)
    pool, validation = rng.normal(size=(200, 5)) + 0.3, rng.normal(size=(60, 5))
    assert measure_separability(pool, validation, seed=4) == measure_separability(pool, validation, seed=4)
    assert measure_separability(pool, validation, seed=4) != measure_separability(pool, validation, seed=5)


def test_a_person_is_not_recognized_from_their_other_images() -> None:
    rng = np.random.default_rng(3)
    people = {side: np.repeat(rng.normal(size=(25, 200)), 8, axis=0) for side in ("pool", "validation")}
    features = {
        side: (centers + rng.normal(scale=0.05, size=centers.shape)).astype(np.float32)
        for side, centers in people.items()
    }
    result = separability(
        features["pool"],
        features["validation"],
        units=np.arange(400) // 8,
        seed=0,
    )
    assert result.auc < 0.75
    assert (
        measure_separability(features["pool"], features["validation"]).auc > 0.99
    )  # if images of a person may be in several folds


def test_too_few_people_or_features_that_are_not_finite_are_not_measured_and_noted() -> None:
    few = measure_separability(np.ones((50, 3)), np.ones((9, 3)))
    assert (few.auc, few.standard_error, few.num_validation) == (None, None, 9) and "fewer than 10 people" in few.note
    assert measure_separability(np.zeros((0, 0)), np.ones((20, 3))).auc is None
    assert "not finite" in measure_separability(np.full((50, 3), np.nan), np.ones((50, 3))).note
    one_person = separability(
        np.ones((50, 3), np.float32),
        np.ones((200, 3), np.float32),
        units=np.concatenate([np.zeros(50, np.int64), np.arange(1, 201)]),
        seed=0,
    )
    assert one_person.auc is None


@pytest.mark.parametrize("architecture", ["wrn10_1", "resnet10t", "vit_tiny_patch16_224"])
def test_features_are_the_input_of_the_last_layer(architecture: str) -> None:
    size = 32
    model = build_model(ModelConfig(architecture=architecture, dropout=0.5), labels=SPACE, image_size=size)
    pixels = colored_pixels(np.arange(7) % SPACE.num_classes, size=size)
    checkpoint = Checkpoint.__new__(Checkpoint)
    object.__setattr__(checkpoint, "model", model)
    predictor = CheckpointPredictor(checkpoint, PredictionConfig(batch_size=3), Compute.build("cpu", "fp32"))
    model.train()
    features = pooled_features(predictor, pixels, np.array([5, 0, 1, 2, 6]))
    assert model.training and model.backbone.training  # unchanged
    model.eval()
    last = model.backbone.classifier if architecture == "wrn10_1" else model.backbone.get_classifier()
    images = torch.from_numpy(pixels[[5, 0, 1, 2, 6]]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(model.log_probabilities(last(torch.from_numpy(features))), expected, atol=1e-4)


def test_predictions_of_both_sets_are_compared_per_class_and_attribute() -> None:
    space = LabelSpace.of({"gender": ["male", "female"], "age": ["young", "old"]})
    pool = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
    validation = np.array([[0.1, 0.1, 0.2, 0.6], [0.0, 0.0, 0.0, 1.0]])
    result = compare_predictions(pool, validation, labels=space)
    assert result["class"]["mix"]["male/young"] == {"pool": 0.5, "validation": 0.0}
    assert result["class"]["mix_distance"] == 0.5
    assert result["class"]["confidence"]["pool"] == {"mean": 0.65, "p10": 0.61, "median": 0.65, "p90": 0.69}
    assert result["gender"]["confidence"]["validation"]["mean"] == 0.9  # of 0.8 and 1
    assert result["age"]["mix"]["old"] == {"pool": 0.5, "validation": 1.0}
    assert compare_predictions(pool, pool[::-1], labels=space)["class"]["mix_distance"] == 0
    assert json.loads(json.dumps(result)) == result


def test_acceptance_is_counted_over_undecided_labels_in_every_known_group() -> None:
    groups = pd.DataFrame({"origin": ["a", "b", "a", None], "gender": [None] * 4, "age": ["x", "x", pd.NA, "y"]})
    accepted = np.array([[True, False], [True, True], [True, False], [True, True]])
    undecided = np.array([[True, True], [True, True], [True, False], [True, True]])
    result = acceptance_by_group(groups, accepted, undecided)
    assert list(result) == ["origin", "age"]
    assert result["origin"]["a"] == {"num_faces": 2, "num_undecided": 3, "num_accepted": 2, "acceptance_rate": 0.6667}
    assert result["age"]["y"]["acceptance_rate"] == 1
    nothing = acceptance_by_group(groups[["age"]], accepted & False, undecided & False)
    assert nothing["age"]["x"]["acceptance_rate"] is None
