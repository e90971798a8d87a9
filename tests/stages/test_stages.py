"""The stages in order, without a flow: outputs, skipping, errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from scipy.stats import binomtest
from typer.testing import CliRunner

from ssl_pipeline import Predictor
from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import CheckpointError, ManifestError, PipelineError, RunError, SelectionError
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.hub_folder import write_hub_folder
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.reports.comparison import verdict
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from tests.bad_inputs import OF_RUNS, write_folders
from tests.cycle_config import draw_and_prepare, label_the_pool, write_tiny_config


def run_round(config: RunConfig, run: RunDir) -> RoundOutcome:
    """Run all stages of one round."""
    label_the_pool(config, run)
    train_student(config, run, 1)
    return RoundOutcome(1, gate=gate(config, run, 1, run.teacher))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> tuple[RunConfig, RunDir, dict[str, Any]]:
    config = load_config(write_tiny_config(tmp_path_factory.mktemp("finished"), root=raw))
    with open_run(config) as run:
        summary = finish(config, run, [run_round(config, run)])
    return config, run, summary


def test_the_summary_has_scores_counts_and_environment(finished: tuple[RunConfig, RunDir, dict[str, Any]]) -> None:
    config, run, summary = finished
    assert json.loads(run.summary.read_text()) == summary
    assert summary["status"] == "finished"
    assert summary["promoted"] in ("teacher", "student")
    for role in ("teacher", "student"):
        for split in ("validation", "test"):
            scores = summary[role][split]
            assert 0 <= scores["macro_f1"] <= 1
            assert set(scores["per_attribute"]) == {"gender", "age"}
            assert {"accuracy", "macro_f1", "log_loss"} <= set(scores["per_attribute"]["age"])
            assert 0 < scores["per_attribute"]["age"]["mean_absolute_error"] < 60  # years
            assert scores["per_attribute"]["age"]["num_numbers"] == scores["num_faces"]
            assert "mean_absolute_error" not in scores["per_attribute"]["gender"]
            assert "confusion_matrix" not in scores  # only in scores.json
            assert {"gender", "age"} <= set(scores["per_group"])
    counts = summary["counts"]
    assert counts["labeled"] == 90
    assert counts["test"] == 30
    assert counts["candidates"] == 100 == counts["accepted"] + counts["rejected"] + counts["unreadable"]
    assert summary["seed"] == config.seed
    assert {"round-00/teacher", "round-01/student", "faces"} <= set(summary["seconds"])
    assert summary["versions"]["torch"]
    assert json.loads((run.root / "run.json").read_text())["status"] == "finished"


def test_the_summary_lists_every_picture_of_the_run(finished: tuple[RunConfig, RunDir, dict[str, Any]]) -> None:
    _, run, summary = finished
    split_pictures = [
        f"{split}/{name}.png" for split in ("validation", "test") for name in ("confusion", "reliability", "class_f1")
    ]
    models = ("round-00/teacher", "round-01/student")
    expected = ["class_f1.png", *(f"{model}/{name}" for model in models for name in ("curves.png", *split_pictures))]
    assert sorted(summary["pictures"]) == sorted(expected)
    assert all((run.root / name).read_bytes().startswith(b"\x89PNG") for name in expected)
    assert sorted(expected) == sorted(str(path.relative_to(run.root)) for path in run.root.rglob("*.png"))


def test_scores_on_disk_have_the_tables_behind_the_plots(
    finished: tuple[RunConfig, RunDir, dict[str, Any]],
) -> None:
    _, run, summary = finished
    scores = json.loads((run.student(1) / "test" / "scores.json").read_text())
    num_faces = summary["student"]["test"]["num_faces"]
    assert sum(map(sum, scores["confusion_matrix"]["counts"])) == num_faces
    assert sum(row["num_faces"] for row in scores["reliability"]) == num_faces


def test_the_evaluate_command_gives_the_scores_and_plots_of_the_stage(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    _, run, _ = finished
    model, written = ["--checkpoint", str(run.teacher / "best.safetensors")], tmp_path / "scores.json"
    outputs = ["--out", str(written), "--pictures", str(tmp_path / "pictures")]
    result = CliRunner().invoke(app, ["evaluate", *model, "--config", str(run.root / "config.yaml"), *outputs])
    assert result.exit_code == 0, result.output
    assert "ROC-AUC" in result.output
    assert json.loads(written.read_text()) == json.loads((run.teacher / "test" / "scores.json").read_text())
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3


def test_the_gate_promotes_the_model_that_is_surely_better_on_validation(
    finished: tuple[RunConfig, RunDir, dict[str, Any]],
) -> None:
    _, run, summary = finished
    decision = json.loads((run.student(1) / "gate.json").read_text())
    better = summary["student"]["validation"]["macro_f1"] > summary["teacher"]["validation"]["macro_f1"]
    sure = decision["comparison"]["overall"]["probability"] >= 0.8 and not decision["comparison"]["regressions"]
    assert decision["promoted"] == (better and sure) == (summary["promoted"] == "student")


def test_validation_and_test_faces_never_reach_training(finished: tuple[RunConfig, RunDir, dict[str, Any]]) -> None:
    _, run, _ = finished
    labeled = read_faces(run.faces / "labeled.parquet")
    held_out = labeled[labeled["split"] != "train"]
    training = read_training_table(run.student(1) / "training.parquet")
    for column in ("image_id", "content_hash", "person_id"):
        assert not set(held_out[column]) & set(training[column])
    assert set(labeled[labeled["split"] == "train"]["image_id"]) <= set(training["image_id"])


def test_hidden_labels_reach_no_table_that_training_reads(
    finished: tuple[RunConfig, RunDir, dict[str, Any]],
) -> None:
    _, run, summary = finished
    pool = read_faces(run.faces / "unlabeled.parquet")
    assert pool[["gender", "age", "age_years"]].isna().all().all()
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
    assert truth[["gender", "age"]].notna().all().all()
    assert summary["precision"] is not None


def test_every_stage_is_skipped_the_second_time(finished: tuple[RunConfig, RunDir, dict[str, Any]]) -> None:
    config, run, _ = finished
    assert all(
        record.skipped
        for record in (
            draw_and_prepare(config, run),
            train_teacher(config, run),
            predict(config, run, 1, run.teacher / "best.safetensors"),
            select(config, run, 1),
            train_student(config, run, 1),
            evaluate(config, run, run.student(1), "test"),
        )
    )


def test_the_same_seed_gives_the_same_bytes_in_another_folder(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path, raw: Path
) -> None:
    config = load_config(write_tiny_config(tmp_path, root=raw))
    with open_run(config) as run:
        run_round(config, run)
    for name in (
        "faces/labeled.parquet",
        "faces/pixels.npy",
        "round-00/teacher/best.safetensors",
        "round-01/pseudo_labels/manifest.parquet",
        "round-01/student/best.safetensors",
        "round-01/student/curves.png",
        "round-01/student/validation/scores.json",
        "round-01/student/validation/confusion.png",
    ):
        assert (run.root / name).read_bytes() == (finished[1].root / name).read_bytes(), name


def copy_of(finished: tuple[RunConfig, RunDir, dict[str, Any]], directory: Path, *overrides: str) -> Any:
    """Copy a finished run and change its config."""
    run = RunDir(directory / "runs" / "tiny")
    shutil.copytree(finished[1].root, run.root)
    return load_config(run.root / "config.yaml", overrides=[f"runs_root={run.root.parent}", *overrides]), run


def test_a_changed_selection_repeats_only_the_stages_that_depend_on_it(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    config, run = copy_of(finished, tmp_path, "selection.confidence_threshold=0.5")
    assert train_teacher(config, run).skipped
    assert predict(config, run, 1, run.teacher / "best.safetensors").skipped
    assert not select(config, run, 1).skipped
    assert not train_student(config, run, 1).skipped


def test_more_loading_processes_and_larger_prediction_batches_repeat_no_stage(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    config, run = copy_of(finished, tmp_path, "teacher.training.save_every_steps=7", "prediction.batch_size=50")
    assert train_teacher(config, run).skipped
    assert predict(config, run, 1, run.teacher / "best.safetensors").skipped


def test_a_selection_that_the_guards_refuse_has_no_student_and_the_teacher_is_the_result(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    config, run = copy_of(finished, tmp_path, "selection.confidence_threshold=1.0")
    selected = select(config, run, 1)
    assert selected.refused and select(config, run, 1).refused  # skipped, and still refused
    with pytest.raises(SelectionError) as error:
        train_student(config, run, 1)
    assert f"SelectionError: {error.value}" == OF_RUNS["a student of a selection that keeps too little"]
    summary = finish(config, run, [RoundOutcome(1, refused=selected.faults)])
    assert (summary["promoted"], summary["student"], summary["refused"]) == ("teacher", None, [str(error.value)])
    assert set(summary["teacher"]) == {"validation"}
    words = verdict(summary)
    assert words.startswith(
        f"The guards refused these pseudo-labels, so no student was trained on them: {error.value}."
    )
    assert "There is no student: the teacher stays, and the test split was not used." in words
    scores = summary["teacher"]["validation"]
    accuracy = f"gender {100 * scores['per_attribute']['gender']['accuracy']:.1f} %"
    assert f"accuracy on {scores['num_faces']} validation faces: {accuracy}, " in words
    assert finished[2]["refused"] == [] and "refused" not in verdict(finished[2])


def test_the_cards_say_what_the_records_say(finished: tuple[RunConfig, RunDir, dict[str, Any]]) -> None:
    _, run, summary = finished
    card, data = ((run.root / name).read_text(encoding="utf-8") for name in ("model_card.md", "data_card.md"))
    scores = summary[summary["promoted"]]["test"]
    assert f"## Scores on {scores['num_faces']} test faces, which were used once" in card
    assert f"| gender | {100 * scores['per_attribute']['gender']['accuracy']:.1f} %" in card
    female = scores["per_group"]["gender"]["female"]
    right = round(female["accuracy"] * female["num_faces"])
    wilson = binomtest(right, female["num_faces"]).proportion_ci(method="wilson")
    assert (
        f"| gender female | {female['num_faces']} | {100 * female['accuracy']:.1f} % ({100 * wilson.low:.1f} to {100 * wilson.high:.1f}) |"
        in card
    )
    assert summary["promoted_checkpoint"] in card and "age (&lt;45, &gt;=45)" in card
    assert "| home | drawn | labeled | 120 | 120 | 0 | 0 |" in data
    assert f"train {summary['counts']['train']}, validation {summary['counts']['validation']}" in data


def test_the_folder_for_a_hub_predicts_like_the_run_and_names_no_path_of_this_machine(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    config, run, summary = finished
    out = tmp_path / "hub"
    result = CliRunner().invoke(app, ["export", str(run.root), "--to", "hub", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json", "README.md", "data_card.md"}
    faces = [np.array(pixels) for pixels in open_pixels(run.faces / "pixels.npy")[:4]]
    pd.testing.assert_frame_equal(
        Predictor(out, device="cpu").predict(faces), Predictor(run.root, device="cpu").predict(faces)
    )
    card = ModelCard.load(out / "README.md")  # the hub's own reader
    assert card.data.eval_results[0].metric_value == pytest.approx(
        summary[summary["promoted"]]["test"]["accuracy"], abs=1e-4
    )
    assert read_json(out / "config.json")["labels"] == config.labels.space.to_dict()
    for name in ("README.md", "config.json", "data_card.md"):
        assert str(run.root) not in (out / name).read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match="not empty"):
        write_hub_folder(run, out)
    with pytest.raises(CheckpointError, match="not a finished run"):
        write_hub_folder(RunDir(tmp_path / "none"), tmp_path / "other")


def test_a_fault_with_on_fault_warn_is_recorded_and_the_round_continues(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    config, run = copy_of(finished, tmp_path, "selection.confidence_threshold=1.0", "selection.guards.on_fault=warn")
    selected = select(config, run, 1)
    faults = selected.faults
    assert not selected.refused and faults[0].startswith("accepted 0 of 100 candidates")
    assert read_json(run.pseudo_labels(1) / "selection.json")["selection"]["faults"] == list(faults)
    outcome = RoundOutcome(1, gate=gate(config, run, 1, run.teacher))
    assert finish(config, run, [outcome])["selection_faults"] == list(faults)
    assert finished[2]["selection_faults"] == []


def test_a_guarantee_under_strong_shift_is_withheld_and_every_record_says_so(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guarantee = ["selection={type: precision_guarantee, target: 0.5, delta: 0.3}", "shift.strong_auc=0.51"]
    config, run = copy_of(finished, tmp_path, "out_of_fold={num_folds: 2}", *guarantee)
    train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    with caplog.at_level("WARNING"):
        selected = select(config, run, 1)
    shift = read_json(run.pseudo_labels(1) / "shift.json")
    assert shift["auc"] >= 0.51 and shift["strong"] and (shift["num_pool"], shift["num_validation"]) == (100, 22)
    assert "the guarantee is withheld under strong shift" in shift["words"] and shift["words"] in caplog.text
    assert selected.refused
    assert selected.faults == (
        f"the guarantee is withheld, nothing is accepted: {shift['separability']}; to select without a guarantee: "
        "--set selection.type=fixed_threshold",
    )
    marked = read_json(run.pseudo_labels(1) / "selection.json")["selection"]["shift"]
    assert marked["words"] == shift["words"] and marked["strong"]
    assert not read_manifest(run.pseudo_labels(1) / "manifest.parquet").accepted.any()


def test_the_shift_report_counts_predictions_and_acceptance_by_group(
    finished: tuple[RunConfig, RunDir, dict[str, Any]],
) -> None:
    _, run, _ = finished
    shift = read_json(run.pseudo_labels(1) / "shift.json")
    assert shift["predictions"]["gender"]["mix"]["male"]["pool"] == pytest.approx(
        1 - shift["predictions"]["gender"]["mix"]["female"]["pool"], abs=1e-3
    )
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
    groups = shift["acceptance"]["gender"]
    assert {value: group["num_faces"] for value, group in groups.items()} == truth["gender"].value_counts().to_dict()
    accepted = read_manifest(run.pseudo_labels(1) / "manifest.parquet").accepted
    assert sum(group["num_accepted"] for group in groups.values()) == accepted.sum() > 0


def test_without_the_shift_section_nothing_is_measured_or_marked(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    assert (finished[1].pseudo_labels(1) / "shift.json").is_file()
    config, run = copy_of(finished, tmp_path, "shift=null")
    (run.pseudo_labels(1) / "shift" / "done.json").unlink()
    assert predict(config, run, 1, run.teacher / "best.safetensors").skipped
    select(config, run, 1)
    assert not (run.pseudo_labels(1) / "shift.json").exists()
    assert not (run.pseudo_labels(1) / "shift" / "done.json").exists()
    assert read_json(run.pseudo_labels(1) / "selection.json")["selection"]["shift"] is None


def test_a_manifest_of_another_run_is_refused(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path, raw: Path
) -> None:
    config = load_config(write_tiny_config(tmp_path, root=raw), overrides=["seed=9"], run_name="other")
    with open_run(config) as run:
        draw_and_prepare(config, run)
        manifest = finished[1].pseudo_labels(1) / "manifest.parquet"
        with pytest.raises(ManifestError) as error:
            train_student(config, run, 1, manifest)
    assert f"ManifestError: {error.value}" == OF_RUNS["a manifest of another run"].replace("{manifest}", str(manifest))


def test_a_checkpoint_of_other_labels_or_another_size_is_refused(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path
) -> None:
    teacher = finished[1].teacher / "best.safetensors"
    config, run = copy_of(finished, tmp_path, "labels.attributes.0.values=[female, male]")
    draw_and_prepare(config, run)
    with pytest.raises(CheckpointError, match="the checkpoint has other labels"):
        predict(config, run, 1, teacher)
    config, run = copy_of(finished, tmp_path / "size", "faces.image_size=32")
    draw_and_prepare(config, run)
    with pytest.raises(CheckpointError, match=r"trained on faces of 24 pixels, faces\.image_size is 32"):
        predict(config, run, 1, teacher)


def test_skipping_predictions_loads_no_model_but_needs_its_file(
    finished: tuple[RunConfig, RunDir, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointPredictor, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    config, run = copy_of(finished, tmp_path)
    teacher = run.teacher / "best.safetensors"
    assert predict(config, run, 1, teacher).skipped
    teacher.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        predict(config, run, 1, teacher)


def test_a_run_in_use_is_refused_and_a_failed_run_records_its_error(tmp_path: Path, raw: Path) -> None:
    config = load_config(write_tiny_config(tmp_path, root=raw))
    with open_run(config) as run, pytest.raises(RunError, match="is working in this run"), open_run(config):
        pass
    with pytest.raises(PipelineError), open_run(config) as run:
        raise PipelineError("no faces today")
    status = json.loads((run.root / "run.json").read_text())
    assert (status["status"], status["error"]) == ("failed", "no faces today")


def test_training_a_student_before_the_faces_are_prepared_is_refused(tmp_path: Path, raw: Path) -> None:
    config = load_config(write_tiny_config(tmp_path, root=raw))
    with (
        open_run(config) as run,
        pytest.raises(RunError, match="faces: this stage has not finished; prepare the faces"),
    ):
        train_student(config, run, 1)


def test_a_changed_table_of_corrections_prepares_the_faces_again(tmp_path: Path) -> None:
    write_folders(tmp_path)
    table = tmp_path / "raw/fix.csv"
    table.write_text("image_id,attribute,value\nlabeled:male/<45/0.png,gender,female\n")
    config = load_config(tmp_path / "config.yaml", overrides=["faces.corrections=fix.csv"])
    run = RunDir(tmp_path / "run")
    assert not draw_and_prepare(config, run).skipped
    assert draw_and_prepare(config, run).skipped
    table.write_text(table.read_text().replace("female", "male"))
    record = draw_and_prepare(config, run)
    assert not record.skipped
    assert record.counts["corrections"]["values_changed"] == 0


def test_preparing_says_what_became_of_every_file_of_the_pool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folders(tmp_path)
    pool, labeled = tmp_path / "raw" / "pool", sorted((tmp_path / "raw" / "labeled").rglob("*.png"))
    num_before = len(list(pool.rglob("*.png")))
    for number in range(3):
        shutil.copy(labeled[number], pool / f"copy-{number}.png")
    (pool / "notes.txt").write_text("x")
    (pool / "broken.png").write_bytes(b"x")
    config = load_config(tmp_path / "config.yaml")
    run = RunDir(tmp_path / "run")
    with caplog.at_level("INFO"):
        counts = prepare(config, run).counts
    removed = sum(counts["leakage"].values())
    assert removed >= 3
    assert (
        f"pool: {num_before + 3 - removed} of {num_before + 5} files found; 1 unusable, 1 no images, "
        f"{removed} removed, see faces/leakage.csv"
    ) in caplog.text
    splits = counts["labeled"]
    assert (
        f"labeled faces: {splits['train']} train, {splits['validation']} validation, {splits['test']} test"
        in caplog.text
    )
    caplog.clear()
    with caplog.at_level("INFO"):
        prepare(config, run)
    assert "files found" not in caplog.text
