"""What training sees: faces as pixels, with what is known of each, and the order in which an epoch draws them.

Shapes: N faces, A attributes, K classes, S the side of a face in pixels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.training import RandAugment
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.regression_targets import RegressionTargets, regression_targets
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.learning.augmentation import Augmentation, augmentation, seed_generators

PixelArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingSet:
    """Faces to learn from."""

    pixels: PixelArray
    """uint8 [M, S, S, 3], M ≥ N; usually a memory map."""
    pixel_rows: IntArray
    """int [N], the row of each face in `pixels`."""
    image_ids: list[str]
    targets: npt.NDArray[np.float32]
    """float [N, K], a distribution over classes; what it says of unknown attributes is ignored."""
    known: BoolArray
    """bool [N, A], which attributes the target teaches."""
    weights: npt.NDArray[np.float32]
    """float [N], how much a face counts in the loss."""
    is_human: BoolArray
    """bool [N], labeled by a person, not by a teacher."""
    numbers: Mapping[str, RegressionTargets] = field(default_factory=dict)
    """By the attribute's name, the numbers behind its values."""

    @classmethod
    def from_table(cls, table: pd.DataFrame, pixels: PixelArray, *, labels: LabelSpace) -> "TrainingSet":
        """Take a merged training table (see `pseudo_labels.merging.merge`)."""
        return cls(
            pixels=pixels,
            pixel_rows=table["pixel_row"].to_numpy(np.int64),
            image_ids=table["image_id"].tolist(),
            targets=np.stack(table["target"].to_list()).astype(np.float32),
            known=table[[f"known_{name}" for name in labels.names]].to_numpy(bool, copy=True),
            weights=table["weight"].to_numpy(np.float32, copy=True),
            is_human=(table["label_source"] == "human").to_numpy(bool),
        )

    @classmethod
    def from_faces(cls, faces: pd.DataFrame, pixels: PixelArray, *, labels: LabelsConfig) -> "TrainingSet":
        """Take faces labeled by people, wholly or in part; a face of which nothing is known is left out."""
        space = labels.space
        faces = faces.iloc[np.flatnonzero((space.encode(faces) >= 0).any(axis=1))]
        codes = space.encode(faces)
        candidates = space.candidates(codes)
        return cls(
            pixels=pixels,
            pixel_rows=faces["pixel_row"].to_numpy(np.int64),
            image_ids=faces["image_id"].tolist(),
            targets=(candidates / candidates.sum(axis=1, keepdims=True)).astype(np.float32),
            known=codes >= 0,
            weights=np.ones(len(faces), np.float32),
            is_human=np.ones(len(faces), bool),
            numbers=regression_targets(faces, labels, train=faces),
        )

    def with_regression_targets_of(self, human: "TrainingSet") -> "TrainingSet":
        """Take over the numbers that `human` knows of the same images; those of others stay unknown."""
        places = pd.Series(np.arange(len(human.image_ids)), index=human.image_ids).reindex(self.image_ids)
        found = places.notna().to_numpy(bool)
        numbers = {}
        for name, known in human.numbers.items():
            truth = np.full(len(self.image_ids), np.nan)
            truth[found] = known.truth[places[found].to_numpy(np.int64)]
            numbers[name] = RegressionTargets(truth, known.of_value)
        return dataclasses.replace(self, numbers=numbers)


@dataclass(frozen=True)
class LabeledSet:
    """Fully known faces to judge a model on."""

    pixels: PixelArray
    pixel_rows: IntArray
    codes: IntArray
    """int [N, A]"""
    numbers: Mapping[str, RegressionTargets] = field(default_factory=dict)
    """By the attribute's name, the numbers behind its values."""

    @classmethod
    def from_faces(
        cls, faces: pd.DataFrame, pixels: PixelArray, *, labels: LabelsConfig, train: pd.DataFrame
    ) -> "LabeledSet":
        """Take the fully known faces of a face table; `train` are those that tell what number a value stands for."""
        faces = faces.iloc[np.flatnonzero((labels.space.encode(faces) >= 0).all(axis=1))]
        codes, numbers = labels.space.encode(faces), regression_targets(faces, labels, train=train)
        return cls(pixels, faces["pixel_row"].to_numpy(np.int64), codes, numbers)


@dataclass(frozen=True)
class UnlabeledSet:
    """Faces of the pool, of which something may be known."""

    pixels: PixelArray
    pixel_rows: IntArray
    codes: IntArray
    """int [N, A], -1 unknown."""

    @classmethod
    def from_faces(cls, faces: pd.DataFrame, pixels: PixelArray, *, labels: LabelSpace) -> "UnlabeledSet":
        """Take the faces of a face table."""
        return cls(pixels, faces["pixel_row"].to_numpy(np.int64), labels.encode(faces))


@dataclass(frozen=True)
class TrainingFaces:
    """Everything `learning.training.fit` needs to know of the faces."""

    labels: LabelSpace
    train: TrainingSet
    validation: LabeledSet
    unlabeled: UnlabeledSet | None = None
    """The pool, for a training that agrees on it."""

    @property
    def image_size(self) -> int:
        """Side of a face in pixels."""
        return int(self.train.pixels.shape[1])

    @classmethod
    def from_directory(cls, faces_dir: Path, *, labels: LabelsConfig) -> "TrainingFaces":
        """Take the labeled faces that `prepare` wrote: train and validation, never test."""
        table, pixels = read_faces(faces_dir / "labeled.parquet"), open_pixels(faces_dir / "pixels.npy")
        train, validation = (table[table["split"] == split] for split in ("train", "validation"))
        return cls(
            labels=labels.space,
            train=TrainingSet.from_faces(train, pixels, labels=labels),
            validation=LabeledSet.from_faces(validation, pixels, labels=labels, train=train),
        )


def sampling_weights(train: TrainingSet, *, class_balanced: bool, labeled_fraction: float | None) -> FloatArray:
    """How often an epoch draws each face, relative to the others.

    With `class_balanced`, face i weighs Σ_c q_i(c) / Σ_j q_j(c): with hard labels the inverse of its class's size, so
    that every class is drawn equally often. With `labeled_fraction`, human-labeled faces get that share of all draws, and
    j runs over the faces of the same kind, human-labeled or not: each kind is balanced by itself.

    Returns:
        float [N], sums to 1.
    """
    human = train.is_human
    if labeled_fraction is None or human.all() or not human.any():
        return _balanced(train.targets) if class_balanced else np.full(len(human), 1 / len(human))
    weights = np.zeros(len(human))
    for kind, share in ((human, labeled_fraction), (~human, 1 - labeled_fraction)):
        weights[kind] = share * (_balanced(train.targets[kind]) if class_balanced else 1 / kind.sum())
    return weights


def _balanced(targets: npt.NDArray[np.float32]) -> FloatArray:
    mass = targets.sum(axis=0, dtype=np.float64)
    weights = targets @ np.where(mass > 0, 1 / np.maximum(mass, 1e-12), 0.0)
    return np.asarray(weights / weights.sum())


def epoch_batches(weights: FloatArray, *, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """Draw an epoch: N faces by systematic resampling in a random order, in batches as equal as can be.

    A face whose share of N draws is x is drawn ⌊x⌋ or ⌈x⌉ times; equal weights give a plain permutation, in which
    every face occurs once. No face is dropped and no batch is a remainder of one.

    Args:
        weights: float [N], sums to 1.
        batch_size: the largest batch.
        seed: the run's.
        epoch: counted from 0; another epoch draws another order.

    Returns:
        Batches of face numbers, ⌈N / batch_size⌉ of them.
    """
    num_faces = len(weights)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(num_faces)
    edges = np.cumsum(weights[order])
    # the offset stays off the edges: with equal weights, a point on an edge would fall either way by rounding
    points = (np.arange(num_faces) + rng.uniform(0.01, 0.99)) / num_faces * edges[-1]
    drawn = order[np.searchsorted(edges, points, side="right").clip(max=num_faces - 1)]
    drawn = rng.permutation(drawn)
    return [batch.astype(np.int64) for batch in np.array_split(drawn, -(-num_faces // batch_size))]


class AugmentedFaces(Dataset[tuple[Tensor, int]]):
    """Faces of a set, each augmented by a draw that depends on seed, epoch and place in the epoch alone."""

    def __init__(
        self,
        faces: "TrainingSet | UnlabeledSet",
        kind: Augmentation,
        *,
        seed: int,
        randaugment: RandAugment = RandAugment(),  # noqa: B008 - frozen
    ) -> None:
        self._faces = faces
        self._transform = augmentation(kind, image_size=int(faces.pixels.shape[1]), randaugment=randaugment)
        self._seed = seed

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int]:
        """Give (pixels uint8 [3, S, S], face number) of (epoch, place in the epoch, face number)."""
        epoch, place, index = key
        face = torch.from_numpy(np.array(self._faces.pixels[self._faces.pixel_rows[index]])).permute(2, 0, 1)
        seed_generators(self._seed, epoch, place)
        return self._transform(face), index

    def __len__(self) -> int:
        return len(self._faces.pixel_rows)


def load_batches(
    faces: AugmentedFaces,
    batches: Sequence[IntArray],
    *,
    epoch: int,
    num_workers: int,
    start: int = 0,
    shard_indices: Callable[[IntArray], IntArray] = lambda places: places,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pixels uint8 [B, 3, S, S], face numbers int [B]) for each batch of an epoch, in order, from `start` on.

    `shard_indices` picks a process's part of the places of a batch, where several share it out.
    """
    ends = np.cumsum([len(batch) for batch in batches])
    drawn = np.concatenate(batches)
    keys = [
        [(epoch, int(place), int(drawn[place])) for place in shard_indices(np.arange(end - len(batch), end))]
        for end, batch in zip(ends, batches, strict=True)
    ]
    loader: DataLoader[Any] = DataLoader(faces, batch_sampler=keys[start:], num_workers=num_workers)
    yield from loader
