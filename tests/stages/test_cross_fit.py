"""Fold teachers: their training faces, their out-of-fold predictions, and the use of both."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.uploads import provide_uploads
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.round_faces import RoundFaces, parts_of
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config

FOLDS = ["out_of_fold={num_folds: 3}", "teacher.training.epochs=2"]
AGREEMENT = "selection={type: ensemble_agreement, confidence_threshold: 0.5, max_deviation: 0.03}"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def labeled_pool(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> tuple[RunConfig, RunDir]:
    path = write_tiny_config(tmp_path_factory.mktemp("folds"), root=raw)
    config = load_config(path, overrides=[*FOLDS, AGREEMENT, "calibration={type: temperature, min_persons: 10}"])
    with open_run(config) as run:
        draw_and_prepare(config, run)
        train_teacher(config, run)
        train_fold_teachers(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
        select(config, run, 1)
    return config, run


def train_faces(run: RunDir) -> pd.DataFrame:
    labeled = read_faces(run.faces / "labeled.parquet")
    return labeled[labeled["split"] == "train"].reset_index(drop=True)


def fold_training_table(run: RunDir, fold: int) -> pd.DataFrame:
    return read_training_table(run.fold_teacher(fold) / "training.parquet")


def test_each_training_face_is_held_out_once_with_all_faces_of_its_person(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    _, run = labeled_pool
    faces = train_faces(run)
    held_out = [set(faces["image_id"]) - set(fold_training_table(run, fold)["image_id"]) for fold in range(3)]
    assert sorted(image_id for fold in held_out for image_id in fold) == sorted(faces["image_id"])
    people = faces.set_index("image_id")["person_id"]
    for fold, image_ids in enumerate(held_out):
        training = fold_training_table(run, fold)
        assert set(training["image_id"]) < set(faces["image_id"])  # neither validation nor test
        assert not set(people[list(image_ids)]) & set(training["person_id"])


def test_a_face_is_predicted_by_the_teacher_that_did_not_train_on_it_calibrated_on_the_other_folds(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    config, run = labeled_pool
    faces, pixels = train_faces(run), open_pixels(run.faces / "pixels.npy")
    probabilities = read_shards(run.out_of_fold, faces)
    for fold in range(3):
        held_out = ~faces["image_id"].isin(fold_training_table(run, fold)["image_id"]).to_numpy()
        plain = CheckpointPredictor.load(run.fold_teacher(fold) / "trained.safetensors", config.prediction)
        calibrated = CheckpointPredictor.load(run.out_of_fold / f"fold-{fold}.safetensors", config.prediction)
        assert plain.checkpoint.calibration is None
        assert calibrated.checkpoint.calibration is not None
        assert calibrated.checkpoint.calibration.num_faces == len(faces) - held_out.sum()
        expected = calibrated.predict(pixels, faces.loc[held_out, "pixel_row"].to_numpy(np.int64))
        np.testing.assert_allclose(probabilities[held_out], expected, atol=1e-6)
    assert (run.out_of_fold / "calibration.png").is_file()


def test_the_pool_is_labeled_by_the_mean_of_the_teachers_and_selected_by_their_deviation(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    config, run = labeled_pool
    faces = RoundFaces(config, run, 1)
    pixels = open_pixels(run.faces / "pixels.npy")
    by_teacher = np.stack(
        [
            CheckpointPredictor.load(path, config.prediction).predict(
                pixels, faces.pool["pixel_row"].to_numpy(np.int64)
            )
            for path in sorted(run.out_of_fold.glob("fold-*.safetensors"))
        ]
    )
    calibration, report = faces.mean_calibration
    assert calibration is not None
    assert calibration.num_faces == len(faces.validation)
    assert report is not None
    assert read_json(run.pseudo_labels(1) / "selection.json")["calibration"]["num_faces"] == report["num_faces"]
    expected_pool = calibration.apply(by_teacher.mean(axis=0), config.labels.space)
    np.testing.assert_allclose(faces.pool_probabilities, expected_pool, atol=1e-6)
    assert (run.pseudo_labels(1) / "calibration.png").is_file()
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    table = manifest.faces.set_index("image_id").loc[faces.pool["image_id"]]
    labels = config.labels.space
    for index, name in enumerate(labels.names):
        member_probabilities = np.stack([labels.attribute_probabilities(member)[index] for member in by_teacher])
        marginal = labels.attribute_probabilities(expected_pool)[index]
        chosen, rows = marginal.argmax(axis=1), np.arange(len(table))
        deviation = member_probabilities[:, rows, chosen].std(axis=0, ddof=1)
        accepted = (marginal.max(axis=1) >= 0.5) & (deviation <= 0.03)
        not_close = (np.abs(deviation - 0.03) > 1e-5) & (np.abs(marginal.max(axis=1) - 0.5) > 1e-5)
        assert ((table[f"{name}_status"] == "accepted").to_numpy() == accepted)[not_close].all()
        assert 0 < accepted.sum() < len(table)


GUARANTEE = "selection={type: precision_guarantee, target: 0.5, guards: {min_acceptance_rate: 0}}"


def test_a_guarantee_is_tested_on_training_faces_predicted_as_the_pool_is(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    """Each face of the pool, as each training face, is predicted by one of the fold teachers, with its calibration."""
    _, run = labeled_pool
    again = load_config(run.root / "config.yaml", overrides=[GUARANTEE, "shift=null"])
    with open_run(again):
        predict(again, run, 5, run.teacher / "best.safetensors")
        select(again, run, 5)
    faces, pixels = RoundFaces(again, run, 5), open_pixels(run.faces / "pixels.npy")
    held_out = faces.held_out
    assert held_out.name == "out-of-fold"
    np.testing.assert_array_equal(held_out.probabilities, read_shards(run.out_of_fold, train_faces(run)))
    parts = parts_of(faces.pool, 3)
    assert set(parts) == {0, 1, 2}
    for part in range(3):
        rows = faces.pool.loc[parts == part, "pixel_row"].to_numpy(np.int64)
        teacher = CheckpointPredictor.load(run.out_of_fold / f"fold-{part}.safetensors", again.prediction)
        np.testing.assert_allclose(faces.pool_probabilities[parts == part], teacher.predict(pixels, rows), atol=1e-6)
    guaranteed = read_manifest(run.pseudo_labels(5) / "manifest.parquet").selection["thresholds"]
    assert sum(row["num_held_out"] or 0 for row in guaranteed) > len(faces.validation)


def test_the_part_of_a_face_does_not_depend_on_the_others(labeled_pool: tuple[RunConfig, RunDir]) -> None:
    config, run = labeled_pool
    pool = RoundFaces(config, run, 1).pool
    assert parts_of(pool.iloc[::-1], 3).tolist() == parts_of(pool, 3)[::-1].tolist()


def test_finished_fold_teachers_are_skipped(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    config, run = labeled_pool
    with open_run(config):
        record = train_fold_teachers(config, run)
        assert record is not None
        assert record.skipped
        assert predict(config, run, 1, run.teacher / "best.safetensors").skipped
    assert sum(record.by_fold) == len(train_faces(run))


def test_fold_teachers_do_not_replace_a_teacher_of_another_run(
    labeled_pool: tuple[RunConfig, RunDir], tmp_path: Path
) -> None:
    config, run = labeled_pool
    other = tmp_path / "best.safetensors"
    other.write_bytes((run.teacher / "best.safetensors").read_bytes())
    config = config.model_copy(update={"selection": load_fixed(tmp_path).selection})
    with open_run(config):
        predict(config, run, 2, other)
    assert RoundFaces(config, run, 2).mean_calibration == (None, None)


def load_fixed(tmp_path: Path) -> RunConfig:
    return load_config(write_tiny_config(tmp_path))


def test_without_folds_the_members_are_the_views_of_a_face(labeled_pool: tuple[RunConfig, RunDir]) -> None:
    config, run = labeled_pool
    config = config.model_copy(update={"out_of_fold": None})
    with open_run(config):
        predict(config, run, 3, run.teacher / "best.safetensors")
    plain, mirrored = RoundFaces(config, run, 3).member_probabilities
    predictor = CheckpointPredictor.load(run.teacher / "best.safetensors", config.prediction)
    pixels, rows = (
        open_pixels(run.faces / "pixels.npy"),
        RoundFaces(config, run, 3).pool["pixel_row"].to_numpy(np.int64),
    )
    np.testing.assert_allclose(mirrored, predictor.by_view()[0].predict(pixels[:, :, ::-1], rows), atol=1e-5)
    assert np.abs(plain - mirrored).max() > 1e-3


def test_uploads_are_requested_while_shards_are_predicted_and_when_a_stage_ends(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    config, run = labeled_pool
    uploads: list[bool] = []
    with open_run(config), provide_uploads(uploads.append):
        predict(config, run, 4, run.teacher / "best.safetensors")
        num_requests = len(uploads)
        predict(config, run, 4, run.teacher / "best.safetensors")
    assert set(uploads) == {False, True}
    assert uploads[-1] is True
    assert len(uploads) == num_requests  # skipped stages request none


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            [GUARANTEE],
            "precision_guarantee needs labeled faces that chose nothing, and the validation faces choose the best epoch",
        ),
        (
            [GUARANTEE, "rounds=2", "out_of_fold={num_folds: 3}"],
            "after the first round the validation faces have judged the model that labels: .*, and rounds is 2; --set",
        ),
        (
            [GUARANTEE, "rounds=2", "faces.labeled.guarantee_fraction=0.2"],
            "after the first round the guarantee faces chose the thresholds of the labels that taught the student, and",
        ),
        (
            [AGREEMENT, "prediction.horizontal_flip=false"],
            "several teachers or views, got one; --set prediction",
        ),
        (
            [AGREEMENT, "prediction.horizontal_flip=false", "out_of_fold={num_folds: 3}", "rounds=2"],
            "got one after the first round",
        ),
        (["out_of_fold={num_folds: 1}"], "greater than or equal to 2|at least 2"),
    ],
)
def test_contradictory_settings_are_refused_before_any_work(tmp_path: Path, overrides: list[str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load_config(write_tiny_config(tmp_path), overrides=overrides)


def test_with_too_few_faces_the_teachers_stay_uncalibrated_and_the_record_states_why(
    labeled_pool: tuple[RunConfig, RunDir],
) -> None:
    config, run = labeled_pool
    few = config.calibration.model_copy(update={"min_persons": 10_000})
    with open_run(config):
        record = train_fold_teachers(config.model_copy(update={"calibration": few}), run)
    assert record is not None
    num_persons = train_faces(run)["person_id"].nunique()
    assert record.calibration == {
        "refused": f"{num_persons} persons with training faces are fewer than calibration.min_persons 10000"
    }
    assert record.pictures == ()
    assert (
        CheckpointPredictor.load(run.out_of_fold / "fold-0.safetensors", config.prediction).checkpoint.calibration
        is None
    )
