"""Mixing: pasted and blended pixels, and the label weight that matches them."""

import pytest
import torch
from pydantic import TypeAdapter

from ssl_pipeline.config.training import Mixing
from ssl_pipeline.learning.mixing import MixedBatch, mix


def mixed(pixels: torch.Tensor, **section: object) -> MixedBatch:
    return mix(pixels, TypeAdapter(Mixing).validate_python(section))


def flat_faces(num_faces: int = 8, size: int = 20) -> torch.Tensor:
    """Faces of one shade each, so that every pixel identifies its face."""
    shades = torch.arange(num_faces, dtype=torch.uint8) * 10
    return shades.view(-1, 1, 1, 1).expand(num_faces, 3, size, size).contiguous()


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_one_rectangle_and_the_label_weight_counts_its_pixels(seed: int) -> None:
    torch.manual_seed(seed)
    pixels = flat_faces()
    result = mixed(pixels, type="cutmix")
    foreign = result.pixels != pixels
    moved = result.partners != torch.arange(8)
    assert not foreign[~moved].any()
    if not moved.any():
        return
    pasted = foreign[moved][0, 0]
    assert float(pasted.float().mean()) == pytest.approx(1 - result.label_weight)
    rows, columns = pasted.any(dim=1), pasted.any(dim=0)
    assert torch.equal(pasted, rows[:, None] & columns[None, :])
    assert torch.equal(result.pixels[foreign], pixels[result.partners][foreign])


def test_vertical_halves_keep_the_left_and_take_the_right() -> None:
    pixels = flat_faces(size=21)
    result = mixed(pixels, type="vertical_halves")
    assert torch.equal(result.pixels[..., :10], pixels[..., :10])
    assert torch.equal(result.pixels[..., 10:], pixels[result.partners][..., 10:])
    assert result.label_weight == pytest.approx(10 / 21)


def test_mixup_blends_by_the_label_weight() -> None:
    pixels = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    result = mixed(pixels, type="mixup", alpha=1.0)
    expected = result.label_weight * pixels.double() + (1 - result.label_weight) * pixels[result.partners].double()
    assert (result.pixels.double() - expected).abs().max() <= 0.501


def test_a_batch_is_mixed_with_the_given_probability_and_otherwise_unchanged() -> None:
    pixels, mixed_batches = flat_faces(), 0
    for _ in range(400):
        result = mixed(pixels, type="vertical_halves", probability=0.25)
        mixed_batches += result.label_weight < 1
        if result.label_weight == 1:
            assert torch.equal(result.pixels, pixels)
    assert 70 < mixed_batches < 130
