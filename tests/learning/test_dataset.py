"""Sampling weights, epoch batches, augmentation and loading."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_pipeline.learning.dataset import (
    epoch_batches,
    sampling_weights,
    taught_targets,
)
from tests.conftest import SPACE, make_faces


@given(num_faces=st.integers(1, 500), batch_size=st.integers(2, 64), seed=st.integers(0, 100), epoch=st.integers(0, 50))
@settings(max_examples=60)
def test_equal_weights_sample_every_face_once(num_faces: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(np.full(num_faces, 1 / num_faces), batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_faces))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_face_is_sampled_in_proportion_to_its_weight(seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(50))
    counts = np.bincount(np.concatenate(epoch_batches(weights, batch_size=8, seed=seed, epoch=0)), minlength=50)
    assert counts.sum() == 50
    assert (np.abs(counts - 50 * weights) < 1 + 1e-9).all()


def test_orders_differ_between_epochs_and_seeds_and_are_reproducible() -> None:
    def sample(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(np.full(40, 1 / 40), batch_size=8, seed=seed, epoch=epoch)).tolist()

    assert sample(0, 0) == sample(0, 0)
    assert len({tuple(sample(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_balanced_sampling_gives_every_class_the_same_weight() -> None:
    train = make_faces(60).train
    rare = np.concatenate([np.arange(0, 60, 6), np.arange(1, 7, 6)])  # ten faces of class 0, one of class 1
    few = type(train)(
        **{
            **train.__dict__,
            **{name: getattr(train, name)[rare] for name in ("pixel_rows", "targets", "known", "weights", "is_human")},
        }
    )
    weights = sampling_weights(few, SPACE, class_balanced=True, labeled_fraction=None)
    assert weights[:10].sum() == pytest.approx(weights[10:].sum())


def test_a_rejected_guess_does_not_count_in_the_balance() -> None:
    """Faces that teach the same gender and nothing else are sampled equally often, whatever was guessed of their age."""
    train, rng = make_faces(4).train, np.random.default_rng(0)
    targets = np.zeros((4, 6), np.float32)
    targets[:, :3] = rng.dirichlet([0.2, 0.2, 0.2], size=4)
    guessed = replace(train, targets=targets, known=np.array([[True, False]] * 4))
    weights = sampling_weights(guessed, SPACE, class_balanced=True, labeled_fraction=None)
    np.testing.assert_allclose(weights, 0.25, rtol=1e-6)
    np.testing.assert_allclose(taught_targets(guessed, SPACE), [[1 / 3] * 3 + [0] * 3] * 4, rtol=1e-6)


@pytest.mark.parametrize("class_balanced", [False, True])
def test_human_labels_get_their_fraction_of_the_samples(class_balanced: bool) -> None:
    train = make_faces(60).train
    mixed = type(train)(**{**train.__dict__, "is_human": np.arange(60) < 6})
    weights = sampling_weights(mixed, SPACE, class_balanced=class_balanced, labeled_fraction=0.4)
    assert weights[:6].sum() == pytest.approx(0.4)
    assert weights.sum() == pytest.approx(1)


def test_human_and_pseudo_labels_are_balanced_separately() -> None:
    """A class that is rare among pseudo-labels is still sampled equally often among human labels."""
    train = make_faces(60).train
    truth = np.where(np.arange(60) < 12, np.arange(60) % 6, np.where(np.arange(60) % 8 == 0, 0, 1 + np.arange(60) % 5))
    targets = np.eye(6, dtype=np.float32)[truth]
    human = np.arange(60) < 12
    mixed = type(train)(**{**train.__dict__, "is_human": human, "targets": targets})
    weights = sampling_weights(mixed, SPACE, class_balanced=True, labeled_fraction=0.4)
    for kind, share in ((human, 0.4), (~human, 0.6)):
        drawn = [weights[kind & (truth == class_id)].sum() for class_id in range(6)]
        np.testing.assert_allclose(drawn, share / 6)


@pytest.mark.parametrize("class_balanced", [False, True])
def test_draws_prefer_faces_of_the_pool_within_their_class(class_balanced: bool) -> None:
    train = make_faces(60).train
    human, draws = np.arange(60) < 12, np.where(np.arange(60) < 36, 1.0, 3.0)
    mixed = replace(train, is_human=human, draws=draws)
    weights = sampling_weights(mixed, SPACE, class_balanced=class_balanced, labeled_fraction=0.4)
    assert weights[human].sum() == pytest.approx(0.4)
    classes = train.targets.argmax(axis=1)
    for class_id in range(6):
        own = weights[~human & (classes == class_id)]
        np.testing.assert_allclose(own / own.min(), draws[~human & (classes == class_id)])
        if class_balanced:
            assert own.sum() == pytest.approx(0.1)
