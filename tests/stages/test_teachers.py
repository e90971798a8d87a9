"""Several teachers: a network, heads on features of three kinds, and their vote as one model of a run."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import CheckpointError, FaceTableError, RunError
from ssl_pipeline.evaluation.resemblance import labeled_log_odds
from ssl_pipeline.faces.feature_table import write_feature_table
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.learning.checkpoint import load_checkpoint
from ssl_pipeline.learning.embedders import Embedder
from ssl_pipeline.learning.hub import HubWeights
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.reports.comparison import comparison_markdown, members_sentence, verdict
from ssl_pipeline.reports.plots import SCORE_PICTURES
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_text
from ssl_pipeline.runs.status import StageStatus, run_status
from ssl_pipeline.stages import teachers as stage
from ssl_pipeline.stages.check import find_faults
from ssl_pipeline.stages.cost import measure_cost
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import Training, train_student
from tests.cycle_config import TINY, draw_and_prepare, write_tiny_config
from tests.learning.tiny_onnx import write_mean_color

pytest.importorskip("cv2")

NETWORK = {"model": TINY["teacher"]["model"], "training": TINY["teacher"]["training"] | {"epochs": 1}, "weight": 2}
IN_FP32 = {"shard_size": 40, "precision": "fp32"}


def vectors_of(faces: pd.DataFrame) -> np.ndarray:
    """Features that a user could bring: the known age, and noise."""
    noise = np.random.default_rng(0).normal(size=(len(faces), 3))
    noise[:, 0] += faces["age_years"].fillna(40).to_numpy(float)
    return noise.astype(np.float32)


def faces_of(run: RunDir) -> pd.DataFrame:
    return pd.concat([read_faces(run.faces / f"{name}.parquet") for name in ("labeled", "unlabeled")])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDir]:
    """A run with its faces and the files of teachers: a folder with a config, and the run."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "frozen.safetensors")
    write_mean_color(folder / "mean.onnx", size=16)
    path = write_tiny_config(
        folder,
        prediction=IN_FP32,
        calibration={"type": "temperature", "min_persons": 10},
        teacher=[
            NETWORK,
            {
                "type": "frozen",
                "architecture": "test_resnet",
                "weights_file": str(folder / "frozen.safetensors"),
                "image_size": 32,
            },
            {"type": "onnx", "name": "colors", "file": str(folder / "mean.onnx"), "image_size": 16, "mirror": False},
            {"type": "features", "file": str(folder / "mine.parquet")},
        ],
    )
    config = load_config(path)
    run = RunDir(config.runs_root / "tiny")
    draw_and_prepare(config, run)  # before the check of the table of features, which does not exist yet
    faces = faces_of(run)
    write_feature_table(folder / "mine.parquet", {"image_id": faces["image_id"].tolist()}, vectors_of(faces))
    return path, run


def no_pictures(directory: Path, *_: object, **__: object) -> None:
    for name in SCORE_PICTURES:
        (directory / name).touch()


@pytest.fixture(scope="module")
def trained(prepared: tuple[Path, RunDir]) -> tuple[RunConfig, RunDir]:
    config = load_config(prepared[0])

    with pytest.MonkeyPatch.context() as patch, open_run(config) as run:
        patch.setattr("ssl_pipeline.stages.evaluate.plot_scores", no_pictures)
        patch.setattr("ssl_pipeline.stages.calibrate.plot", lambda *_, **__: None)
        model = train_teacher(config, run)
        assert list(model.members) == ["network", "frozen", "colors", "features", "vote"]
        assert model.kept_metric == model.members["vote"]["macro_f1"]
        predict(config, run, 1, run.teacher / "best.safetensors")
        select(config, run, 1)
    return config, run


@pytest.fixture
def copied(trained: tuple[RunConfig, RunDir], tmp_path: Path) -> tuple[RunConfig, RunDir]:
    shutil.copytree(trained[1].root, tmp_path / "tiny")
    return trained[0].model_copy(update={"runs_root": tmp_path}), RunDir(tmp_path / "tiny")


def predictor(config: RunConfig, path: Path) -> CheckpointPredictor:
    return CheckpointPredictor.load(path, config.prediction, device="cpu")


def test_the_vote_is_the_weighted_mean_of_its_members_on_the_runs_faces(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    pixels, rows = open_pixels(run.faces / "pixels.npy"), np.arange(0, 60, 7)
    alone = [
        predictor(config, run.members(run.teacher) / name / "trained.safetensors").predict(pixels, rows)
        for name in config.named_teachers
    ]
    vote = predictor(config, run.teacher / "trained.safetensors").predict(pixels, rows)
    np.testing.assert_allclose(vote, np.average(alone, axis=0, weights=[2, 1, 1, 1]), atol=1e-5)
    assert all(np.abs(one - other).max() > 0.02 for n, one in enumerate(alone) for other in alone[n + 1 :])


def test_the_pool_is_labeled_by_the_calibrated_vote(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    pool = read_faces(run.faces / "unlabeled.parquet")
    vote = predictor(config, run.teacher / "best.safetensors")
    assert vote.checkpoint.calibration is not None
    got = read_shards(run.pseudo_labels(1) / "predictions", pool)
    expected = vote.predict(open_pixels(run.faces / "pixels.npy"), pool["pixel_row"].to_numpy())
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_head_learns_from_the_features_of_the_users_table(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    alone = {
        name: read_json(run.members(run.teacher) / name / "validation/scores.json") for name in config.named_teachers
    }
    assert alone["features"]["per_attribute"]["age"]["accuracy"] > 0.9  # the table tells the age
    assert alone["features"]["per_attribute"]["gender"]["accuracy"] < 0.9


def test_features_of_the_runs_faces_are_computed_once(
    trained: tuple[RunConfig, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = trained
    pixels, rows = open_pixels(run.faces / "pixels.npy"), np.arange(9)
    for name in ("frozen", "colors"):
        head = predictor(config, run.members(run.teacher) / name / "best.safetensors")
        stored = head.predict(pixels, rows)
        np.testing.assert_allclose(stored, head.predict(np.array(pixels[rows]), rows), atol=1e-4)  # computed anew
    monkeypatch.setattr(Embedder, "forward", lambda *_: pytest.fail("features were computed again"))
    predictor(config, run.teacher / "best.safetensors").predict(pixels, rows)


def test_without_a_table_the_vote_predicts_new_images_and_with_one_it_says_why_not(
    trained: tuple[RunConfig, RunDir], prepared: tuple[Path, RunDir], tmp_path: Path
) -> None:
    config, run = trained
    faces = {24: np.array(open_pixels(run.faces / "pixels.npy")[:4])}
    with pytest.raises(CheckpointError, match="a teacher of type features cannot predict new images"):
        SoftVote.load([run.teacher / "best.safetensors"], config.prediction, device="cpu").predict_sizes(faces)
    heads = [run.members(run.teacher) / name / "best.safetensors" for name in ("frozen", "colors")]
    (prepared[0].parent / "frozen.safetensors").rename(tmp_path / "gone.safetensors")  # checkpoints are whole
    try:
        got = SoftVote.load(heads, config.prediction, device="cpu").predict_sizes(faces)
    finally:
        (tmp_path / "gone.safetensors").rename(prepared[0].parent / "frozen.safetensors")
    assert got.shape == (4, 4)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


def test_a_cycle_ends_with_the_teachers_scores_beside_the_votes(
    copied: tuple[RunConfig, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = copied
    monkeypatch.setattr("ssl_pipeline.stages.evaluate.plot_scores", no_pictures)
    monkeypatch.setattr("ssl_pipeline.stages.finish.plot_class_f1", lambda *_, **__: None)
    student = train_student(config, run, 1)
    decided = gate(config, run, 1, run.teacher)
    summary = finish(config, run, [RoundOutcome(1, student=student, gate=decided)])
    assert list(summary["members"]) == list(config.named_teachers)
    assert (
        summary["members"]["frozen"]["accuracy"]
        == read_json(run.members(run.teacher) / "frozen/validation/scores.json")["accuracy"]
    )
    assert {"features/frozen", "round-00/teacher/members/colors", "round-00/teacher"} <= set(summary["seconds"])
    vote, network = summary["costs"]["teacher"], summary["costs"]["student"]
    assert (vote["num_models"], network["num_models"]) == (4, 1)
    assert vote["num_bytes"] == (run.teacher / "best.safetensors").stat().st_size > network["num_bytes"]
    assert vote["faces_per_second"] is None  # a member of type features
    assert network["faces_per_second"] > 0
    assert {"round-00/teacher/cost", "round-01/student/cost"} <= set(summary["seconds"])
    text = verdict(summary)
    assert "the vote is 4 models of " in text and "MB, cannot predict new images (a teacher of type features" in text
    assert " accurate on test." in text
    assert "| not of new images |" in comparison_markdown(summary)
    assert members_sentence(summary).startswith("Teachers on validation, accuracy in %: network ")
    assert "| features | " in comparison_markdown(summary)
    assert [stage.name for stage in run_status_stages(config, run)][1:6] == [
        *(f"round-00/teacher/members/{name}" for name in config.named_teachers),
        "round-00/teacher",
    ]


def test_the_speed_of_a_vote_includes_its_features_and_is_measured_once(
    copied: tuple[RunConfig, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = copied
    head = run.members(run.teacher) / "frozen"
    seen, forward = [], Embedder.forward
    monkeypatch.setattr(Embedder, "forward", lambda self, faces: seen.append(len(faces)) or forward(self, faces))
    measured = measure_cost(config, run, head)
    assert measured["faces_per_second"] > 0
    assert len(seen) >= 2 and set(seen) == {22}  # all validation faces, warmed up
    assert measure_cost(config, run, head) == measured
    backbone = timm.create_model("test_resnet", num_classes=0)
    num_values = 4  # of gender and age, with a bias each
    expected = sum(parameter.numel() for parameter in backbone.parameters()) + num_values * (backbone.num_features + 1)
    assert measured["num_parameters"] == expected
    assert measure_cost(config, run, run.members(run.teacher) / "colors")["num_parameters"] is None


def run_status_stages(config: RunConfig, run: RunDir) -> list[StageStatus]:
    write_text(run.root / "config.yaml", dump_config(config))
    return list(run_status(run.root).stages)


def worked(config: RunConfig, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The stages that train_teacher does not skip, besides calibration and evaluation."""
    monkeypatch.setattr(stage, "calibrate", lambda *_, **__: SimpleNamespace(report=None, pictures=()))
    monkeypatch.setattr(stage, "evaluate", lambda *_: SimpleNamespace(scores={"macro_f1": 0.5}))
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("done.json")}
    train_teacher(config, run)
    after = {path: path.stat().st_mtime_ns for path in run.root.rglob("done.json")}
    return {str(path.parent.relative_to(run.root)) for path, time in after.items() if before.get(path) != time}


@pytest.mark.parametrize(
    ("override", "repeated"),
    [
        ("seed=0", set()),
        ("teacher.2.weight=3", {"round-00/teacher"}),
        ("teacher.1.inverse_regularization=1", {"round-00/teacher", "round-00/teacher/members/frozen"}),
        ("teacher.3.class_balanced=false", {"round-00/teacher", "round-00/teacher/members/features"}),
        ("teacher.2.mean=[0,0,0]", {"features/colors", "round-00/teacher/members/colors", "round-00/teacher"}),
        ("teacher.1.center_crop=0.5", {"features/frozen", "round-00/teacher/members/frozen", "round-00/teacher"}),
    ],
)
def test_a_changed_key_repeats_what_depends_on_it(
    copied: tuple[RunConfig, RunDir],
    prepared: tuple[Path, RunDir],
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    repeated: set[str],
) -> None:
    _, run = copied
    config = load_config(prepared[0], overrides=[override])
    assert worked(config, run, monkeypatch) == repeated
    assert worked(config, run, monkeypatch) == set()


def test_edited_features_are_not_used(copied: tuple[RunConfig, RunDir]) -> None:
    config, run = copied
    features = run.features / "frozen/features.npy"
    np.save(features, np.load(features) + 1)
    with pytest.raises(RunError, match=r"features\.npy: changed since the stage finished"):
        predictor(config, run.teacher / "best.safetensors").predict(open_pixels(run.faces / "pixels.npy"), np.arange(3))


def test_a_student_starts_from_the_network_among_the_teachers_and_draws_by_its_heads(
    copied: tuple[RunConfig, RunDir], prepared: tuple[Path, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = copied
    same = f"student={{model: {TINY['teacher']['model']}, init: teacher, draws: {{}}}}".replace("'", "")
    config = load_config(prepared[0], overrides=[same, "student.training.epochs=1"])
    seen: list[Training] = []
    monkeypatch.setattr("ssl_pipeline.stages.train.train_model", lambda *args: seen.append(args[3]))
    train_student(config, run, 1)
    (training,) = seen
    assert training.start == run.members(run.teacher) / "network" / "trained.safetensors"
    draws = pd.read_parquet(run.pseudo_labels(1) / "draws" / "draws.parquet")
    assert training.draws == run.pseudo_labels(1) / "draws" / "draws.parquet"
    pool, labeled = (read_faces(run.faces / f"{name}.parquet") for name in ("unlabeled", "labeled"))
    labeled = labeled[labeled["split"].isin(["train", "validation"])]
    features = np.load(run.features / "frozen/features.npy")
    expected = labeled_log_odds(
        features[pool["pixel_row"]],
        features[labeled["pixel_row"]],
        units=independent_units(pd.concat([pool, labeled])),
        seed=config.seed,
    )
    np.testing.assert_allclose(draws["log_odds"], expected)


def test_faces_that_the_users_table_lacks_are_counted(copied: tuple[RunConfig, RunDir], tmp_path: Path) -> None:
    _, run = copied
    faces = faces_of(run).iloc[3:]
    file = tmp_path / "few.parquet"
    write_feature_table(file, {"image_id": faces["image_id"].tolist()}, vectors_of(faces))
    config = copied[0].model_copy(update={"teacher": (copied[0].teachers[3].model_copy(update={"file": file}),)})
    with pytest.raises(
        FaceTableError, match=r"few\.parquet: no features of 3 of \d+ faces of the run, e\.g\. image_id home:"
    ):
        train_teacher(config, run)


def test_disagreement_counts_each_teacher(copied: tuple[RunConfig, RunDir], prepared: tuple[Path, RunDir]) -> None:
    _, run = copied
    path = prepared[0]
    overrides = ["selection={type: ensemble_agreement, confidence_threshold: 0.5}", "teacher.0.weight=1"]
    config = load_config(path, overrides=overrides)
    assert config.num_members(1) == 4
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    pool, directory = read_faces(run.faces / "unlabeled.parquet"), run.pseudo_labels(1) / "predictions"
    members = [read_shards(directory / name, pool) for name in config.named_teachers]
    assert all(np.abs(one - other).max() > 0.02 for n, one in enumerate(members) for other in members[n + 1 :])


def test_heads_are_trained_without_each_fold(copied: tuple[RunConfig, RunDir], prepared: tuple[Path, RunDir]) -> None:
    _, run = copied
    config = load_config(prepared[0], overrides=["out_of_fold={num_folds: 2}"])
    fitted = train_fold_teachers(config, run)
    assert fitted is not None and fitted.num_faces == sum(fitted.by_fold)
    votes = [load_checkpoint(run.out_of_fold / f"fold-{fold}.safetensors") for fold in range(2)]
    heads = [vote.model.state_dict()["models.3.weights"] for vote in votes]
    assert not torch.equal(*heads)
    assert not (run.root / "features/network").exists()


def test_one_teacher_that_is_no_network_is_a_vote_of_one(copied: tuple[RunConfig, RunDir]) -> None:
    config, run = copied
    config = config.model_copy(update={"teacher": config.teachers[2], "shift": None})
    model = train_teacher(config, run)
    alone = predictor(config, run.members(run.teacher) / "colors" / "best.safetensors")
    pixels, rows = open_pixels(run.faces / "pixels.npy"), np.arange(5)
    np.testing.assert_array_equal(
        predictor(config, model.checkpoint).predict_uncalibrated(pixels, rows), alone.predict_uncalibrated(pixels, rows)
    )


def test_what_the_teachers_lack_is_said_before_work(prepared: tuple[Path, RunDir], tmp_path: Path) -> None:
    config = load_config(
        prepared[0],
        overrides=[
            "teacher.1.architecture=no_such_network",
            "teacher.2.input_name=wrong",
            f"teacher.3.file={tmp_path / 'absent.parquet'}",
        ],
    )
    faults = find_faults(config)
    assert [fault.partition(":")[0] for fault in faults] == ["'teacher.1'", "'teacher.2'", "'teacher.3'"]


def test_pretrained_weights_that_are_not_to_be_had_are_said_before_work(
    prepared: tuple[Path, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: HubWeights) -> None:
        raise CheckpointError("no such weights; --set pretrained=false, or set weights_file to the file")

    monkeypatch.setattr(HubWeights, "check", refuse)
    frozen = "teacher=[{type: frozen, architecture: test_resnet.r160_in1k}]"
    assert find_faults(load_config(prepared[0], overrides=[frozen])) == [
        "'teacher.0': no such weights; set weights_file to the file"  # features of random weights are refused
    ]


class Packing(Exception):
    """All members are trained."""


def test_a_seed_differs_between_networks_that_vote(
    prepared: tuple[Path, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Packing

    seeds = []
    monkeypatch.setattr(stage, "train_model", lambda config, teacher, run, training, table: seeds.append(training.seed))
    monkeypatch.setattr(stage, "_pack", stop)
    config = load_config(prepared[0])
    config = config.model_copy(update={"teacher": (config.teachers[0], config.teachers[0])})
    with pytest.raises(Packing):
        train_teacher(config, prepared[1])
    assert len(set(seeds)) == 2
