"""Augmentation of one face, uint8 [3, H, W] → uint8 [3, H, W], by torchvision's own transforms."""

from typing import Literal, assert_never

import torch
from torchvision.transforms import v2

from ssl_pipeline.config.training import RandAugment

Augmentation = Literal["none", "weak", "strong"]


def augmentation(kind: Augmentation, *, image_size: int, randaugment: RandAugment) -> v2.Transform:
    """Give the transform for a kind of augmentation.

    `weak` mirrors a face and shifts it by up to an eighth (FixMatch's weak augmentation, arXiv:2001.07685);
    `strong` adds RandAugment (arXiv:1909.13719) and erases a rectangle (arXiv:1708.04896).
    """
    match kind:
        case "none":
            return v2.Identity()
        case "weak":
            return v2.Compose(_weak(image_size))
        case "strong":
            operations = v2.RandAugment(num_ops=randaugment.num_ops, magnitude=randaugment.magnitude)
            erase = v2.RandomErasing(p=randaugment.erasing_probability, scale=(0.02, 0.2), value=127)
            return v2.Compose([*_weak(image_size), operations, erase])
        case _:
            assert_never(kind)


def _weak(image_size: int) -> list[v2.Transform]:
    shift = v2.RandomCrop(image_size, padding=max(image_size // 8, 1), padding_mode="reflect")
    return [v2.RandomHorizontalFlip(), shift]


def seed_generators(*numbers: int) -> None:
    """Seed torch's generators from a few numbers, as (run's seed, epoch, face).

    Every draw of the training is a function of where it is, not of what was drawn before. So an interrupted training
    needs no saved generator, and the number of loading processes changes nothing.
    """
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64's finalizer, which spreads neighbouring numbers apart
        mixed = (mixed ^ (number + 0x9E3779B97F4A7C15 + (mixed << 6) + (mixed >> 2))) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    seed = mixed & 0x7FFFFFFFFFFFFFFF
    # not torch.manual_seed: without a GPU in use it queues a call, with a formatted traceback, for each of millions
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
