"""Prediction: order, views and their mean, no gradients, unchanged model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.engine import torch_engine
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.predict import predict_probabilities, zoom_in
from tests.learning.prediction_support import predictor, random_faces, random_model, save_random_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "best.safetensors")


def one_view(checkpoint: Path, pixels: np.ndarray) -> np.ndarray:
    return predictor(checkpoint, horizontal_flip=False).predict(np.ascontiguousarray(pixels), np.arange(len(pixels)))


def zoomed_by_pillow(pixels: np.ndarray, *, kept: int) -> np.ndarray:
    side = pixels.shape[1]
    margin = (side - kept) // 2
    box = (margin, margin, margin + kept, margin + kept)
    views = [Image.fromarray(face).resize((side, side), Image.Resampling.BILINEAR, box=box) for face in pixels]
    return np.stack([np.array(view) for view in views])


def test_probabilities_are_in_the_order_of_the_requested_rows(checkpoint: Path) -> None:
    pixels = random_faces(20)
    whole = one_view(checkpoint, pixels)
    some = predictor(checkpoint, horizontal_flip=False).predict(pixels, np.array([5, 3]))
    np.testing.assert_allclose(some, whole[[5, 3]], atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert np.abs(whole[5] - whole[3]).max() > 0.01


def test_the_flip_is_averaged_as_probabilities(checkpoint: Path) -> None:
    pixels = random_faces(6)
    plain, flipped = one_view(checkpoint, pixels), one_view(checkpoint, pixels[:, :, ::-1])
    both = predictor(checkpoint, horizontal_flip=True).predict(pixels, np.arange(6))
    assert np.abs(plain - flipped).max() > 0.01
    np.testing.assert_allclose(both, (plain + flipped) / 2, atol=1e-6)


def test_where_memory_is_too_small_batches_are_halved_and_no_face_is_lost(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes, done = list[int](), list[int]()

    def small_engine(network: FaceClassifier, faces: torch.Tensor) -> torch.Tensor:
        sizes.append(len(faces))
        if len(faces) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch_engine(network, faces)

    pixels, by_torch = random_faces(15), predictor(checkpoint, horizontal_flip=False)
    found = replace(by_torch, engine=small_engine).predict(pixels, np.arange(15), on_batch=done.append)
    np.testing.assert_allclose(found, by_torch.predict(pixels, np.arange(15)), atol=1e-6)
    assert sizes == [7, 4, 2, 2, 2, 2, 2, 2, 2, 1]
    assert sum(done) == 15
    assert "going on with batches of 2 faces" in caplog.text


def test_one_face_that_does_not_fit_is_an_error(checkpoint: Path) -> None:
    def refuse(network: FaceClassifier, faces: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        replace(predictor(checkpoint), engine=refuse).predict(random_faces(3), np.arange(3))


def test_a_zoom_is_the_centered_square_resized() -> None:
    faces = random_faces(3, size=32)
    shown = zoom_in(torch.from_numpy(faces).permute(0, 3, 1, 2), 32 / 26).permute(0, 2, 3, 1).numpy()
    assert shown.shape == faces.shape
    assert shown.dtype == np.uint8
    difference = np.abs(shown.astype(int) - zoomed_by_pillow(faces, kept=26).astype(int))
    assert difference.max() <= 1


def test_zooms_and_their_flips_are_averaged_as_probabilities(checkpoint: Path) -> None:
    pixels = random_faces(6)
    views = [pixels, zoom_in(torch.from_numpy(pixels).permute(0, 3, 1, 2), 1.25).permute(0, 2, 3, 1).numpy()]
    expected = np.mean([one_view(checkpoint, view[:, :, ::step]) for view in views for step in (1, -1)], axis=0)
    mean = predictor(checkpoint, horizontal_flip=True, zooms=[1.0, 1.25]).predict(pixels, np.arange(6))
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(mean.sum(axis=1), 1, atol=1e-5)


def predict_in_training(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    compute = Compute.build("cpu", "fp32")
    return predict_probabilities(
        model,
        pixels,
        np.arange(len(pixels)),
        compute=compute,
        batch_size=4,
        views=[(1.0, False), (1.0, True)],
    )


def test_prediction_restores_each_modules_mode_and_does_not_change_batch_norm() -> None:
    model = random_model(dropout=0.5, stochastic_depth=0.5)
    model.train()
    model.backbone.stem.eval()  # frozen during training
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    first, second = predict_in_training(model, random_faces(8)), predict_in_training(model, random_faces(8))
    np.testing.assert_array_equal(first, second)  # no dropout
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


def test_the_mode_is_restored_after_an_error() -> None:
    model = random_model().train()
    with pytest.raises(RuntimeError):
        predict_in_training(model, random_faces(2)[..., :2])  # two channels
    assert all(module.training for module in model.modules())


def test_outputs_have_no_gradient_although_weights_require_it() -> None:
    model = random_model()
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _, __, output: seen.append(output))
    predict_in_training(model, random_faces(4))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert len(seen) == 2
    assert all(output.is_inference() and not output.requires_grad for output in seen)
    assert not torch.is_inference_mode_enabled()
    assert model(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).requires_grad  # training goes on afterwards
