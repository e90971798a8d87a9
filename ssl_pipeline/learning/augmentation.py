"""Augmentation of one face, uint8 [3, H, W] → uint8 [3, H, W], with torchvision's transforms."""

from typing import Literal, assert_never

import torch
from torchvision.transforms import v2

from ssl_pipeline.config.training import RandAugment

Augmentation = Literal["none", "weak", "strong"]


def augmentation(
    kind: Augmentation, *, image_size: int, randaugment: RandAugment, input_size: int | None = None
) -> v2.Transform:
    """Build the transform of a kind of augmentation.

    `weak` flips horizontally and shifts by up to 1/8 of the side (FixMatch's weak augmentation, arXiv:2001.07685), or
    crops `input_size` of `image_size` at random; `strong` adds RandAugment (arXiv:1909.13719) and random erasing
    (arXiv:1708.04896). `none` leaves the crop to the model, which takes the centered one.
    """
    match kind:
        case "none":
            return v2.Identity()
        case "weak":
            return v2.Compose(_weak(image_size, input_size))
        case "strong":
            operations = v2.RandAugment(num_ops=randaugment.num_ops, magnitude=randaugment.magnitude)
            erase = v2.RandomErasing(p=randaugment.erasing_probability, scale=(0.02, 0.2), value=127)
            return v2.Compose([*_weak(image_size, input_size), operations, erase])
        case _:
            assert_never(kind)


def _weak(image_size: int, input_size: int | None) -> list[v2.Transform]:
    if input_size is not None and input_size < image_size:
        return [v2.RandomHorizontalFlip(), v2.RandomCrop(input_size)]
    shift = v2.RandomCrop(image_size, padding=max(image_size // 8, 1), padding_mode="reflect")
    return [v2.RandomHorizontalFlip(), shift]


def seed_generators(*numbers: int) -> None:
    """Seed torch's generators from a few integers, e.g. (seed, epoch, position).

    Random numbers depend on the position in the training only, not on earlier random numbers. Resuming therefore needs
    no saved generator state, and the number of data-loading processes does not change the result.
    """
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 finalizer: nearby numbers give unrelated seeds
        mixed = (mixed ^ (number + 0x9E3779B97F4A7C15 + (mixed << 6) + (mixed >> 2))) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    seed = mixed & 0x7FFFFFFFFFFFFFFF
    # not torch.manual_seed: while CUDA is not initialized, each call formats and queues a traceback
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
