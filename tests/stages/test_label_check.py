"""The label check lists flipped labels of training and validation faces, and its table corrects them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.faces.sources.corrections import Corrections
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.label_check import check_labels, find_label_errors, held_out_probabilities
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config

LABELS = LabelSpace.of({"gender": ["male", "female"]})


def trained(directory: Path, *overrides: str) -> tuple[RunConfig, RunDir]:
    config = load_config(write_tiny_config(directory), overrides=["teacher.training.epochs=1", *overrides])
    with open_run(config) as run:
        draw_and_prepare(config, run)
        train_teacher(config, run)
        train_fold_teachers(config, run)
    return config, run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    return trained(tmp_path_factory.mktemp("plain"))


def test_no_test_face_is_listed_and_each_row_is_a_label_that_differs(run: tuple[RunConfig, RunDir]) -> None:
    check = check_labels(*run)
    labeled = read_faces(run[1].faces / "labeled.parquet").set_index("image_id")
    assert len(check.table) and set(check.table["split"]) == {"train", "validation"}
    assert (labeled.loc[check.table["image_id"], "split"].to_numpy() == check.table["split"]).all()
    assert (check.table["label"] != check.table["likely_label"]).all()
    for row in check.table.itertuples():
        assert labeled.loc[row.image_id, row.attribute] == row.label
    assert check.table["score"].is_monotonic_increasing
    num_listed = labeled["split"].isin(["train", "validation"]).sum()
    assert check.result["per_attribute"]["age"]["num_labels"] == num_listed
    assert check_labels(*run).skipped


def test_out_of_fold_predictions_judge_the_training_faces(tmp_path: Path) -> None:
    config, run = trained(tmp_path, "out_of_fold={num_folds: 2}")
    faces, probabilities, _ = held_out_probabilities(config, run)
    train = faces[faces["split"] == "train"]
    expected = config.labels.space.attribute_probabilities(read_shards(run.out_of_fold, train))
    for own, other in zip(probabilities, expected, strict=True):
        np.testing.assert_array_equal(own[: len(train)], other)


def test_a_run_without_a_teacher_is_refused(tmp_path: Path) -> None:
    config = load_config(write_tiny_config(tmp_path))
    with open_run(config) as run:
        draw_and_prepare(config, run)
    with pytest.raises(RunError, match="train the teacher first: ssl-pipeline run"):
        check_labels(config, run)


def test_a_wrong_label_comes_first_and_a_contradicting_copy_before_it() -> None:
    faces = pd.DataFrame(
        {
            "image_id": ["s:a", "s:b", "s:c", "s:d", "s:e"],
            "picture_id": ["1", "2", "3", "4", "4"],
            "split": "train",
            "gender": ["male", "male", "female", "male", "female"],
        }
    )
    probabilities = np.array([[0.9, 0.1], [0.05, 0.95], [0.4, 0.6], [0.8, 0.2], [0.7, 0.3]])
    table, per_attribute = find_label_errors(faces, [probabilities], LABELS)
    assert table[["image_id", "label", "likely_label", "kind"]].to_numpy().tolist() == [
        ["s:e", "female", "male", "copy"],
        ["s:b", "male", "female", "prediction"],
    ]
    assert table["reason"].tolist() == [
        "the same picture as s:d, which is labeled male",
        "predicted female with 0.95, male with 0.05",
    ]
    assert per_attribute["gender"]["num_labels"] == 5


def test_the_command_writes_a_table_that_corrections_read(run: tuple[RunConfig, RunDir], tmp_path: Path) -> None:
    config, directory = run
    out = tmp_path / "suspects.csv"
    result = CliRunner().invoke(app, ["labels", "check", str(directory.root), "--out", str(out), "-n", "3"])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(directory.label_errors)
    assert f"3 of {len(table):,} labels" in result.output and "test faces are never listed" in " ".join(
        result.output.split()
    )
    corrections = Corrections.read([out], config.labels)
    assert [(row.id, row.attribute, row.value) for row in corrections.rows] == [
        (row.image_id, row.attribute, row.likely_label) for row in table.itertuples()
    ]
    labeled = read_faces(directory.faces / "labeled.parquet")
    faces = labeled.assign(min_age_years=labeled["age_years"], max_age_years=labeled["age_years"]).astype(
        {"gender": object, "age": object}
    )
    corrected = corrections.apply(faces, config.labels)
    assert corrected.counts.num_changed >= len(table) and min(corrected.counts.num_faces) == 1


def test_an_output_that_is_no_csv_is_refused(run: tuple[RunConfig, RunDir], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["labels", "check", str(run[1].root), "--out", str(tmp_path / "x.txt")])
    assert isinstance(result.exception, FaceTableError) and "ends with .csv" in str(result.exception)
