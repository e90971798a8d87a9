"""The full cycle of several rounds over stub stages: promotion, the stop rule, what is compared and summed up."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import full_cycle as flow
from flows.operations import review
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages import cross_fit, finish, gate, predict, prepare, selection, student_labels, teachers, train
from ssl_pipeline.stages.selection import ChangedLabels
from tests.cycle_config import write_tiny_config
from tests.stages.stub_stages import StubStages

pytestmark = [pytest.mark.flows, pytest.mark.filterwarnings("ignore:Logger:UserWarning")]  # logs outside a flow run

Cycle = Callable[..., tuple[dict[str, Any], StubStages]]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs/tiny")


@pytest.fixture
def rounds_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cycle:
    """Run a cycle with this accuracy of the teacher and of each round's student."""

    def run_cycle(
        *accuracies: float, rounds: int = 3, too_few_changed_in: int | None = None, overrides: tuple[str, ...] = ()
    ) -> tuple[dict[str, Any], StubStages]:
        def accuracy(model: str) -> float:
            return accuracies[int(model.removeprefix("round-").partition("/")[0])]

        def changed_label_share(config: object, run: object, round_index: int) -> ChangedLabels:
            return ChangedLabels(round_index, 0.5, round_index != too_few_changed_in, "")

        stub = StubStages(accuracy).install(monkeypatch)
        tasks = SimpleNamespace(
            draw=lambda config: None,
            prepare=prepare.prepare,
            train_teacher=teachers.train_teacher,
            train_fold_teachers=cross_fit.train_fold_teachers,
            predict=predict.predict,
            select=selection.select,
            changed_label_share=changed_label_share,
            train_student=train.train_student,
            gate=gate.gate,
            label_pool_again=student_labels.label_pool_again,
            finish=finish.finish,
        )
        for module in (flow, review):
            monkeypatch.setattr(module, "tasks", tasks)
        monkeypatch.setattr(flow, "show", lambda make_pages: None)
        monkeypatch.setattr(flow, "announce_finished", lambda summary: None)
        path = write_tiny_config(tmp_path)
        return flow.full_cycle.fn(str(path), rounds=rounds, overrides=list(overrides)), stub

    return run_cycle


def trained_students(stub: StubStages) -> list[str]:
    return [name for name in stub.worked if name.endswith("/student")]


def test_each_promoted_student_is_the_next_rounds_teacher(rounds_of: Cycle, run: RunDir) -> None:
    summary, stub = rounds_of(0.5, 0.7, 0.8, 0.9)
    assert trained_students(stub) == [f"round-0{number}/student" for number in (1, 2, 3)]
    assert [gate["teacher"] for gate in summary["rounds"]] == [
        "round-00/teacher",
        "round-01/student",
        "round-02/student",
    ]
    assert (summary["promoted"], summary["student"]["round"]) == ("student", 3)
    records = [StageRecord.read(run.student(number)).inputs for number in (1, 2, 3)]
    assert len({record["seed"] for record in records}) == 3  # new weights in each round
    labels = [run.pseudo_labels(number) for number in (1, 2, 3, 4)]  # the last ones of the last student, for a person
    teachers = [StageRecord.read(directory / "predictions").inputs["teacher"] for directory in labels]
    checkpoints = [run.teacher, run.student(1), run.student(2), run.student(3)]
    assert teachers == [StageRecord.read(model / "calibration").outputs["../best.safetensors"] for model in checkpoints]


def test_a_student_that_is_not_promoted_ends_the_rounds_and_the_last_promoted_one_is_compared(
    rounds_of: Cycle, run: RunDir
) -> None:
    summary, stub = rounds_of(0.5, 0.8, 0.6, 0.9)
    assert trained_students(stub) == ["round-01/student", "round-02/student"]
    assert [gate["promoted"] for gate in summary["rounds"]] == [True, False]
    assert (summary["promoted"], summary["student"]["round"]) == ("student", 1)
    assert summary["promoted_checkpoint"] == str(run.student(1) / "best.safetensors")
    assert summary["student"]["test"]["accuracy"] == 0.8
    assert not (run.student(2) / "test").exists()
    assert summary["manifest"] == str(run.pseudo_labels(1) / "manifest.parquet")
    assert summary["student_labels"]["manifest"] == str(run.pseudo_labels(2) / "manifest.parquet")
    assert stub.worked.count("round-02/pseudo_labels") == 1  # the second round began with them
    assert not run.pseudo_labels(3).exists()


def test_without_a_promoted_student_the_last_one_is_compared_and_the_teacher_stays(
    rounds_of: Cycle, run: RunDir
) -> None:
    summary, stub = rounds_of(0.5, 0.4, 0.9)
    assert trained_students(stub) == ["round-01/student"]
    assert (summary["promoted"], summary["student"]["round"]) == ("teacher", 1)
    assert summary["promoted_checkpoint"] == str(run.teacher / "best.safetensors")


def test_too_few_changed_labels_end_the_rounds_before_another_student(rounds_of: Cycle, run: RunDir) -> None:
    summary, stub = rounds_of(0.5, 0.8, 0.9, 0.9, too_few_changed_in=2)
    assert trained_students(stub) == ["round-01/student"]
    assert "round-02/pseudo_labels" in stub.worked
    assert summary["changed_labels"]["round_index"] == 2
    assert (summary["promoted"], summary["student"]["round"], len(summary["rounds"])) == ("student", 1, 1)


def test_the_summary_counts_the_stages_of_this_cycle_and_no_others(rounds_of: Cycle) -> None:
    folds = ("out_of_fold={num_folds: 3}", "selection={type: fixed_threshold, confidence_threshold: 0.5}")
    longer, stub = rounds_of(0.5, 0.7, 0.8, 0.9, overrides=folds)
    assert set(longer["seconds"]) == set(stub.worked)  # a fresh run used all that worked
    assert {picture for picture in longer["pictures"] if picture.startswith("round-03/student/test")}
    shorter, stub = rounds_of(0.5, 0.7, 0.8, 0.9, rounds=1)
    assert set(shorter["seconds"]) == set(stub.worked) | set(stub.skipped)
    used = tuple(shorter["seconds"])
    first_round = ("faces", "round-00", "round-01", "round-02/pseudo_labels")
    assert not [name for name in used if "fold" in name or not name.startswith(first_round)]
    assert all(picture == "class_f1.png" or picture.startswith(used) for picture in shorter["pictures"])


def test_another_teacher_repeats_the_selection_also_where_no_shift_is_measured(rounds_of: Cycle) -> None:
    rounds_of(0.5, 0.7, rounds=1, overrides=("shift=null",))
    _, stub = rounds_of(0.5, 0.7, rounds=1, overrides=("shift=null", "teacher.training.epochs=9"))
    assert "round-01/pseudo_labels" in stub.worked


def test_the_cycle_leaves_its_config_and_status(rounds_of: Cycle, run: RunDir) -> None:
    rounds_of(0.5, 0.7, rounds=1)
    assert load_config(run.root / "config.yaml").rounds == 1
    assert '"status": "finished"' in (run.root / "run.json").read_text()
