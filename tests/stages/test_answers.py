"""People's answers in the next training: human labels that no guess overwrites, and only what rests on them works again."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.reports.comparison import comparison_markdown
from ssl_pipeline.runs.answers import append_answers
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.answers import ABSENT, JUDGES, MISFIT, RunAnswers
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.launch import TrainingJob, run_job
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import pool_teaches, train_control, train_student
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.runs.test_answers import answer
from tests.stages.stub_stages import LABELS, StubStages, run_cycle

FIXMATCH = ("student.training.fixmatch={confidence_threshold: 0.3, targets: soft}", "student.training.ema_decay=0.9")
Trained = tuple[RunConfig, RunDir]


def load(path: Path, runs: Path, *overrides: str) -> Trained:
    short = ("teacher.training.epochs=2", "student.training.epochs=1", "control=true")
    loose = ("selection.guards.on_fault=warn", f"runs_root={runs}")
    config = load_config(path, overrides=[*short, *loose, *overrides])
    return config, RunDir(config.runs_root / config.run_name)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with a teacher and the pool labeled."""
    path = write_tiny_config(tmp_path_factory.mktemp("answers"))
    config, run = load(path, path.parent / "runs")
    draw_and_prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    select(config, run, 1)
    return path


@pytest.fixture
def labeled_pool(config_file: Path, tmp_path: Path) -> Path:
    shutil.copytree(config_file.parent / "runs", tmp_path / "runs")
    return config_file


def give(run: RunDir, faces: pd.DataFrame, attribute: str, value: str | None, *, who: str = "ann") -> None:
    """Let a person label (None: reject) an attribute of some faces."""
    decision = "reject" if value is None else "label"
    named = {"attribute": attribute, "content_hash": ""}
    append_answers(
        run.answers,
        [answer(who, decision, value, **named | {"content_hash": content}) for content in faces["content_hash"]],
    )


def undo(run: RunDir, faces: pd.DataFrame, attribute: str, *, who: str = "ann") -> None:
    append_answers(
        run.answers, [answer(who, "undo", attribute=attribute, content_hash=one) for one in faces["content_hash"]]
    )


def guessed(run: RunDir, name: str) -> tuple[pd.DataFrame, str]:
    """The faces of the pool with the value that the teacher most often gives an attribute, and the other value."""
    faces = read_manifest(run.pseudo_labels(1) / "manifest.parquet").faces
    faces = faces[faces[f"{name}_status"] == "accepted"]
    value, *others = faces[name].value_counts().index
    pool = read_faces(run.faces / "unlabeled.parquet")
    return pool[pool["image_id"].isin(faces[faces[name] == value]["image_id"])], str(others[0])


def share_of(rows: pd.DataFrame, name: str, value: str) -> list[float]:
    """The share of a value in each row's target."""
    position = LABELS.names.index(name)
    classes = LABELS.class_codes[:, position] == LABELS.attributes[position].values.index(value)
    return np.stack(rows["target"])[:, classes].sum(axis=1).round(5).tolist()


def labeled(run: RunDir, split: str, name: str, value: str) -> pd.DataFrame:
    faces = read_faces(run.faces / "labeled.parquet")
    return faces[(faces["split"] == split) & (faces[name] == value)]


def table_of(directory: Path) -> pd.DataFrame:
    return read_training_table(directory / "training.parquet").set_index("image_id")


def test_a_correction_is_a_human_label_of_the_student_and_not_of_its_control(
    labeled_pool: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, run = load(labeled_pool, tmp_path / "runs")
    train_student(config, run, 1)
    train_control(config, run, 1)
    before = {name: (run.root / name / "done.json").read_bytes() for name in ("round-00/teacher", "round-01/control")}
    pool, other = guessed(run, "gender")
    pool, train = pool[:3], labeled(run, "train", "age", "<45")[:2]
    give(run, pool, "gender", other)
    give(run, labeled(run, "train", "gender", "male")[:4], "gender", "male")  # confirms: nothing changes
    with caplog.at_level(logging.INFO):
        student, control = train_student(config, run, 1), train_control(config, run, 1)
    assert (student.skipped, control.skipped) == (False, True)
    assert student.answers == {"faces": 3, "labeled": 3, "corrected": 0, "left_out": 0}
    assert "round-01/student: works again, as something changed: answers" in caplog.text
    rows = table_of(run.student(1)).loc[pool["image_id"]]
    assert rows["known_gender"].all() and (rows["weight_gender"] == 1).all()
    assert share_of(rows, "gender", other) == [1, 1, 1]
    assert {name: (run.root / name / "done.json").read_bytes() for name in before} == before

    give(run, train, "age", ">=45")
    student, control = train_student(config, run, 1), train_control(config, run, 1)
    assert (student.skipped, control.skipped) == (False, False)
    assert control.answers == {"faces": 2, "labeled": 0, "corrected": 2, "left_out": 0}
    for directory in (run.student(1), run.control(1)):
        rows = table_of(directory).loc[train["image_id"]]
        assert (rows["label_source"] == "human").all()
        assert share_of(rows, "age", ">=45") == [1, 1]
    outcome = RoundOutcome(1, student=student, gate=gate(config, run, 1, run.teacher))
    summary = finish(config, run, [outcome])
    assert summary["answers"] == {"faces": 5, "labeled": 3, "corrected": 2, "left_out": 0}
    sentence = "people's answers about 5 faces: 3 labels of the pool, 2 corrected labels of labeled faces"
    assert sentence in comparison_markdown(summary)
    assert (sentence in (run.root / "model_card.md").read_text()) == (summary["promoted"] == "student")


def test_an_undone_answer_changes_nothing(labeled_pool: Path, tmp_path: Path) -> None:
    config, run = load(labeled_pool, tmp_path / "runs")
    train_student(config, run, 1)
    record = StageRecord.read(run.student(1))
    faces, other = guessed(run, "age")
    give(run, faces[:2], "age", other)
    assert RunAnswers.read(config, run).digest is not None
    undo(run, faces[:2], "age")
    assert RunAnswers.read(config, run) == RunAnswers()
    assert train_student(config, run, 1).skipped
    assert StageRecord.read(run.student(1)).inputs == record.inputs


def test_two_who_differ_leave_a_label_out_until_a_third(labeled_pool: Path, tmp_path: Path) -> None:
    config, run = load(labeled_pool, tmp_path / "runs")
    face = guessed(run, "gender")[0][:1]
    (content,) = face["content_hash"]
    give(run, face, "gender", "male")
    give(run, face, "gender", "female", who="bob")
    assert RunAnswers.read(config, run).pool == {content: {"gender": None}}
    give(run, face, "gender", "female", who="cho")
    assert RunAnswers.read(config, run).pool == {content: {"gender": "female"}}
    train_student(config, run, 1)
    assert table_of(run.student(1)).loc[face["image_id"].item(), "known_gender"]


def test_answers_bound_the_targets_of_agreement_with_the_pool(
    labeled_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainingJob] = []
    monkeypatch.setattr("ssl_pipeline.stages.train.run_job", lambda job: jobs.append(job) or run_job(job))
    config, run = load(labeled_pool, tmp_path / "runs", *FIXMATCH)
    (corrected, other), (rejected, _) = guessed(run, "gender"), guessed(run, "age")
    corrected = corrected[:2]
    rejected = rejected[~rejected["image_id"].isin(corrected["image_id"])][:2]
    give(run, corrected, "gender", other)
    give(run, rejected, "age", None)
    train_student(config, run, 1)
    unlabeled, pool = jobs[0].load_faces().unlabeled, read_faces(run.faces / "unlabeled.parquet")
    assert unlabeled is not None and unlabeled.left_out is not None
    is_corrected, is_rejected = (pool["image_id"].isin(faces["image_id"]) for faces in (corrected, rejected))
    np.testing.assert_array_equal(unlabeled.codes[:, 0], np.where(is_corrected, ["male", "female"].index(other), -1))
    np.testing.assert_array_equal(unlabeled.left_out, np.stack([np.zeros(len(pool)), is_rejected], axis=1))
    table = table_of(run.student(1))
    assert set(table["label_source"]) == {"human"}
    rows = table.loc[corrected["image_id"]]  # the labeled faces of each batch come from here
    assert rows["known_gender"].all() and not rows["known_age"].any()
    control = train_control(config, run, 1)
    assert not set(pool["image_id"]) & set(table_of(control.directory).index)


def test_the_next_round_keeps_the_answer_whatever_its_teacher_guesses(labeled_pool: Path, tmp_path: Path) -> None:
    config, run = load(labeled_pool, tmp_path / "runs", "selection.confidence_threshold=0.5", "rounds=2")
    select(config, run, 1)
    faces, other = guessed(run, "gender")
    faces = faces[:5]
    give(run, faces, "gender", other)
    train_student(config, run, 1)
    predict(config, run, 2, run.student(1) / "best.safetensors")
    select(config, run, 2)
    own = read_manifest(run.pseudo_labels(2) / "manifest.parquet").faces.set_index("image_id")
    assert set(own.loc[faces["image_id"], "gender_status"]) <= {"accepted", "rejected"}  # guessed as any other
    train_student(config, run, 2)
    rows = table_of(run.student(2)).loc[faces["image_id"]]
    assert rows["known_gender"].all() and (rows["weight_gender"] == 1).all()
    assert share_of(rows, "gender", other) == [1] * 5


def test_faces_that_judge_are_never_relabeled_and_a_warning_says_so(
    labeled_pool: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, run = load(labeled_pool, tmp_path / "runs")
    for split in ("validation", "test"):
        give(run, labeled(run, split, "gender", "male")[:2], "gender", "female")
    append_answers(run.answers, [answer(content_hash="elsewhere"), answer(attribute="mask", content_hash="x")])
    answers = RunAnswers.read(config, run)
    assert (answers.labels, answers.unused) == ({}, {JUDGES: 4, ABSENT: 1, MISFIT: 1})
    train_student(config, run, 1)
    assert "answers about 6 labels are not used: 4 on faces of the validation, guarantee or test split" in caplog.text
    assert f"ssl-pipeline answers export {run.root} --out corrections.csv" in caplog.text


def test_answers_alone_can_teach_and_rejections_can_leave_nothing(labeled_pool: Path, tmp_path: Path) -> None:
    strict = ("selection.confidence_threshold=1.0",)
    config, run = load(labeled_pool, tmp_path / "runs", *strict)
    select(config, run, 1)
    assert not pool_teaches(config, run, 1)
    give(run, read_faces(run.faces / "unlabeled.parquet")[:1], "gender", "male")
    assert pool_teaches(config, run, 1)
    config, run = load(labeled_pool, tmp_path / "runs")
    select(config, run, 1)
    for name in config.labels.space.names:
        give(run, read_faces(run.faces / "unlabeled.parquet"), name, None, who="bob")
    undo(run, read_faces(run.faces / "unlabeled.parquet")[:1], "gender")
    assert not pool_teaches(config, run, 1)


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunConfig, RunDir, StubStages]]:
    config = load_config(write_tiny_config(tmp_path), overrides=["student.draws={}"])
    stub = StubStages().install(monkeypatch)
    run = RunDir(config.runs_root / "tiny")
    run_cycle(config, run)
    stub.worked.clear()
    yield config, run, stub


def test_only_the_student_and_what_follows_work_again(stubbed: tuple[RunConfig, RunDir, StubStages]) -> None:
    config, run, stub = stubbed
    give(run, read_faces(run.faces / "unlabeled.parquet")[:1], "gender", "female")
    run_cycle(config, run)
    student = "round-01/student"
    assert stub.worked == [student, *(f"{student}/{part}" for part in ("calibration", "validation", "test"))]
    with_answer = StageRecord.read(run.student(1)).inputs
    give(run, read_faces(run.faces / "unlabeled.parquet")[:1], "gender", "female", who="bob")  # agrees
    stub.worked.clear()
    run_cycle(config, run)
    assert (stub.worked, StageRecord.read(run.student(1)).inputs) == ([], with_answer)


def test_records_of_runs_without_answers_name_none(stubbed: tuple[RunConfig, RunDir, StubStages]) -> None:
    _, run, _ = stubbed
    assert "answers" not in StageRecord.read(run.student(1)).inputs


def test_the_digest_is_of_what_people_say_and_not_of_who_said_it_when(
    stubbed: tuple[RunConfig, RunDir, StubStages],
) -> None:
    config, run, _ = stubbed
    pool = read_faces(run.faces / "unlabeled.parquet")
    give(run, pool[:2], "gender", "female")
    give(run, pool[2:3], "age", None)
    first = RunAnswers.read(config, run)
    run.answers.unlink()
    give(run, pool[2:3], "age", None, who="cho")
    give(run, pool[1::-1], "gender", "female", who="dan")
    assert RunAnswers.read(config, run) == first
    assert first.digest == digest_of([first.pool, first.train])
