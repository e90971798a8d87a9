"""FixMatch: pseudo-targets against a slow reference, batches, loss, benefit, exact resume."""

import copy
import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.fixmatch import FixMatchConfig
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, TrainingError
from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.dataset import TrainingFaces, UnlabeledSet
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.fixmatch import FixMatch, PoolTargets, UnlabeledBatch
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from tests.conftest import SPACE, make_faces, make_role
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.learning import interruption

CPU = torch.device("cpu")
FIXMATCH = {"confidence_threshold": 0.4, "threshold": "fixed", "align": {"prior": "flat"}, "targets": "soft"}


def faces_with_pool(num_labeled: int, *, size: int = 16, num_pool: int = 120) -> TrainingFaces:
    """Few labeled faces and a pool without labels."""
    whole = make_faces(num_labeled + num_pool, 30, size=size)
    rows = whole.train.pixel_rows
    train = dataclasses.replace(
        whole.train,
        pixel_rows=rows[:num_labeled],
        image_ids=whole.train.image_ids[:num_labeled],
        **{name: getattr(whole.train, name)[:num_labeled] for name in ("targets", "known", "weights", "is_human")},
    )
    pool = UnlabeledSet(whole.train.pixels, rows[num_labeled:], np.full((num_pool, 2), -1))
    return TrainingFaces(SPACE, train, whole.validation, pool)


def fixmatch_of(faces: TrainingFaces, **settings: object) -> FixMatch:
    role = make_role(fixmatch=settings)
    assert faces.unlabeled is not None
    return FixMatch(
        role, faces.unlabeled, SPACE, class_mass=torch.tensor([3.0, 1, 1, 1, 1, 1]), device=torch.device("cpu")
    )


def reference_targets(
    probabilities: np.ndarray, codes: np.ndarray, config: FixMatchConfig, means: list[dict[str, np.ndarray]], step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and weights of a step, face by face; `means` holds Σ (1 − m) m^(T − t) x_t by attribute and is updated.

    A code of -1 is unknown, -2 left out.
    """
    momentum, members = config.momentum, SPACE.class_codes
    guesses = codes == -1
    codes = np.maximum(codes, -1)
    mass = np.array([3.0, 1, 1, 1, 1, 1])
    q = np.concatenate([SPACE.condition(p[None], c[None]) for p, c in zip(probabilities, codes, strict=True)])

    def updated(position: int, name: str, values: np.ndarray) -> np.ndarray:
        guessed = values[guesses[:, position]].mean(axis=0)
        means[position][name] = momentum * means[position].get(name, 0) + (1 - momentum) * guessed
        return np.asarray(means[position][name] / (1 - momentum ** (step + 1)))

    if config.align is not None:
        aligned = q.copy()
        for position, attribute in enumerate(SPACE.attributes):
            marginal = SPACE.attribute_probabilities(q)[position]
            prior = np.array([mass[members[:, position] == value].sum() for value in range(len(attribute.values))])
            prior = np.ones(len(prior)) if config.align.prior == "flat" else prior
            ratio = (prior / prior.sum() / updated(position, "before", marginal)) ** config.align.exponent
            for face in np.flatnonzero(guesses[:, position]):
                aligned[face] *= ratio[members[:, position]]
        q = aligned / aligned.sum(axis=1, keepdims=True)
    targets, weights = np.ones_like(q), np.zeros(codes.shape)
    for position, attribute in enumerate(SPACE.attributes):
        marginal = SPACE.attribute_probabilities(q)[position]
        confidence, value = marginal.max(axis=1), marginal.argmax(axis=1)
        shares, mean = updated(position, "marginal", marginal), updated(position, "mean", confidence[:, None])[0]
        variance = updated(position, "square", confidence[:, None] ** 2)[0] - mean**2
        for face in range(len(q)):
            match config.threshold:
                case "fixed":
                    weight = float(confidence[face] >= config.threshold_of(attribute.name))
                case "self_adaptive":
                    weight = float(confidence[face] >= mean * shares[value[face]] / shares.max())
                case "gaussian_weights":
                    weight = float(np.exp(-(max(mean - confidence[face], 0) ** 2) / (2 * variance)))
            known = codes[face, position] >= 0
            weight *= float(guesses[face, position])
            weights[face, position] = 1 if known else weight * config.attribute_weights.get(attribute.name, 1)
            targets[face] *= members[:, position] == value[face]
    return (targets if config.targets == "hard" else q), weights


@pytest.mark.parametrize(
    "settings",
    [
        {"confidence_threshold": 0.7},
        {"confidence_threshold": {"gender": 0.8, "age": 0.5}, "targets": "soft", "attribute_weights": {"age": 0.5}},
        {"confidence_threshold": 0.5, "targets": "soft", "align": {"prior": "flat", "exponent": 0.5}},
        {"threshold": "self_adaptive", "align": {}, "momentum": 0.8},
        {"threshold": "gaussian_weights", "targets": "soft", "attribute_weights": {"gender": 0}},
        {"confidence_threshold": 0.6, "targets": "soft", "teacher_share": 0.3, "align": {}},
    ],
    ids=["hard", "per attribute", "flat prior", "self-adaptive", "gaussian weights", "with the teacher"],
)
def test_targets_are_those_of_a_slow_reference_over_several_steps(settings: dict[str, object]) -> None:
    faces = faces_with_pool(12, num_pool=40)
    codes = np.full((40, 2), -1)
    codes[::3, 0], codes[::4, 1] = 1, 2
    codes[1::5, 0], codes[2::7, 1] = -2, -2
    teacher = np.random.default_rng(9).dirichlet(np.full(6, 0.4), size=40).astype(np.float32)
    pool = dataclasses.replace(faces.unlabeled, codes=np.maximum(codes, -1), teacher=teacher, left_out=codes == -2)
    fixmatch = fixmatch_of(dataclasses.replace(faces, unlabeled=pool), **settings)
    config, means = FixMatchConfig.model_validate(settings), [{}, {}]  # type: ignore[var-annotated]
    for step in range(3):
        rng = np.random.default_rng(step)
        probabilities, numbers = rng.dirichlet(np.full(6, 0.4), size=40), rng.permutation(40)
        targets = fixmatch.targets(torch.from_numpy(np.log(probabilities)), torch.from_numpy(numbers), device=CPU)
        mixed = (1 - config.teacher_share) * probabilities + config.teacher_share * teacher[numbers]
        expected, weights = reference_targets(mixed, codes[numbers], config, means, step)
        np.testing.assert_allclose(targets.probabilities.numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(targets.weights.numpy(), weights, atol=1e-4)
        assert 0 < targets.weights.numpy()[codes[numbers] < 0].mean() < 1


def test_a_teacher_alone_sets_the_targets_and_no_weak_view_is_made() -> None:
    faces = faces_with_pool(12, num_pool=24)
    assert faces.unlabeled is not None
    teacher = np.random.default_rng(0).dirichlet(np.ones(6), size=24).astype(np.float32)
    pool = dataclasses.replace(faces, unlabeled=dataclasses.replace(faces.unlabeled, teacher=teacher))
    settings = {"teacher_share": 1.0, "targets": "soft", "confidence_threshold": 0.0}
    batches = list(fixmatch_of(pool, **settings).batches([12], seed=0, epoch=0, start=0, shard_indices=lambda p: p))
    targets = fixmatch_of(pool, **settings).targets(None, batches[0].faces, device=CPU)
    assert batches[0].weak is None
    np.testing.assert_allclose(targets.probabilities, teacher[batches[0].faces], rtol=1e-5)
    told = dataclasses.replace(faces, unlabeled=dataclasses.replace(faces.unlabeled, codes=SPACE.class_codes[[3] * 24]))
    (batch,) = fixmatch_of(told).batches([12], seed=0, epoch=0, start=0, shard_indices=lambda p: p)
    assert batch.weak is None  # nothing is left to predict
    assert (fixmatch_of(told).targets(None, batch.faces, device=CPU).probabilities[:, 3] == 1).all()
    losses = []
    for ema_decay in (0.9, None):
        role = make_role(batch_size=12, ema_decay=ema_decay, fixmatch=settings, precision="fp32")
        loop = training_loop.TrainingLoop(role, pool, seed=0, device="cpu", name="test")
        pixels = torch.from_numpy(faces.train.pixels[:12]).permute(0, 3, 1, 2)
        losses.append(float(loop._step(pixels, torch.arange(12), 0, batches[0])))
    assert losses[0] == pytest.approx(losses[1])  # the averaged model is not asked
    with pytest.raises(TrainingError, match="no predictions of a teacher"):
        fixmatch_of(faces, **settings)


def test_the_pool_term_is_the_plain_cross_entropy_of_each_attribute() -> None:
    fixmatch = fixmatch_of(faces_with_pool(12), weight=3.0)
    rng = np.random.default_rng(0)
    q, p = rng.dirichlet(np.ones(6), size=5), rng.dirichlet(np.ones(6), size=5)
    weights = np.array([[1, 1], [0, 1], [0.5, 0], [0, 0], [1, 0.25]])
    marginals = zip(SPACE.attribute_probabilities(q), SPACE.attribute_probabilities(p), strict=True)
    expected = sum(
        weights[face, position] * -(mine[face] * np.log(other[face])).sum()
        for position, (mine, other) in enumerate(marginals)
        for face in range(5)
    )
    targets = PoolTargets(torch.from_numpy(q), torch.from_numpy(weights))
    assert float(fixmatch.loss(torch.from_numpy(np.log(p)), targets)) == pytest.approx(3 * expected)


def test_every_pool_face_is_sampled_once_per_pass_and_both_views_are_of_the_same_face() -> None:
    faces = faces_with_pool(12, num_pool=20)
    fixmatch = fixmatch_of(faces, faces_per_labeled=3)
    batches = list(fixmatch.batches([8, 4], seed=1, epoch=0, start=0, shard_indices=lambda places: places))
    assert [len(batch.faces) for batch in batches] == [24, 12]
    sampled = torch.cat([batch.faces for batch in batches]).tolist()
    assert sorted(sampled[:20]) == list(range(20))
    assert len(set(sampled[20:])) == 16
    halves = [
        list(fixmatch.batches([8, 4], seed=1, epoch=0, start=0, shard_indices=lambda p, r=r: np.array_split(p, 2)[r]))
        for r in (0, 1)
    ]
    for whole, first, second in zip(batches, *halves, strict=True):
        assert torch.cat([first.faces, second.faces]).tolist() == whole.faces.tolist()
        assert torch.equal(torch.cat([first.strong, second.strong]), whole.strong)
    (again,) = fixmatch.batches([8, 4], seed=1, epoch=0, start=1, shard_indices=lambda places: places)
    assert again.weak is not None
    assert torch.equal(again.weak, batches[1].weak)


def test_the_pool_is_sampled_by_its_draws() -> None:
    faces = faces_with_pool(12, num_pool=20)
    assert faces.unlabeled is not None
    weights = np.where(np.arange(20) < 5, 3.0, 1 / 3)
    drawn = dataclasses.replace(faces, unlabeled=dataclasses.replace(faces.unlabeled, draws=weights))
    batches = fixmatch_of(drawn, faces_per_labeled=5).batches(
        [8, 4], seed=1, epoch=0, start=0, shard_indices=lambda p: p
    )
    counts = np.bincount(torch.cat([batch.faces for batch in batches]), minlength=20)
    np.testing.assert_allclose(counts, 3 * weights, atol=3)  # in each of three passes, rounded
    assert counts[:5].min() == 9


@pytest.mark.parametrize("ema_decay", [0.5, None], ids=["average", "model itself"])
def test_a_step_adds_the_pool_term_by_the_average_before_the_step(ema_decay: float | None) -> None:
    faces = faces_with_pool(12, size=32, num_pool=24)
    pixels = torch.from_numpy(faces.train.pixels[:12]).permute(0, 3, 1, 2)
    pool = torch.from_numpy(np.array(faces.train.pixels[12:36])).permute(0, 3, 1, 2)
    batch = UnlabeledBatch(pool.flip(3), pool, torch.arange(24))
    losses: dict[tuple[int, float], list[float]] = {}
    expected = []
    for parts, weight in ((1, 2.0), (4, 2.0), (1, 1e-9)):
        role = make_role(
            model={"architecture": "test_vit"},
            batch_size=12,
            accumulation_steps=parts,
            ema_decay=ema_decay,
            fixmatch={"confidence_threshold": 0.2, "weight": weight, "targets": "soft", "align": {}},
            loss={"type": "cross_entropy", "label_smoothing": 0.3, "class_weights": "balanced"},
            precision="fp32",
        )
        loop = training_loop.TrainingLoop(role, faces, seed=0, device="cpu", name="test")
        teacher = copy.deepcopy(loop.eval_model)
        reference = copy.deepcopy(loop.fixmatch)
        for step in range(2):
            if (parts, weight) == (1, 2.0):
                with torch.no_grad():
                    weak = teacher.eval()(batch.weak)
                    targets = reference.targets(weak, batch.faces, device=CPU)  # type: ignore[union-attr]
                    expected.append(float(loop.fixmatch.loss(loop.model(batch.strong), targets)) / 24)  # type: ignore[union-attr]
            losses.setdefault((parts, weight), []).append(float(loop._step(pixels, torch.arange(12), step, batch)))
            teacher = copy.deepcopy(loop.eval_model)
    assert losses[1, 2.0][0] - losses[1, 1e-9][0] == pytest.approx(expected[0], rel=1e-4)
    assert losses[4, 2.0] == pytest.approx(losses[1, 2.0], rel=1e-3)
    assert expected[0] != pytest.approx(expected[1], rel=1e-3)


def _record(seen: list[tuple[bool, bool, int]], module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
    seen.append((output.requires_grad, module.training, len(output)))


def test_the_weak_views_have_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = faces_with_pool(12, num_pool=24)
    for ema_decay in (0.9, None):
        role = make_role(batch_size=12, ema_decay=ema_decay, fixmatch={"confidence_threshold": 0.0})
        loop = training_loop.TrainingLoop(role, faces, seed=0, device="cpu", name="test")
        seen: list[tuple[bool, bool, int]] = []
        record = partial(_record, seen)
        for model in {loop.model, loop.eval_model}:
            model.register_forward_hook(record)
        pixels = torch.from_numpy(faces.train.pixels[:36]).permute(0, 3, 1, 2)
        loop.model.train()
        loop._step(pixels[:12], torch.arange(12), 0, UnlabeledBatch(pixels[12:], pixels[12:], torch.arange(24)))
        assert seen == [(False, False, 24), (True, True, 36)]


def test_strong_views_of_the_pool_learn_the_labels_of_the_weak_views(tmp_path: Path) -> None:
    """Codes that leave one class make the pseudo-targets equal to labels: a class without labels is learned."""
    faces = faces_with_pool(12, num_pool=240)
    labeled = np.flatnonzero(faces.train.targets.argmax(axis=1) != 5)
    names = ("pixel_rows", "targets", "known", "weights", "is_human")
    train = dataclasses.replace(
        faces.train,
        image_ids=[faces.train.image_ids[row] for row in labeled],
        **{name: getattr(faces.train, name)[labeled] for name in names},
    )
    labeled_alone = dataclasses.replace(faces, train=train, unlabeled=None)
    codes = SPACE.class_codes[(12 + np.arange(240)) % SPACE.num_classes]
    with_pool = dataclasses.replace(labeled_alone, unlabeled=dataclasses.replace(faces.unlabeled, codes=codes))
    settings = {"epochs": 12, "batch_size": 10, "monitor": "log_loss"}
    roles = {"alone": make_role(**settings), "together": make_role(fixmatch={"faces_per_labeled": 7}, **settings)}
    losses = {
        name: [
            fit(roles[name], data, directory=tmp_path / f"{name}-{seed}", seed=seed).kept_metric for seed in range(3)
        ]
        for name, data in (("alone", labeled_alone), ("together", with_pool))
    }
    for together, alone in zip(losses["together"], losses["alone"], strict=True):
        assert together < 0.9 * alone, losses


def test_a_training_with_fixmatch_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role = make_role(fixmatch=FIXMATCH, epochs=2, save_every_steps=1, ema_decay=0.9)
    faces = faces_with_pool(60)
    fit(role, faces, directory=tmp_path / "whole", seed=3)
    monkeypatch.setattr(interruption, "make_faces", lambda: faces)
    interruption.fit_until(6, role, tmp_path / "halves", monkeypatch)
    fit(role, faces, directory=tmp_path / "halves", seed=3)
    files = [(tmp_path / name / "trained.safetensors").read_bytes() for name in ("whole", "halves")]
    assert files[0] == files[1]


def test_a_student_may_train_with_fixmatch_instead_of_pseudo_labels(tmp_path: Path) -> None:
    overrides = ["student.training.fixmatch={confidence_threshold: 0.6}", "student.training.epochs=1"]
    config: RunConfig = load_config(write_tiny_config(tmp_path), overrides=overrides)
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    select(config, run, 1)
    assert train_student(config, run, 1).num_epochs == 1
    with pytest.raises(ConfigError, match="the teacher does not train on the pool"):
        load_config(tmp_path / "tiny.yaml", overrides=["teacher.training.fixmatch={}"])
    with pytest.raises(TrainingError, match="fixmatch needs unlabeled faces, got none"):
        fit(make_role(fixmatch=FixMatchConfig()), make_faces(), directory=tmp_path / "none")
