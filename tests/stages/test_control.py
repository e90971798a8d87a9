"""The control of a student, and the weights that a student starts with."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.dataset import epoch_batches
from ssl_pipeline.learning.loop import TrainingLoop
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.reports.comparison import comparison_markdown, verdict
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.finish import RoundOutcome, compared_round, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.launch import TrainingJob, run_job
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.train import TRAINED, pool_teaches, train_control, train_student
from tests.conftest import make_faces, make_role
from tests.cycle_config import label_the_pool, write_tiny_config

TEACHERS_NETWORK = "student.model={architecture: wrn10_1}"
FIXMATCH = "student.training.fixmatch={confidence_threshold: 0.3, targets: soft}"


@pytest.fixture(scope="module")
def labeled_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with a teacher and the pool labeled; its config file."""
    path = write_tiny_config(tmp_path_factory.mktemp("control"))
    config, run = load(path)
    label_the_pool(config, run)
    return path


def load(path: Path, *overrides: str) -> tuple[RunConfig, RunDir]:
    config = load_config(path, overrides=[*overrides, "student.training.epochs=1"])
    return config, RunDir(config.runs_root / config.run_name)


def test_the_control_draws_the_same_faces_and_learns_nothing_from_the_pool(labeled_pool: Path) -> None:
    config, run = load(labeled_pool, "control=true")
    teacher = run.teacher
    student, control = train_student(config, run, 1), train_control(config, run, 1)
    tables = [read_training_table(model.directory / "training.parquet") for model in (student, control)]
    weights = [name for name in tables[0] if name.startswith("weight_")]
    pd.testing.assert_frame_equal(tables[0].drop(columns=weights), tables[1].drop(columns=weights))
    guessed = (tables[0]["label_source"] == "pseudo").to_numpy(bool)
    assert guessed.any()
    assert (tables[1].loc[guessed, weights] == 0).all(axis=None)
    assert (tables[0].loc[guessed, weights] > 0).any(axis=None)
    pd.testing.assert_frame_equal(tables[0].loc[~guessed, weights], tables[1].loc[~guessed, weights])
    outcome = RoundOutcome(1, student=student, gate=gate(config, run, 1, teacher))
    assert compared_round([outcome]) == 1
    summary = finish(config, run, [outcome])
    assert set(summary["control"]) == set(summary["student"])
    assert summary["control_difference"]["overall"].keys() == summary["test_difference"]["overall"].keys()
    assert "round-01/control" in summary["seconds"]
    assert "The control, the same training without the pool, is " in verdict(summary)
    assert "| % | teacher | control | student (round 1) | difference |" in comparison_markdown(summary)
    without = finish(load(labeled_pool)[0], run, [outcome])
    assert without["control"] is None
    assert "control" not in verdict(without)


def test_faces_that_teach_nothing_are_drawn_and_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = make_faces(40, 10)
    few = np.where(np.arange(40)[:, None] % 4 == 0, 1, 0) * np.ones((1, 2), np.float32)
    taught = replace(faces, train=replace(faces.train, weights=few))
    loop = TrainingLoop(make_role(batch_size=10, epochs=1), taught, seed=0, device="cpu", name="test")
    seen: list[list[int]] = []
    monkeypatch.setattr(loop, "_step", lambda _, indices, *__: seen.append(indices.tolist()) or torch.zeros(()))
    loop.run_epoch(TrainingProgress("test", 1, start=0, shown=False))
    drawn = epoch_batches(loop.sampling_weights, batch_size=10, seed=0, epoch=0)
    assert seen == [[face for face in batch.tolist() if face % 4 == 0] for batch in drawn]


def test_a_pool_that_teaches_nothing_has_no_student(labeled_pool: Path, tmp_path: Path) -> None:
    shutil.copytree(labeled_pool.parent / "runs", tmp_path / "runs")
    nothing = "selection={type: fixed_threshold, confidence_threshold: 1.0, guards: {on_fault: warn}}"
    config, run = load(labeled_pool, f"runs_root={tmp_path / 'runs'}", nothing)
    select(config, run, 1)
    assert not pool_teaches(config, run, 1)
    assert pool_teaches(load(labeled_pool, f"runs_root={tmp_path / 'runs'}", nothing, FIXMATCH)[0], run, 1)
    assert pool_teaches(*load(labeled_pool), 1)
    summary = finish(config, run, [RoundOutcome(1, pool_teaches=False)])
    assert summary["student"] is None
    assert "so no student was trained" in verdict(summary)


def test_with_agreement_the_control_is_the_training_without_it(labeled_pool: Path) -> None:
    config, run = load(labeled_pool, TEACHERS_NETWORK, FIXMATCH, "student.training.labeled_fraction=null")
    control = train_control(config, run, 1)
    weights = load_file(control.directory / TRAINED)
    table = read_training_table(control.directory / "training.parquet")
    assert set(table["label_source"]) == {"human"}
    student = load_file(train_student(config, run, 1).directory / TRAINED)
    assert any(not torch.equal(tensor, student[name]) for name, tensor in weights.items())
    # other guesses and other draws of them, the same control
    probabilities = sorted((run.pseudo_labels(1) / "predictions").glob("part-*.parquet"))
    assert probabilities
    again, _ = load(
        labeled_pool,
        TEACHERS_NETWORK,
        FIXMATCH.replace("0.3", "0.9"),
        "student.training.labeled_fraction=null",
        "student.draws={min_effective_share: 0.5}",
    )
    repeated = train_control(again, run, 1)
    assert repeated.skipped
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(repeated.directory / TRAINED).items())


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        ([TEACHERS_NETWORK, FIXMATCH], "teacher"),
        ([TEACHERS_NETWORK], "fresh"),
        ([FIXMATCH, "student.model.architecture=wrn10_2"], "fresh"),
        ([TEACHERS_NETWORK, "student.init=teacher"], "teacher"),
        (["student.model={architecture: resnet10t, pretrained: true}", FIXMATCH], "pretrained"),
    ],
)
def test_a_student_that_agrees_with_the_pool_starts_from_its_teacher(
    labeled_pool: Path, overrides: list[str], start: str
) -> None:
    assert load(labeled_pool, *overrides)[0].student_init == start


def test_a_start_from_the_teacher_may_freeze_as_pretrained_weights_do(labeled_pool: Path) -> None:
    frozen = "student.training.batch_norm=frozen"
    load(labeled_pool, TEACHERS_NETWORK, FIXMATCH, frozen)
    with pytest.raises(ConfigError, match="relies on pretrained weights"):
        load(labeled_pool, TEACHERS_NETWORK, frozen)


def test_the_teachers_labels_of_the_manifest_are_the_targets(
    labeled_pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainingJob] = []
    monkeypatch.setattr("ssl_pipeline.stages.train.run_job", lambda job: jobs.append(job) or run_job(job))
    share = FIXMATCH.replace("{", "{teacher_share: 0.5, ", 1)
    config, run = load(labeled_pool, TEACHERS_NETWORK, share)
    train_student(config, run, 1)
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    pool = read_faces(run.faces / "unlabeled.parquet")
    expected = dict(zip(manifest.faces["image_id"], manifest.probabilities, strict=True))
    unlabeled = jobs[0].load_faces().unlabeled
    assert unlabeled is not None
    np.testing.assert_array_equal(unlabeled.teacher, np.stack([expected[name] for name in pool["image_id"]]))


def test_the_pool_is_drawn_by_resemblance(labeled_pool: Path) -> None:
    config, run = load(labeled_pool, TEACHERS_NETWORK, FIXMATCH, "student.draws={min_effective_share: 0.5}")
    student = train_student(config, run, 1)
    draws = pd.read_parquet(run.pseudo_labels(1) / "draws" / "draws.parquet")
    assert draws["image_id"].tolist() == read_faces(run.faces / "unlabeled.parquet")["image_id"].tolist()
    assert draws["weight"].mean() == pytest.approx(1)
    assert draws["weight"].std() > 0
    assert (draws["weight"].rank() == draws["log_odds"].rank()).all()
    equally, _ = load(labeled_pool, TEACHERS_NETWORK, FIXMATCH)
    weights = load_file(student.directory / TRAINED)
    other = load_file(train_student(equally, run, 1).directory / TRAINED)
    assert any(not torch.equal(tensor, other[name]) for name, tensor in weights.items())


def test_the_teachers_weights_are_the_first_of_the_student(labeled_pool: Path) -> None:
    """With a learning rate of nearly 0, they are the last too."""
    still = "student.training.optimizer={type: sgd, learning_rate: 1.0e-12, weight_decay: 0.0}"
    settings = [TEACHERS_NETWORK, "student.init=teacher", still, "student.training.ema_decay=null"]
    config, run = load(labeled_pool, *settings)
    teacher, student = load_file(run.teacher / TRAINED), load_file(train_student(config, run, 1).directory / TRAINED)
    for name, tensor in student.items():
        if "running_" not in name and "num_batches" not in name:
            np.testing.assert_allclose(tensor.numpy(), teacher[name].numpy(), atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student.init=pretrained"], "names no pretrained weights"),
        (["student.init=fresh", "student.model={architecture: resnet10t, pretrained: true}"], "fresh contradicts"),
        (["student.training.fixmatch={attribute_weights: {agee: 0.5}}"], "no attribute 'agee'"),
        (["student.training.fixmatch={confidence_threshold: {agee: 0.5}}"], "no attribute 'agee'"),
        (
            ["student.training.fixmatch={align: {prior: {gender: {male: 1}}}}"],
            "expected a share for each of male, female",
        ),
        (["student.training.fixmatch={threshold: self_adaptive, confidence_threshold: 0.5}"], "threshold=fixed"),
    ],
)
def test_contradictions_of_a_students_start_and_agreement_are_refused(
    labeled_pool: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(labeled_pool, *overrides)
