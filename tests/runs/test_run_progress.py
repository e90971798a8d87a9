"""The position of a run among its stages, and the time left, which is measured or not told."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.runs import run_progress as module
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.runs.plan import FaceCounts, planned_stages
from ssl_pipeline.runs.progress import report
from ssl_pipeline.runs.records import run_stage
from ssl_pipeline.runs.run_progress import RunProgress, follow_run, run_progress
from ssl_pipeline.stages import expectations
from ssl_pipeline.stages.expectations import estimate_seconds
from tests.cycle_config import write_tiny_config

STEPS = (
    "teacher.training={steps: 100, batch_size: 10, optimizer: {type: adamw}}",
    "student={model: {architecture: wrn10_1}, training: {steps: 50, batch_size: 20, labeled_fraction: 0.4}}",
    "control=true",
)
"""1,000 faces through the teacher, 1,000 through the student, 400 through the control."""


def tiny(directory: Path, *overrides: str) -> tuple[RunConfig, RunDir]:
    config = load_config(write_tiny_config(directory), overrides=[*STEPS, *overrides])
    return config, RunDir(config.runs_root / config.run_name)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    yield clock


def work(directory: Path, *, before: bool = False) -> None:
    """A stage that does nothing, or that has finished before."""
    for _ in range(2 if before else 1):
        run_stage(directory, version=1, inputs={}, outputs=[], work=dict)


def test_each_stage_is_announced_once_with_its_position(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, run = tiny(tmp_path)
    for directory in (run.faces, run.teacher):
        work(directory)  # finished before
    labels = run.pseudo_labels(1)
    with caplog.at_level(logging.INFO, logger=module.__name__), follow_run(lambda: planned_stages(config, run)):
        for directory in (
            run.faces,
            run.teacher,
            labels / "held_out",
            labels / "shift",
            labels / "predictions",
            labels,
        ):
            work(directory)
        work(labels / "draws")
        work(run.student(1))
        run_progress().begin(run.student(1) / "gate.json")
        work(run.teacher / "validation")  # the gate's
        work(run.control(1))
    assert [record.getMessage() for record in caplog.records if record.name == module.__name__] == [
        "Stage 3 of 10: label the pool",
        "Stage 4 of 10: select labels",
        "Stage 5 of 10: train the student",
        "Stage 6 of 10: compare the student with its teacher",
        "Stage 7 of 10: train the control",
    ]


def test_stages_that_are_not_needed_drop_out(tmp_path: Path) -> None:
    """No label was accepted in round 1 of 3; later, a student that its gate did not promote."""
    config, run = tiny(tmp_path, "rounds=3")
    progress = RunProgress(lambda: planned_stages(config, run))
    for directory in (run.faces, run.teacher, run.pseudo_labels(1) / "predictions", run.pseudo_labels(1)):
        progress.begin(directory)
    assert progress.words == "stage 4 of 18"
    progress.begin(run.summary)
    assert progress.words == "stage 5 of 5"

    progress = RunProgress(lambda: planned_stages(config, run))
    for directory in (run.faces, run.teacher, run.pseudo_labels(1) / "predictions", run.pseudo_labels(1)):
        progress.done(directory)
    progress.begin(run.student(1))
    write_json(run.student(1) / "done.json", {})
    progress.begin(run.student(1) / "gate.json")
    write_json(run.student(1) / "gate.json", {"promoted": False})
    progress.begin(run.control(1))
    assert progress.words == "stage 7 of 10"


def test_the_time_left_is_told_when_it_is_measured(tmp_path: Path, clock: Clock) -> None:
    config, run = tiny(tmp_path)
    write_json(run.faces / "done.json", {"result": {"labeled": {"train": 60}, "unlabeled": 600}})
    with follow_run(lambda: planned_stages(config, run)):
        progress = run_progress()
        progress.begin(run.teacher)
        assert progress.seconds_left is None
        report("teacher", 0.1)  # the first steps warm up
        clock.now = 2.0
        report("teacher", 0.2)
        assert progress.words == "stage 1 of 9"  # too short to count
        clock.now = 40.0
        report("teacher", 0.5)  # 400 faces in 40 s: 0.1 s a face
        # 500 faces of the teacher, 1,000 of the student, 400 of the control, twice 1,200 views at a third of the time
        assert progress.seconds_left == pytest.approx(50 + 100 + 40 + 2 * 40)
        assert progress.words == "stage 1 of 9, about 4 minutes left"
        progress.done(run.teacher)
        predictions = run.pseudo_labels(1) / "predictions"
        progress.begin(predictions)
        assert progress.seconds_left == pytest.approx(100 + 40 + 2 * 40)
        report("labeling", 0.5)
        clock.now = 50.0
        report("labeling", 0.75)  # 300 views in 10 s; so are the student's labels of the pool
        assert progress.seconds_left == pytest.approx(10 + 100 + 40 + 40)
        for directory in (predictions, run.student(1), run.control(1), run.summary):
            progress.begin(directory)
        assert progress.words == "stage 5 of 5"  # the rest was not measured


def test_nothing_is_told_about_a_network_that_has_not_worked(tmp_path: Path, clock: Clock) -> None:
    for override in ("student.model.architecture=wrn16_2", "student.training={epochs: 3}"):
        config, run = tiny(tmp_path, override)
        write_json(run.faces / "done.json", {"result": {"labeled": {"train": 60}, "unlabeled": 600}})
        progress = RunProgress(lambda: planned_stages(config, run))  # noqa: B023 - used in this pass
        progress.begin(run.teacher)
        progress.update(0)
        clock.now += 10
        progress.update(0.5)
        assert progress.seconds_left is None


def test_predictions_by_fold_teachers_are_parts_of_one_stage(tmp_path: Path, clock: Clock) -> None:
    config, run = tiny(tmp_path, "out_of_fold={num_folds: 4}", "control=false")
    write_json(run.faces / "done.json", {"result": {"labeled": {"train": 60}, "unlabeled": 600}})
    predictions = run.pseudo_labels(1) / "predictions"
    progress = RunProgress(lambda: planned_stages(config, run))
    progress.done(predictions / "fold-0")
    progress.begin(predictions / "fold-1")
    assert progress.words == "stage 1 of 7"
    progress.update(0.2)
    clock.now = 30.0
    progress.update(0.8)  # from 0.3 to 0.45 of 4,800 views
    assert progress.seconds_left is None  # a prediction does not tell how long the student's training takes
    progress.done(run.student(1))
    assert progress.seconds_left == pytest.approx(30 / (0.15 * 4800) * 1200)  # the student's labels, by one network


def test_a_damaged_gate_does_not_stop_a_run(tmp_path: Path) -> None:
    config, run = tiny(tmp_path, "rounds=2")
    write_json(run.student(1) / "done.json", {})
    (run.student(1) / "gate.json").write_text("{")
    progress = RunProgress(lambda: planned_stages(config, run))
    progress.begin(run.faces)
    assert progress.words == "stage 1 of 14"


def test_an_estimate_before_the_run_counts_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = tiny(tmp_path)
    monkeypatch.setattr("ssl_pipeline.stages.expectations._seconds_per_face", lambda role, config: 0.1)
    faces = [
        stage.work.num_faces for stage in planned_stages(config, run, FaceCounts(60, 60, 600)) if stage.work is not None
    ]
    assert faces == [1000, 1200, 1000, 400, 1200]
    assert estimate_seconds(config, num_train=60, num_pool=600) == pytest.approx(100 + 100 + 40 + 2 * 40)


def test_an_estimate_leaves_out_the_backward_pass_of_frozen_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[torch.nn.Module] = []

    def build(*args: Any, **options: Any) -> torch.nn.Module:
        models.append(build_model(*args, **options))
        return models[-1]

    monkeypatch.setattr(expectations, "build_model", build)
    frozen = "{optimizer: {type: adamw, frozen_layers: 2}, steps: 1, batch_size: 4, precision: fp32}"
    teacher = f"teacher={{model: {{architecture: resnet10t, pretrained: true}}, training: {frozen}}}"
    config, _ = tiny(tmp_path, teacher)
    estimate_seconds(config, num_train=60, num_pool=600)
    shares = [sum(own.grad is not None for own in model.parameters()) / len([*model.parameters()]) for model in models]
    assert len(shares) == 2 and 0 < shares[0] < shares[1] == 1


@pytest.mark.parametrize("error", [RunError("no room"), KeyboardInterrupt()])
def test_a_run_is_followed_until_it_ends(tmp_path: Path, error: BaseException) -> None:
    config, run = tiny(tmp_path)
    with pytest.raises(type(error)), follow_run(lambda: planned_stages(config, run)):
        run_progress().begin(run.faces)
        assert run_progress().words
        raise error
    assert run_progress().words == ""
