"""FixMatch: pseudo-targets against a slow reference, batches, loss, benefit, exact resume."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import FixMatchConfig
from ssl_pipeline.errors import ConfigError, TrainingError
from ssl_pipeline.learning import loop as training_loop
from ssl_pipeline.learning.dataset import TrainingFaces, UnlabeledSet
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.fixmatch import FixMatch, UnlabeledBatch
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from tests.conftest import SPACE, make_faces, make_role
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.learning import interruption

FIXMATCH = {"confidence_threshold": 0.6, "faces_per_labeled": 2}


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
    role = make_role(fixmatch={**FIXMATCH, **settings})
    assert role.training.fixmatch is not None
    assert faces.unlabeled is not None
    return FixMatch(role.training.fixmatch, role, faces.unlabeled, SPACE)


def test_pseudo_targets_are_the_confident_values_per_attribute_within_the_known_labels() -> None:
    faces = faces_with_pool(12, num_pool=40)
    codes = np.full((40, 2), -1)
    codes[::3, 0], codes[::4, 1] = 1, 2
    pool = dataclasses.replace(faces.unlabeled, codes=codes)
    probabilities = np.random.default_rng(0).dirichlet(np.full(6, 0.4), size=40)
    numbers = np.random.default_rng(1).permutation(40)
    fixmatch = fixmatch_of(dataclasses.replace(faces, unlabeled=pool), confidence_threshold=0.7)
    targets, confident = fixmatch.pseudo_targets(torch.from_numpy(np.log(probabilities)), torch.from_numpy(numbers))
    for row, number in enumerate(numbers):
        inside = SPACE.condition(probabilities[row : row + 1], codes[number : number + 1])
        chosen = []
        for position, marginal in enumerate(SPACE.attribute_probabilities(inside)):
            assert bool(confident[row, position]) == (marginal.max() >= 0.7 - 1e-6)
            chosen.append(int(marginal.argmax()) if confident[row, position] else -1)
        candidates = SPACE.candidates(np.array([chosen]))[0]
        assert targets[row].numpy() == pytest.approx(candidates / candidates.sum())


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
    assert torch.equal(again.weak, batches[1].weak)


def test_a_step_adds_the_unlabeled_loss_and_its_micro_batches_add_up() -> None:
    faces = faces_with_pool(12, size=32, num_pool=24)
    pixels = torch.from_numpy(faces.train.pixels[:12]).permute(0, 3, 1, 2)
    pool = torch.from_numpy(np.array(faces.train.pixels[12:36])).permute(0, 3, 1, 2)
    batch = UnlabeledBatch(pool, pool.flip(3), torch.arange(24))
    losses = []
    for parts, weight in ((1, 2.0), (4, 2.0), (1, 1e-9)):
        settings = {"confidence_threshold": 0.2, "faces_per_labeled": 2, "weight": weight}
        role = make_role(
            model={"architecture": "test_vit"},
            batch_size=12,
            accumulation_steps=parts,
            fixmatch=settings,
            precision="fp32",
        )
        loop = training_loop.TrainingLoop(role, faces, seed=0, device="cpu", name="test")
        if not losses:
            with torch.no_grad():
                weak, strong = loop.model(batch.weak), loop.model(batch.strong)
                targets, confident = loop.fixmatch.pseudo_targets(weak, batch.faces)  # type: ignore[union-attr]
                expected = 2.0 * loop.loss(strong, targets, confident, torch.ones(24, 2), {}) / 24
        losses.append(loop._step(pixels, torch.arange(12), 0, batch))
    assert confident.any()
    assert losses[0] - losses[2] == pytest.approx(float(expected), rel=1e-4)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


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
    alone = dataclasses.replace(faces, train=train, unlabeled=None)
    codes = SPACE.class_codes[(12 + np.arange(240)) % SPACE.num_classes]
    together = dataclasses.replace(alone, unlabeled=dataclasses.replace(faces.unlabeled, codes=codes))
    settings = {"epochs": 12, "batch_size": 10, "monitor": "log_loss"}
    roles = {"alone": make_role(**settings), "together": make_role(fixmatch={"faces_per_labeled": 7}, **settings)}
    losses = {
        name: [
            fit(roles[name], data, directory=tmp_path / f"{name}-{seed}", seed=seed).best_metric for seed in range(3)
        ]
        for name, data in (("alone", alone), ("together", together))
    }
    assert np.mean(losses["together"]) < 0.8 * np.mean(losses["alone"]), losses


def test_a_training_with_fixmatch_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role, faces = make_role(fixmatch=FIXMATCH, epochs=2, save_every_steps=1), faces_with_pool(60)
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
