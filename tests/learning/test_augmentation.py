"""Augmentation in batches: torchvision's operations, face by face, by numbers that depend on the place only."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torchvision.transforms import InterpolationMode, v2

from ssl_pipeline.config.training import RandAugment
from ssl_pipeline.learning import augmentation
from ssl_pipeline.learning.augmentation import Augmentation
from ssl_pipeline.learning.random_draws import seed_generators, uniform_draws

NAMES = {"shear_x": "ShearX", "translate_x": "TranslateX", "auto_contrast": "AutoContrast"}
GRAY = 127


def draw_faces(num: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, uint8 [num, 3, side, side]."""
    coarse = torch.randint(0, 256, (num, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return v2.functional.resize(coarse, [side, side], antialias=True)


def by_torchvision(face: torch.Tensor, operation: str, sign: float, magnitude: int) -> torch.Tensor:
    reference = v2.RandAugment()
    name = NAMES.get(operation, "".join(part.capitalize() for part in operation.split("_")))
    strengths, is_signed = reference._AUGMENTATION_SPACE[name]
    values = strengths(31, *face.shape[-2:])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if is_signed else 1)
    return reference._apply_image_or_video_transform(
        face, name, value, interpolation=InterpolationMode.NEAREST, fill=reference._fill
    )


@pytest.mark.parametrize("side", [24, 33])
@pytest.mark.parametrize("magnitude", [0, 5, 9, 30])
@pytest.mark.parametrize("operation", augmentation._OPERATIONS)
def test_each_operation_is_torchvisions(operation: str, magnitude: int, side: int) -> None:
    faces = draw_faces(2, side)
    number = augmentation._OPERATIONS.index(operation)
    for sign in (-1.0, 1.0):
        draws = np.tile([(number + 0.5) / 14, 0.2 if sign < 0 else 0.8], (2, 1))
        result = augmentation._randaugment(faces, draws, magnitude=magnitude)
        wanted = torch.stack([by_torchvision(face, operation, sign, magnitude) for face in faces])
        difference = (result.int() - wanted.int()).abs()
        if operation in augmentation._GEOMETRIC:  # the nearest pixel where two are as near
            assert (difference > 0).float().mean() < 0.01
        else:  # torchvision rounds its strengths to float32
            assert difference.max() <= 1


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_a_face_looks_the_same_in_any_batch_and_by_its_place_only(kind: Any) -> None:
    faces, augment, positions = draw_faces(12, 20), Augmentation(kind), np.arange(40, 52)
    whole = augment(faces, seed=1, epoch=2, positions=positions)
    picked = np.array([7, 0, 11])
    assert torch.equal(augment(faces[picked], seed=1, epoch=2, positions=positions[picked]), whole[picked])
    for place in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not torch.equal(augment(faces, positions=positions, **place), whole)
    assert not torch.equal(augment(faces, seed=1, epoch=2, positions=positions + 1), whole)
    assert torch.equal(augment(faces, seed=1, epoch=2, positions=positions), whole)


def test_without_augmentation_the_pixels_are_unchanged() -> None:
    faces = draw_faces(3, 9)
    assert torch.equal(Augmentation("none")(faces, seed=0, epoch=0, positions=np.arange(3)), faces)


def test_weak_flips_and_shifts_by_reflection() -> None:
    face = torch.arange(16 * 16, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    views = Augmentation("weak")(face.expand(400, 3, 16, 16), seed=0, epoch=0, positions=np.arange(400))
    padded = np.pad(face[0].numpy(), 2, mode="reflect")
    windows = [padded[y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
    expected = {window.tobytes() for window in windows} | {window[:, ::-1].tobytes() for window in windows}
    assert {view[0].contiguous().numpy().tobytes() for view in views} == expected


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_training_crops_at_random_without_padding(kind: Any) -> None:
    augment = Augmentation(kind, RandAugment(num_ops=0, erasing_probability=0), input_size=6)
    face = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).repeat(3, 1, 1)
    views = augment(face.expand(200, 3, 8, 8), seed=0, epoch=0, positions=np.arange(200))
    assert views.shape == (200, 3, 6, 6)
    corners = set()
    for view in views:
        corners.add(int(view.min()))
        rows = view[0].sort(dim=1).values  # either direction
        assert torch.equal(rows, rows[:1, :1] + 8 * torch.arange(6)[:, None] + torch.arange(6))
    assert corners == {8 * row + column for row in range(3) for column in range(3)}


def test_operations_are_chosen_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}

    def count(name: str, _: float) -> Any:
        def operation(faces: torch.Tensor) -> torch.Tensor:
            counts[name] = counts.get(name, 0) + len(faces)
            return faces

        return operation

    monkeypatch.setattr(augmentation, "_color_operation", count)
    num = 1400
    Augmentation("strong", RandAugment(num_ops=2, erasing_probability=0))(
        draw_faces(1, 4).expand(num, 3, 4, 4), seed=0, epoch=0, positions=np.arange(num)
    )
    assert len(counts) == 8
    assert chisquare([*counts.values(), 2 * num - sum(counts.values())], [200] * 8 + [1200]).pvalue > 0.001


def test_erasing_fills_one_rectangle_of_a_fitting_size() -> None:
    augment = Augmentation("strong", RandAugment(num_ops=0, erasing_probability=0.5))
    faces = torch.zeros(600, 3, 40, 40, dtype=torch.uint8)
    views = augment(faces, seed=0, epoch=0, positions=np.arange(600))
    shares, ratios = [], []
    for view in views:
        erased = (view[0] == GRAY).nonzero()
        if len(erased):
            height, width = (erased.max(dim=0).values - erased.min(dim=0).values + 1).tolist()
            assert len(erased) == height * width and torch.equal(view[0], view[1])
            shares.append(len(erased) / 1600)
            ratios.append(height / width)
    assert 0.43 < len(shares) / 600 < 0.57
    assert 0.015 < min(shares) < 0.04 and 0.17 < max(shares) < 0.21
    assert 0.2 < min(ratios) < 0.4 and 2.5 < max(ratios) < 4


def test_draws_are_uniform_and_unrelated() -> None:
    draws = uniform_draws(3, 1, np.arange(4000), num=5)
    assert all(kstest(column, "uniform").pvalue > 0.001 for column in draws.T)
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.06
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.06
    assert np.array_equal(uniform_draws(3, 1, np.array([9, 5]), num=5), draws[[9, 5]])


def splitmix(state: int) -> int:
    """The reference implementation's finalizer, in Python's whole numbers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def mixed(*numbers: int) -> int:
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15
    state = golden
    for number in numbers:
        state = splitmix(state ^ ((number + golden + (state << 6) + (state >> 2)) & mask))
    return state


def test_draws_are_those_of_whole_numbers() -> None:
    state, golden = mixed(2**40, 7, 123_456), 0x9E3779B97F4A7C15
    wanted = [(splitmix((state + number * golden) % 2**64) >> 11) / 2**53 for number in (1, 2, 3)]
    assert uniform_draws(2**40, 7, np.array([123_456]), num=3)[0].tolist() == wanted


def test_generators_are_seeded_by_all_numbers() -> None:
    first = []
    for numbers in ((1, 2, 3), (1, 2, 4), (3, 2, 1), (1, 2, 3)):
        seed_generators(*numbers)
        first.append(float(torch.rand(())))
    assert first[0] == first[3] and len(set(first)) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_faces() -> None:
    faces, place = draw_faces(64, 32), {"seed": 0, "epoch": 0, "positions": np.arange(64)}
    here, there = Augmentation("strong")(faces, **place), Augmentation("strong")(faces.cuda(), **place).cpu()
    assert ((here.int() - there.int()).abs() > 1).float().mean() < 0.001
