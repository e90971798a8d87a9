"""Training, validation and unlabeled sets; sampling of an epoch's batches.

Shapes: N faces, B batch, A attributes, K classes, V values, S image side, M rows of the pixel array.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.answered import LEFT_OUT, AnsweredLabels, answered_codes, human_codes, with_answers
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.regression_targets import RegressionTargets, regression_targets
from ssl_pipeline.faces.table import read_crop_rules, read_faces
from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace

PixelArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingSet:
    """Faces with targets to train on."""

    pixels: PixelArray
    """uint8 [M, S, S, 3], M ≥ N; usually a memory map."""
    pixel_rows: IntArray
    """int [N], each face's row in `pixels`."""
    image_ids: list[str]
    targets: npt.NDArray[np.float32]
    """float [N, K], a distribution over the classes; ignored for unknown attributes."""
    known: BoolArray
    """bool [N, A], which attributes the loss uses."""
    weights: npt.NDArray[np.float32]
    """float [N, A], weight of each label in the loss; ignored for unknown attributes."""
    is_human: BoolArray
    """bool [N], whether a person gave the label."""
    numbers: Mapping[str, RegressionTargets] = field(default_factory=dict)
    """Per attribute name, the numbers behind its values."""
    draws: FloatArray | None = None
    """float [N], how often each face of the pool is drawn relative to the others; 1 for labeled faces. None: 1."""

    @property
    def taught_weights(self) -> npt.NDArray[np.float32]:
        """Weights of the labels that the loss uses, float [N, A]; 0 for unknown attributes."""
        return np.where(self.known, self.weights, np.float32(0))

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, pixels: PixelArray, *, labels: LabelSpace, draws: "pd.Series[float] | None" = None
    ) -> "TrainingSet":
        """Build from a merged training table (see `pseudo_labels.merging.merge`); `draws` of the pool, by image id."""
        return cls(
            pixels=pixels,
            pixel_rows=table["pixel_row"].to_numpy(np.int64),
            image_ids=table["image_id"].tolist(),
            targets=np.stack(table["target"].to_list()).astype(np.float32),
            known=table[[f"known_{name}" for name in labels.names]].to_numpy(bool, copy=True),
            weights=table[[f"weight_{name}" for name in labels.names]].to_numpy(np.float32, copy=True),
            is_human=(table["label_source"] == "human").to_numpy(bool),
            draws=None if draws is None else draws.reindex(table["image_id"]).fillna(1.0).to_numpy(float),
        )

    @classmethod
    def from_faces(cls, faces: pd.DataFrame, pixels: PixelArray, *, labels: LabelsConfig) -> "TrainingSet":
        """Build from a face table; faces without any label are left out."""
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
            weights=np.ones(codes.shape, np.float32),
            is_human=np.ones(len(faces), bool),
            numbers=regression_targets(faces, labels, train=faces),
        )

    def with_regression_targets_of(self, human: "TrainingSet") -> "TrainingSet":
        """Copy the regression targets of `human` for the same images; the others stay unknown (NaN)."""
        positions = pd.Series(np.arange(len(human.image_ids)), index=human.image_ids).reindex(self.image_ids)
        is_known = positions.notna().to_numpy(bool)
        numbers = {}
        for name, targets in human.numbers.items():
            truth = np.full(len(self.image_ids), np.nan)
            truth[is_known] = targets.truth[positions[is_known].to_numpy(np.int64)]
            numbers[name] = RegressionTargets(truth, targets.of_value)
        return dataclasses.replace(self, numbers=numbers)


@dataclass(frozen=True)
class LabeledSet:
    """Fully labeled faces for validation and evaluation."""

    pixels: PixelArray
    pixel_rows: IntArray
    codes: IntArray
    """int [N, A], value codes."""
    numbers: Mapping[str, RegressionTargets] = field(default_factory=dict)
    """Per attribute name, the numbers behind its values."""

    @classmethod
    def from_faces(
        cls, faces: pd.DataFrame, pixels: PixelArray, *, labels: LabelsConfig, train: pd.DataFrame
    ) -> "LabeledSet":
        """Build from the fully labeled faces of a face table; `train` defines the number behind each value."""
        faces = faces.iloc[np.flatnonzero((labels.space.encode(faces) >= 0).all(axis=1))]
        codes, numbers = labels.space.encode(faces), regression_targets(faces, labels, train=train)
        return cls(pixels, faces["pixel_row"].to_numpy(np.int64), codes, numbers)


@dataclass(frozen=True)
class UnlabeledSet:
    """Faces of the pool, without labels or with some of them."""

    pixels: PixelArray
    pixel_rows: IntArray
    codes: IntArray
    """int [N, A], -1 unknown."""
    draws: FloatArray | None = None
    """float [N], how often each face is drawn relative to the others; None: equally often."""
    teacher: npt.NDArray[np.float32] | None = None
    """float [N, K], the teacher's class probabilities, for `fixmatch.teacher_share`."""
    left_out: BoolArray | None = None
    """bool [N, A], labels that people rejected or dispute: no guess is used for them. None: none."""

    @classmethod
    def from_faces(
        cls,
        faces: pd.DataFrame,
        pixels: PixelArray,
        *,
        labels: LabelSpace,
        draws: "pd.Series[float] | None" = None,
        teacher: npt.NDArray[np.float32] | None = None,
        answered: AnsweredLabels | None = None,
    ) -> "UnlabeledSet":
        """Build from a face table; `draws` by image id, `teacher` in the order of the faces; answered values are known."""
        weights = None if draws is None else draws.loc[faces["image_id"]].to_numpy(float)
        answers = answered_codes(faces, answered or {}, labels)
        codes = human_codes(labels.encode(faces), answers)
        return cls(pixels, faces["pixel_row"].to_numpy(np.int64), codes, weights, teacher, answers == LEFT_OUT)


@dataclass(frozen=True)
class TrainingFaces:
    """The faces that `learning.fit.fit` trains and validates on."""

    labels: LabelSpace
    train: TrainingSet
    validation: LabeledSet
    unlabeled: UnlabeledSet | None = None
    """The pool, for FixMatch."""
    cropping: CropRules | None = None
    """How the faces were cropped; None: centered squares."""

    @property
    def image_size(self) -> int:
        """Image side in pixels."""
        return int(self.train.pixels.shape[1])

    @classmethod
    def from_directory(
        cls, faces_dir: Path, *, labels: LabelsConfig, answered: AnsweredLabels | None = None
    ) -> "TrainingFaces":
        """Open the labeled faces that `prepare` wrote: the splits train, with people's answers, and validation; never test."""
        table, pixels = read_faces(faces_dir / "labeled.parquet"), open_pixels(faces_dir / "pixels.npy")
        train, validation = (table[table["split"] == split] for split in ("train", "validation"))
        return cls(
            labels=labels.space,
            train=TrainingSet.from_faces(with_answers(train, answered or {}, labels), pixels, labels=labels),
            validation=LabeledSet.from_faces(validation, pixels, labels=labels, train=train),
            cropping=read_crop_rules(faces_dir),
        )


def taught_targets(train: TrainingSet, labels: LabelSpace) -> npt.NDArray[np.float32]:
    """Spread each target evenly over the values of the unknown attributes, about which the face teaches nothing.

    A rejected guess is part of a soft target; without this it would count in class balances.

    Returns:
        float [N, K], rows sum to 1.
    """
    cube = train.targets.reshape(-1, *labels.num_values)
    for axis in range(1, cube.ndim):
        is_known = train.known[:, axis - 1].reshape(-1, *[1] * (cube.ndim - 1))
        cube = np.where(is_known, cube, cube.mean(axis=axis, keepdims=True))
    return cube.reshape(train.targets.shape).astype(np.float32)


def class_masses(train: TrainingSet, labels: LabelSpace) -> tuple[FloatArray, FloatArray]:
    """Sum the taught weight of each class, float [K], and by each attribute's weights, float [A, K]."""
    weights, taught = train.taught_weights, taught_targets(train, labels)
    return weights.max(axis=1) @ taught, weights.T @ taught


def sampling_weights(
    train: TrainingSet, labels: LabelSpace, *, class_balanced: bool, labeled_fraction: float | None
) -> FloatArray:
    """Compute each face's probability of being sampled.

    With `class_balanced`, face i weighs Σ_c q_i(c) / Σ_j q_j(c) with q of `taught_targets`; for hard labels, this is the
    inverse of its class's size, so that all classes are sampled equally often; `draws` are factors in both sums. With `labeled_fraction`, human-labeled faces get this fraction
    of the samples, and j runs over the faces of the same kind (human-labeled or not), so that each kind is balanced
    separately.

    Returns:
        float [N], sums to 1.
    """
    human, targets = train.is_human, taught_targets(train, labels)
    draws = np.ones(len(human)) if train.draws is None else train.draws
    kinds = [(human, labeled_fraction or 0.0), (~human, 1 - (labeled_fraction or 0.0))]
    if labeled_fraction is None or human.all() or not human.any():
        kinds = [(np.ones(len(human), bool), 1.0)]
    weights = np.zeros(len(human))
    for kind, share in kinds:
        own = _class_balanced(targets[kind], draws[kind]) if class_balanced else draws[kind]
        weights[kind] = share * own / own.sum()
    return weights


def _class_balanced(targets: npt.NDArray[np.float32], draws: FloatArray) -> FloatArray:
    mass = draws @ targets
    return np.asarray(draws * (targets @ np.where(mass > 0, 1 / np.maximum(mass, 1e-12), 0.0)))


def epoch_batches(weights: FloatArray, *, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """Sample an epoch of N faces by systematic resampling, in random order and batches of nearly equal size.

    A face of weight w is sampled ⌊N w⌋ or ⌈N w⌉ times; equal weights give a permutation of the faces. No face is
    dropped, and no batch is a small remainder.

    Args:
        weights: float [N], sums to 1.
        batch_size: size of the largest batch.
        seed: the run's.
        epoch: from 0; every epoch is sampled differently.

    Returns:
        ⌈N / batch_size⌉ batches of face indices.
    """
    num_faces = len(weights)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(num_faces)
    edges = np.cumsum(weights[order])
    # an offset away from 0 and 1: with equal weights, rounding would move a point on an edge to either side
    points = (np.arange(num_faces) + rng.uniform(0.01, 0.99)) / num_faces * edges[-1]
    sampled = order[np.searchsorted(edges, points, side="right").clip(max=num_faces - 1)]
    sampled = rng.permutation(sampled)
    return [batch.astype(np.int64) for batch in np.array_split(sampled, -(-num_faces // batch_size))]
