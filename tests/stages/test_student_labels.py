"""The compared student labels the pool once more: its manifest, its guarantee, and what changed since the teacher's."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.checkpoint import digest_checkpoint
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.reports.comparison import comparison_markdown, student_labels_sentence
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.student_labels import label_pool_again
from ssl_pipeline.stages.train import train_student
from tests.cycle_config import label_the_pool, write_tiny_config

Finished = tuple[Path, RunDir]


def load(path: Path, *overrides: str) -> RunConfig:
    epochs = ("teacher.training.epochs=2", "student.training.epochs=2", "selection.guards.one_class=false")
    return load_config(path, overrides=[*epochs, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A tiny run whose student is trained and has labeled the pool; its config file."""
    path = write_tiny_config(tmp_path_factory.mktemp("labels"))
    config = load(path)
    run = RunDir(config.runs_root / config.run_name)
    label_the_pool(config, run)
    train_student(config, run, 1)
    assert label_pool_again(config, run, 1) is not None
    return path, run


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Finished:
    shutil.copytree(finished[1].root, tmp_path / "tiny")
    return finished[0], RunDir(tmp_path / "tiny")


def test_the_manifest_holds_what_the_student_says_of_every_face(finished: Finished) -> None:
    config, run = load(finished[0]), finished[1]
    labels = label_pool_again(config, run, 1)
    assert labels is not None
    manifest, pool = read_manifest(labels.manifest), read_faces(run.faces / "unlabeled.parquet")
    student = run.student(1) / "best.safetensors"
    assert manifest.identity.teacher_digest == digest_checkpoint(student)
    predicted = CheckpointPredictor.load(student, config.prediction, device="cpu").predict(
        open_pixels(run.faces / "pixels.npy"), pool["pixel_row"].to_numpy(np.int64)
    )
    order = pd.Index(manifest.faces["image_id"]).get_indexer(pd.Index(pool["image_id"]))
    np.testing.assert_allclose(manifest.probabilities[order], predicted, atol=1e-5)
    own = read_json(labels.manifest.with_name("selection.json"))
    assert (own["counts"], own["precision"]) == (labels.counts, labels.precision)
    assert labels.counts["accepted"] > 0


def test_changes_since_the_teachers_labels_are_counted_and_judged_by_the_hidden_truth(finished: Finished) -> None:
    run, labels = finished[1], label_pool_again(load(finished[0]), finished[1], 1)
    assert labels is not None
    teacher, student = (
        read_manifest(run.pseudo_labels(number) / "manifest.parquet").faces.set_index("image_id") for number in (1, 2)
    )
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id").loc[teacher.index]
    student = student.loc[teacher.index]
    for name in ("gender", "age"):
        own = labels.difference["per_attribute"][name]
        old, new = (table[f"{name}_status"] == "accepted" for table in (teacher, student))
        other = teacher[name].astype(str) != student[name].astype(str)
        right = [table[name].astype(str) == truth[name].astype(str) for table in (teacher, student)]
        for kind, rows in {"changed": old & new & other, "gained": ~old & new, "lost": old & ~new}.items():
            expected = int((rows & right[0] & old).sum()), int((rows & right[1] & new).sum())
            assert own[kind] == own["right"][kind]["num"] == rows.sum()
            assert (own["right"][kind]["before"], own["right"][kind]["after"]) == expected
        assert own["other_value"] == other.sum() > 0
        assert own["right"]["other_value"] == {
            "num": other.sum(),
            "before": (other & right[0]).sum(),
            "after": (other & right[1]).sum(),
        }


def test_the_summary_the_page_and_the_commands_show_them(copied: Finished) -> None:
    config, run = load(copied[0]), copied[1]
    labels = label_pool_again(config, run, 1)
    summary = finish(config, run, [RoundOutcome(1, gate=gate(config, run, 1, run.teacher))], labels)
    path = str(run.pseudo_labels(2) / "manifest.parquet")
    own = summary["student_labels"]
    assert (own["student"], own["round_index"], own["manifest"]) == (1, 2, path)
    assert summary["manifest"] == str(run.pseudo_labels(1) / "manifest.parquet")
    assert {"round-02/pseudo_labels", "round-02/pseudo_labels/predictions"} <= set(summary["seconds"])
    sentence = student_labels_sentence(summary)
    accepted = own["counts"]["accepted"]
    assert sentence.startswith(
        f"The student of round 1 labels the pool once more: {accepted} of 100 candidates accepted."
    )
    assert sentence.endswith(path)
    page = comparison_markdown(summary)
    assert f"| {own['difference']['per_attribute']['age']['other_value']} (" in page
    assert f"| gender | {100 * own['precision']['gender']['precision']:.1f} | " in page
    for command in (["diff", summary["manifest"], path], ["summary", path], ["show", path]):
        shown = CliRunner().invoke(app, ["manifest", *command], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.output
        assert ("right of" in shown.output) == (command[0] == "diff")


def test_they_are_not_made_twice_and_the_next_round_begins_with_them(copied: Finished) -> None:
    config, run = load(copied[0], "rounds=2"), copied[1]
    record = (run.pseudo_labels(2) / "done.json").read_bytes()
    assert predict(config, run, 2, run.student(1) / "best.safetensors").skipped
    assert select(config, run, 2).skipped
    label_pool_again(config, run, 1)
    assert (run.pseudo_labels(2) / "done.json").read_bytes() == record


def test_faces_that_judged_the_student_guarantee_nothing_of_its_labels(copied: Finished) -> None:
    guarantee = ["out_of_fold={num_folds: 2}", "selection={type: precision_guarantee, target: 0.3, delta: 0.4}"]
    config, run = load(copied[0], *guarantee, "shift=null"), copied[1]
    predict(config, run, 2, run.student(1) / "best.safetensors")
    (fault,) = select(config, run, 2).faults
    assert "the guarantee is withheld, nothing is accepted: the validation faces have judged the model" in fault
    manifest = read_manifest(run.pseudo_labels(2) / "manifest.parquet")
    assert not manifest.accepted.any()
    assert {row["note"] for row in manifest.selection["thresholds"]} <= {
        f"withheld, {config.guarantee_withheld('validation', 2)}",
        "no candidates",
    }


@pytest.mark.parametrize(
    ("student", "holds"),
    [
        ("student.training.fixmatch=null", False),
        ("student.training.fixmatch={pseudo_labels: true}", False),
        ("student.training.fixmatch={pseudo_labels: false}", True),
    ],
)
def test_guarantee_faces_guarantee_a_students_labels_if_they_did_not_choose_what_it_learned(
    finished: Finished, student: str, holds: bool
) -> None:
    config = load(finished[0], student, "faces.labeled.guarantee_fraction=0.2", "selection={type: precision_guarantee}")
    assert not config.guarantee_withheld("guarantee", 1)
    assert (not config.guarantee_withheld("guarantee", 2)) == holds


def test_a_guard_stops_the_training_on_the_students_labels_and_not_the_labels(copied: Finished) -> None:
    config, run = load(copied[0], "selection.confidence_threshold=1.0"), copied[1]
    predict(config, run, 2, run.student(1) / "best.safetensors")
    assert "accepted 0 of 100" in select(config, run, 2).faults[0]
    with pytest.raises(SelectionError, match="accepted 0 of 100"):
        train_student(config, run, 2)


def test_views_that_one_network_does_not_have_are_not_asked_for(
    copied: Finished, caplog: pytest.LogCaptureFixture
) -> None:
    agreement = [
        "selection={type: ensemble_agreement}",
        "prediction.horizontal_flip=false",
        "out_of_fold={num_folds: 2}",
    ]
    assert label_pool_again(load(copied[0], *agreement), copied[1], 1) is None
    assert "its student does not label the pool: ensemble_agreement needs several views" in caplog.text
