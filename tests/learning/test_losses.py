"""Losses against brute force over faces and classes, torch's own, scikit-learn, and finite differences."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from ssl_pipeline.config.losses import LossConfig
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.losses import BatchLoss, balanced_class_weights, f1_loss
from ssl_pipeline.learning.model import build_model

SPACE = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"], "age": ["a", "b", "c"]})
PATTERNS = np.array(list(itertools.product([False, True], repeat=3)))
MASS = torch.arange(1, 19, dtype=torch.float64)

PER_FACE = [
    {"type": "cross_entropy"},
    {"type": "cross_entropy", "label_smoothing": 0.1, "class_weights": "balanced"},
    {"type": "cross_entropy", "class_weights": {"wear/male/a": 3.0, "normal/female/c": 0.5}},
    {"type": "focal", "gamma": 2.0},
    {"type": "focal", "gamma": 0.5, "label_smoothing": 0.05, "class_weights": "balanced", "per": "attribute"},
    {"type": "cross_entropy", "per": "attribute", "attribute_weights": {"age": 2.0}, "class_weights": {"age/c": 4.0}},
]
F1S = [{"type": "f1"}, {"type": "f1", "per": "attribute", "attribute_weights": {"age": 3.0}}]


def build(section: dict) -> Callable[..., Tensor]:
    """A loss whose faces weigh the same in all attributes."""
    loss = BatchLoss(TypeAdapter(LossConfig).validate_python(section), SPACE, class_mass=MASS)
    return lambda log_p, targets, known, weights: loss(log_p, targets, known, weights[:, None].expand(-1, 3))


@pytest.mark.parametrize("per", ["class", "attribute"])
def test_an_unsure_guess_leaves_the_weight_of_a_human_label(per: str) -> None:
    """−Σ w_k log p(label k | labels before it), the labels in the order of their weights; per attribute the marginals."""
    log_p, targets, _, _ = batch(1)
    log_p, targets = log_p[:1], torch.eye(18, dtype=torch.float64)[[7]]
    loss = BatchLoss(TypeAdapter(LossConfig).validate_python({"type": "cross_entropy", "per": per}), SPACE)
    known, weights = torch.tensor([[True, True, False]]), torch.tensor([[0.02, 1.0, 0.5]], dtype=torch.float64)
    codes = SPACE.class_codes[7]

    def log_probability(*positions: int) -> float:
        classes = members(list(positions), tuple(codes[list(positions)]))
        return float(log_p[0, classes].logsumexp(0))

    human = -log_probability(1)
    guess = human - -log_probability(0, 1) if per == "class" else log_probability(0)
    assert float(loss(log_p, targets, known, weights)) == pytest.approx(human - 0.02 * guess)


def test_balanced_weights_of_an_attribute_count_its_own_labels_only() -> None:
    """Faces that do not teach the age do not count in the balance of the ages."""
    log_p, targets, known, weights = batch()
    section = {"type": "cross_entropy", "per": "attribute", "class_weights": "balanced"}
    config = TypeAdapter(LossConfig).validate_python(section)
    mass = (known * weights[:, None]).T @ targets
    found = BatchLoss(config, SPACE, class_mass=MASS, attribute_mass=mass)(
        log_p, targets, known, weights[:, None].expand(-1, 3)
    )
    expected = 0.0
    for position, num_values in enumerate(SPACE.num_values):
        q, p = (
            torch.stack([x[:, members([position], (code,))].sum(1) for code in range(num_values)], dim=1)
            for x in (targets, log_p.exp())
        )
        rows = known[:, position]
        counts = (weights[rows, None] * q[rows]).sum(0)
        balance = counts.sum() / (num_values * counts)
        expected += float((weights[rows, None] * balance * q[rows] * -p[rows].log()).sum())
    assert float(found) == pytest.approx(expected)


def batch(num_faces: int = 24, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log probabilities, soft targets, every combination of known attributes, weights; float64."""
    rng = np.random.default_rng(seed)
    log_p = torch.log_softmax(torch.from_numpy(rng.normal(size=(num_faces, 18))), dim=1)
    targets = torch.softmax(torch.from_numpy(rng.normal(size=(num_faces, 18))), dim=1)
    known = torch.from_numpy(np.resize(PATTERNS, (num_faces, 3)))
    return log_p, targets, known, torch.from_numpy(rng.uniform(0.2, 2, size=num_faces))


def members(positions: list[int], combination: tuple[int, ...]) -> list[int]:
    """The classes with these values at these positions."""
    return [c for c in range(18) if tuple(SPACE.class_codes[c][positions]) == combination]


def units(section: dict, is_known: np.ndarray) -> list[tuple[list[int], float]]:
    """The attribute sets that a face's loss is summed over, with their weights."""
    positions = [position for position, flag in enumerate(is_known) if flag]
    if section.get("per", "class") == "class":
        return [(positions, 1.0)] if positions else []
    return [([p], section.get("attribute_weights", {}).get(SPACE.names[p], 1.0)) for p in positions]


def weight_of(section: dict, positions: list[int], cell: list[int], num_cells: int) -> float:
    weights = section.get("class_weights")
    if weights is None:
        return 1.0
    if weights == "balanced":
        return float(MASS.sum() / (num_cells * sum(MASS[c] for c in cell)))
    if section.get("per") == "attribute":
        (position,) = positions
        value = SPACE.attributes[position].values[SPACE.class_codes[cell[0]][position]]
        return weights.get(f"{SPACE.names[position]}/{value}", 1.0)
    return float(np.mean([weights.get(SPACE.class_name(c), 1.0) for c in cell]))


def brute_force(section: dict, log_p: np.ndarray, q: np.ndarray, known: np.ndarray, weights: np.ndarray) -> float:
    """Loop over faces, groups of classes and classes."""
    total, gamma, smoothing = 0.0, section.get("gamma", 0.0), section.get("label_smoothing", 0.0)
    for face in range(len(log_p)):
        for positions, attribute_weight in units(section, known[face]):
            combinations = list(itertools.product(*(range(SPACE.num_values[p]) for p in positions)))
            for combination in combinations:
                cell = members(positions, combination)
                p = sum(np.exp(log_p[face, c]) for c in cell)
                target = (1 - smoothing) * sum(q[face, c] for c in cell) + smoothing / len(combinations)
                value_weight = weight_of(section, positions, cell, len(combinations))
                loss = -value_weight * target * (1 - p) ** gamma * np.log(p)
                total += weights[face] * attribute_weight * loss
    return total


@pytest.mark.parametrize("section", PER_FACE, ids=str)
def test_a_loss_equals_brute_force_for_every_combination_of_known_attributes(section: dict) -> None:
    arrays = batch()
    assert float(build(section)(*arrays)) == pytest.approx(brute_force(section, *(a.numpy() for a in arrays)), rel=1e-9)


@pytest.mark.parametrize("section", PER_FACE, ids=str)
def test_parts_of_a_batch_add_up_to_the_batch(section: dict) -> None:
    arrays, loss = batch(), build(section)
    parts = sum(loss(*(array[start : start + 6] for array in arrays)) for start in range(0, 24, 6))
    torch.testing.assert_close(parts, loss(*arrays))


@pytest.mark.parametrize("section", [*PER_FACE, F1S[1]], ids=str)
def test_the_gradient_equals_finite_differences(section: dict) -> None:
    _, targets, known, weights = batch(8)
    logits = torch.randn(8, 18, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: build(section)(x.log_softmax(1), targets, known, weights), (logits,))


def test_the_gradient_of_f1_over_classes_equals_finite_differences_where_all_is_known() -> None:
    _, targets, _, weights = batch(8)
    logits = torch.randn(8, 18, dtype=torch.float64, requires_grad=True)
    known = torch.ones(8, 3, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: build(F1S[0])(x.log_softmax(1), targets, known, weights), (logits,))


def test_f1_of_hard_predictions_is_scikit_learns_macro_f1() -> None:
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 5, 200), rng.integers(0, 6, 200)  # class 5 never occurs
    loss = f1_loss(torch.eye(6)[predicted], torch.eye(6)[truth], torch.ones(200))
    expected = f1_score(truth, predicted, labels=np.unique(truth), average="macro")
    assert float(loss) == pytest.approx(1 - expected, rel=1e-6)


def test_weights_in_f1_equal_repeated_faces() -> None:
    p, q = torch.softmax(torch.randn(3, 4), 1), torch.softmax(torch.randn(3, 4), 1)
    repeated = [0, 0, 1, 2, 2, 2]
    torch.testing.assert_close(
        f1_loss(p, q, torch.tensor([2.0, 1.0, 3.0])), f1_loss(p[repeated], q[repeated], torch.ones(6))
    )


def test_f1_over_classes_spreads_a_partly_known_face_by_the_models_probabilities() -> None:
    log_p, targets, known, weights = batch()
    completed = []
    for face in range(24):
        positions = [position for position, flag in enumerate(known[face]) if flag]
        if positions:
            row = torch.zeros(18, dtype=torch.float64)
            for combination in itertools.product(*(range(SPACE.num_values[p]) for p in positions)):
                cell = members(positions, combination)
                row[cell] = targets[face, cell].sum() * log_p[face, cell].softmax(0)
            completed.append((face, row))
    faces = [face for face, _ in completed]
    expected = f1_loss(log_p[faces].exp(), torch.stack([row for _, row in completed]), weights[faces])
    torch.testing.assert_close(build(F1S[0])(log_p, targets, known, weights), expected * weights[faces].sum())


def test_the_expected_number_loss_is_half_the_squared_error_where_the_number_is_known() -> None:
    log_p, targets, known, weights = batch()
    of_value, truth = torch.tensor([20.0, 45.0, 70.0]).double(), torch.linspace(10, 90, 24).double()
    truth[::4] = torch.nan
    expected = 0.0
    for row in range(24):
        if row % 4:
            age = sum(float(log_p[row, c].exp()) * float(of_value[SPACE.class_codes[c][2]]) for c in range(18))
            expected += float(weights[row]) * (age - float(truth[row])) ** 2 / 2
    mixture = {
        "type": "mixture",
        "terms": [
            {"weight": 1.0, "loss": {"type": "cross_entropy"}},
            {"weight": 0.5, "loss": {"type": "expected_number", "attribute": "age"}},
        ],
    }
    loss = BatchLoss(TypeAdapter(LossConfig).validate_python(mixture), SPACE, value_numbers={"age": of_value})
    alone = build({"type": "cross_entropy"})(log_p, targets, known, weights)
    weights = weights[:, None].expand(-1, 3)
    both = loss(log_p, targets, known, weights, {"age": truth})
    assert float(both - alone) == pytest.approx(0.5 * expected)
    logits = torch.randn(24, 18, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: loss(x.log_softmax(1), targets, known, weights, {"age": truth}), (logits,)
    )


def test_a_mixture_is_the_weighted_sum_of_its_terms() -> None:
    arrays = batch()
    terms = [{"weight": 0.4, "loss": F1S[0]}, {"weight": 0.6, "loss": PER_FACE[3]}]
    mixed = build({"type": "mixture", "terms": terms})(*arrays)
    torch.testing.assert_close(mixed, 0.4 * build(F1S[0])(*arrays) + 0.6 * build(PER_FACE[3])(*arrays))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_fully_known_face_has_torchs_cross_entropy(smoothing: float) -> None:
    logits, truth = torch.randn(7, 18, dtype=torch.float64), torch.arange(7)
    loss = build({"type": "cross_entropy", "label_smoothing": smoothing})
    one = torch.ones(7, dtype=torch.float64)
    ours = loss(logits.log_softmax(1), torch.eye(18).double()[truth], torch.ones(7, 3, dtype=torch.bool), one)
    expected = functional.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, expected)


def test_weights_by_name_are_torchs_class_weights() -> None:
    logits, truth = torch.randn(7, 18, dtype=torch.float64), torch.arange(7)
    by_name = {"wear/male/b": 2.5, "wear/female/c": 0.25}
    loss = build({"type": "cross_entropy", "class_weights": by_name})
    one = torch.ones(7, dtype=torch.float64)
    ours = loss(logits.log_softmax(1), torch.eye(18).double()[truth], torch.ones(7, 3, dtype=torch.bool), one)
    weights = torch.tensor([by_name.get(name, 1.0) for name in SPACE.class_names], dtype=torch.float64)
    torch.testing.assert_close(ours, functional.cross_entropy(logits, truth, weight=weights, reduction="sum"))


def test_focal_without_gamma_is_cross_entropy_and_a_confident_face_has_almost_no_loss() -> None:
    arrays = batch()
    torch.testing.assert_close(build({"type": "focal", "gamma": 0.0})(*arrays), build(PER_FACE[0])(*arrays))
    logits = torch.tensor([[30.0] + [0.0] * 17], requires_grad=True)
    focal = build({"type": "focal", "gamma": 0.5})
    cost = focal(logits.log_softmax(1), torch.eye(18)[:1], torch.ones(1, 3, dtype=torch.bool), torch.ones(1))
    cost.backward()
    assert cost < 1e-5
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_are_scikit_learns() -> None:
    truth = np.random.default_rng(0).integers(0, 4, 100)
    mass = torch.from_numpy(np.bincount(truth, minlength=4).astype(float))
    expected = compute_class_weight("balanced", classes=np.arange(4), y=truth)
    np.testing.assert_allclose(balanced_class_weights(mass).numpy(), expected)


@pytest.mark.parametrize("section", [PER_FACE[0], PER_FACE[4], F1S[1]], ids=str)
def test_an_unknown_attribute_has_no_effect(section: dict) -> None:
    logits = torch.randn(1, 18, dtype=torch.float64, requires_grad=True)
    known, target = torch.tensor([[True, False, True]]), torch.eye(18, dtype=torch.float64)[:1]
    build(section)(logits.log_softmax(1), target, known, torch.ones(1, dtype=torch.float64)).backward()
    assert logits.grad is not None
    # the gradients of male and female, for the same mask and age, are proportional to their probabilities
    ratio = logits.grad.view(3, 2, 3) / logits.detach().softmax(1).view(3, 2, 3)
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1])


def test_faces_without_known_attributes_have_no_loss() -> None:
    log_p, targets, _, weights = batch(4)
    for section in [*PER_FACE, *F1S]:
        assert build(section)(log_p, targets, torch.zeros(4, 3, dtype=torch.bool), weights) == 0


def test_a_per_attribute_head_has_the_sum_of_the_attributes_cross_entropies() -> None:
    model = build_model(ModelConfig(architecture="wrn10_1", head="per_attribute"), labels=SPACE, image_size=16)
    logits, truth = torch.randn(5, 8), torch.tensor([0, 5, 9, 13, 17])
    codes = torch.from_numpy(SPACE.class_codes)[truth]
    parts = logits.split([3, 2, 3], dim=1)
    expected = sum(functional.cross_entropy(part, codes[:, i], reduction="sum") for i, part in enumerate(parts))
    for per in ("class", "attribute"):
        loss = build({"type": "cross_entropy", "per": per})
        known = torch.ones(5, 3, dtype=torch.bool)
        ours = loss(model.log_probabilities(logits), torch.eye(18)[truth], known, torch.ones(5))
        torch.testing.assert_close(ours, expected)
