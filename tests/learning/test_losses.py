"""The loss against brute-force enumeration, finite differences and torch's own."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from ssl_pipeline.config_training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.losses import CandidateCrossEntropy
from ssl_pipeline.learning.model import build_model

SPACE = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"], "age": ["a", "b", "c"]})


def brute_force(log_probabilities: np.ndarray, targets: np.ndarray, known: np.ndarray, smoothing: float) -> np.ndarray:
    """Walk over faces, cells and classes one by one."""
    losses = []
    for log_p, q, is_known in zip(log_probabilities, targets, known, strict=True):
        positions = [position for position, flag in enumerate(is_known) if flag]
        cells = list(itertools.product(*(range(SPACE.num_values[position]) for position in positions)))
        loss = 0.0
        for cell in cells if positions else []:
            members = [
                class_id
                for class_id in range(SPACE.num_classes)
                if all(SPACE.class_codes[class_id][p] == value for p, value in zip(positions, cell, strict=True))
            ]
            target = (1 - smoothing) * sum(q[c] for c in members) + smoothing / len(cells)
            loss -= target * np.log(sum(np.exp(log_p[c]) for c in members))
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_brute_force_for_every_pattern_of_knowledge(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    known = np.array(list(itertools.product([False, True], repeat=3)) * 3)
    log_p = torch.log_softmax(torch.from_numpy(rng.normal(size=(len(known), 18))), dim=1)
    targets = torch.softmax(torch.from_numpy(rng.normal(size=(len(known), 18))), dim=1)
    ours = CandidateCrossEntropy(SPACE, label_smoothing=smoothing)(log_p, targets, torch.from_numpy(known))
    expected = brute_force(log_p.numpy(), targets.numpy(), known, smoothing)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_fully_known_face_costs_what_torchs_cross_entropy_says() -> None:
    logits, truth = torch.randn(7, 18, dtype=torch.float64), torch.arange(7)
    loss = CandidateCrossEntropy(SPACE, label_smoothing=0.1)
    ours = loss(logits.log_softmax(1), torch.eye(18, dtype=torch.float64)[truth], torch.ones(7, 3, dtype=torch.bool))
    torch.testing.assert_close(ours, functional.cross_entropy(logits, truth, label_smoothing=0.1, reduction="none"))


def test_the_gradient_equals_finite_differences() -> None:
    logits = torch.randn(8, 18, dtype=torch.float64, requires_grad=True)
    known = torch.tensor(list(itertools.product([False, True], repeat=3)))
    targets = torch.softmax(torch.randn(8, 18, dtype=torch.float64), dim=1)
    loss = CandidateCrossEntropy(SPACE, label_smoothing=0.05)
    assert torch.autograd.gradcheck(lambda x: loss(x.log_softmax(1), targets, known).sum(), (logits,))


def test_an_unknown_attribute_teaches_nothing() -> None:
    logits = torch.randn(1, 18, dtype=torch.float64, requires_grad=True)
    known = torch.tensor([[True, False, True]])
    target = torch.eye(18, dtype=torch.float64)[:1]
    CandidateCrossEntropy(SPACE)(logits.log_softmax(1), target, known).sum().backward()
    assert logits.grad is not None
    # male and female of the same mask and age are pulled in proportion to what the model gives them already
    probabilities = logits.detach().softmax(1).view(3, 2, 3)
    ratio = logits.grad.view(3, 2, 3) / probabilities
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1])


def test_one_softmax_an_attribute_costs_the_sum_of_their_cross_entropies() -> None:
    model = build_model(ModelConfig(architecture="wrn10_1", head="per_attribute"), labels=SPACE, image_size=16)
    logits = torch.randn(5, 8)
    truth = torch.tensor([0, 5, 9, 13, 17])
    codes = torch.from_numpy(SPACE.class_codes)[truth]
    known = torch.ones(5, 3, dtype=torch.bool)
    ours = CandidateCrossEntropy(SPACE)(model.log_probabilities(logits), torch.eye(18)[truth], known)
    parts = logits.split([3, 2, 3], dim=1)
    expected = sum(functional.cross_entropy(part, codes[:, i], reduction="none") for i, part in enumerate(parts))
    torch.testing.assert_close(ours, expected)
