"""Grad-CAM against its formula by finite differences; zeros where no value is to be explained."""

import numpy as np
import torch

from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.learning.checkpoint import Checkpoint
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.saliency import saliency
from tests.conftest import SPACE, colored_pixels


def predictor_of(architecture: str) -> CheckpointPredictor:
    config = ModelConfig(architecture=architecture)
    model = build_model(config, labels=SPACE, image_size=32).eval()
    checkpoint = Checkpoint(None, model, config, SPACE, 32, "digest")  # type: ignore[arg-type]
    return CheckpointPredictor(checkpoint, PredictionConfig(), Compute.build("cpu", "fp32"))


def test_it_is_the_weighted_sum_of_the_maps_that_raises_the_value() -> None:
    predictor, pixels = predictor_of("wrn10_1"), colored_pixels(np.arange(2), size=32)
    codes = np.array([[1, 2], [0, -1]])
    heat = saliency(predictor, pixels, np.array([1, 0]), codes)
    assert heat is not None and heat.shape[:2] == (2, 2)
    model = predictor.model
    faces = torch.from_numpy(pixels[[1, 0]]).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = model.feature_maps(faces).double()
        model.double()

        def log_probability(shifted: torch.Tensor) -> float:  # of age 2, of the first face
            classes = model.log_probabilities(model.backbone.forward_head(shifted))[0].double().exp()
            return float(classes[torch.from_numpy(SPACE.class_codes[:, 1] == 2)].sum().log())

        slopes = []
        for channel in range(maps.shape[1]):
            moved = [maps.clone(), maps.clone()]
            for sign, own in zip((1, -1), moved, strict=True):
                own[0, channel] += sign * 0.05
            slopes.append((log_probability(moved[0]) - log_probability(moved[1])) / 0.1)
        expected = (torch.tensor(slopes)[:, None, None] * maps[0]).sum(0).clamp(min=0)
    np.testing.assert_allclose(heat[0, 1], expected / expected.max(), atol=0.02)
    assert not heat[1, 1].any()  # age of the second face is not asked for
    assert np.isfinite(heat).all() and heat.max() <= 1


def test_a_network_without_maps_shows_nothing() -> None:
    assert (
        saliency(predictor_of("test_vit"), colored_pixels(np.arange(2), size=32), np.array([0]), np.array([[0, 0]]))
        is None
    )
