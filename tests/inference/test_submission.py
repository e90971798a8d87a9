"""Submissions: rows in the order of info.csv, failed images, and the command's exit codes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.cli import main as cli
from ssl_pipeline.config.cropping import CropRules
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.inference.submission import predict_submission
from ssl_pipeline.learning.checkpoint import save_checkpoint
from tests.learning.prediction_support import predictor, random_model, save_random_model, write_images

NAMES = ["c0ffee.jpg", "000123.jpg", "ab.cd.png", "fe.jpeg", "0a.PNG"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "best.safetensors")


@pytest.fixture
def faces(tmp_path: Path) -> dict[str, np.ndarray]:
    return write_images(tmp_path / "images", NAMES, seed=3)


def write_info(path: Path, image_ids: list[str]) -> Path:
    path.write_text("ImageID,ans\n" + "".join(f"{image_id},0\n" for image_id in image_ids))
    return path


def class_ids(checkpoint: Path, faces: dict[str, np.ndarray], names: list[str]) -> list[int]:
    pixels = np.stack([faces[name] for name in names])
    ids: list[int] = predictor(checkpoint).predict(pixels, np.arange(len(names))).argmax(axis=1).tolist()
    return ids


def test_a_submission_has_the_rows_of_info_in_its_order(
    checkpoint: Path, faces: dict[str, np.ndarray], tmp_path: Path
) -> None:
    image_ids = ["fe.png", "000123", "0a.png", "ab.cd", "c0ffee.jpg", "000123.jpg"]  # found by their stem
    files = ["fe.jpeg", "000123.jpg", "0a.PNG", "ab.cd.png", "c0ffee.jpg", "000123.jpg"]
    info = write_info(tmp_path / "info.csv", image_ids)
    counts = predict_submission(predictor(checkpoint), tmp_path / "images", info, tmp_path / "out.csv")
    assert (counts.num_read, counts.num_filled) == (6, 0)
    expected = class_ids(checkpoint, faces, files)
    assert len(set(expected)) > 1
    lines = [f"{image_id},{class_id}" for image_id, class_id in zip(image_ids, expected, strict=True)]
    assert (tmp_path / "out.csv").read_bytes().decode() == "\n".join(["ImageID,ans", *lines]) + "\n"
    assert not (tmp_path / "out.failed.csv").exists()


def test_missing_and_unreadable_images_stop_a_submission(
    checkpoint: Path, faces: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    info = write_info(tmp_path / "info.csv", ["fe.jpeg", "absent.jpg", "../info.csv"])
    with pytest.raises(FaceTableError) as refusal:
        predict_submission(predictor(checkpoint), tmp_path / "images", info, out)
    assert "2 images cannot be read; no submission is written" in str(refusal.value)
    assert "absent.jpg: no such image in" in str(refusal.value)
    assert "../info.csv: lies outside" in str(refusal.value)

    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    info = write_info(tmp_path / "info.csv", ["fe.jpeg", "broken.jpg"])
    with pytest.raises(FaceTableError, match=r"1 image cannot be read.*\n.*broken.jpg: not an image"):
        predict_submission(predictor(checkpoint), tmp_path / "images", info, out)
    assert not out.exists()


def test_a_stem_shared_by_two_images_is_a_fault(checkpoint: Path, faces: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["fe.png"])
    info = write_info(tmp_path / "info.csv", ["fe"])
    with pytest.raises(FaceTableError, match=r"fe: more than one image could be meant: fe.jpeg and fe.png"):
        predict_submission(predictor(checkpoint), tmp_path / "images", info, tmp_path / "out.csv")


@pytest.mark.parametrize("fallback", [2, "most-common"])
def test_failed_images_are_filled_with_the_fallback_class_and_listed(
    checkpoint: Path, faces: dict[str, np.ndarray], tmp_path: Path, fallback: int | str
) -> None:
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    readable = [*NAMES, *4 * ["fe.jpeg"]]  # the most common one
    info = write_info(tmp_path / "info.csv", ["absent.jpg", *readable, "broken.jpg"])
    counts = predict_submission(
        predictor(checkpoint), tmp_path / "images", info, tmp_path / "out.csv", fallback_class=fallback
    )
    predicted = class_ids(checkpoint, faces, readable)
    filled = 2 if fallback == 2 else pd.Series(predicted).mode()[0]
    answers = pd.read_csv(tmp_path / "out.csv")
    assert answers["ImageID"].tolist() == ["absent.jpg", *readable, "broken.jpg"]
    assert answers["ans"].tolist() == [filled, *predicted, filled]
    assert (counts.num_read, counts.num_filled, counts.fallback_class) == (len(readable), 2, filled)
    failed = pd.read_csv(tmp_path / "out.failed.csv")
    assert failed["ImageID"].tolist() == ["absent.jpg", "broken.jpg"]
    assert failed["ans"].tolist() == [filled, filled]
    assert failed["reason"].str.startswith(("no such image", "not an image")).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,ans\na,0\n", "expected the header ImageID,ans, got id,ans"),
        ("", "expected the header ImageID,ans, got nothing"),
        ("ImageID,ans\n", "no rows below the header"),
        ("ImageID,ans\na.jpg,0\nb.jpg\n", "line 3: expected ImageID,ans, got b.jpg"),
        (None, "cannot be read as the info.csv of a submission"),
    ],
)
def test_an_unusable_info_is_refused(
    checkpoint: Path, faces: dict[str, np.ndarray], tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "info.csv").write_text(text)
    with pytest.raises(FaceTableError, match=message):
        predict_submission(
            predictor(checkpoint), tmp_path / "images", tmp_path / "info.csv", tmp_path / "out.csv", fallback_class=0
        )


def test_a_fallback_that_is_not_a_class_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fallback-class 6: expected a class id from 0 to 5"):
        predict_submission(predictor(checkpoint), tmp_path, tmp_path / "info.csv", tmp_path / "o.csv", fallback_class=6)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_votes_and_fails_if_no_image_or_not_all_of_a_submission_can_be_read(
    checkpoint: Path,
    faces: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = save_random_model(tmp_path / "other.safetensors", seed=5, image_size=24)
    votes = ["--vote-with", other, "--weight", 2, "--weight", 1, "--device", "cpu"]
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    table = [checkpoint, tmp_path / "images", *votes, "--out", tmp_path / "out.parquet", "--zoom", 1, "--zoom", 1.2]
    assert run(monkeypatch, *table, "--no-flip") == 0
    output = capsys.readouterr()
    assert "6 files found = 5 predicted + 1 unreadable" in output.out
    assert "broken.jpg: not an image" in output.err

    broken = [checkpoint, tmp_path / "images" / "broken.jpg", *votes, "--out", tmp_path / "none.csv"]
    assert run(monkeypatch, *broken) == 1
    assert "not one image could be read" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "none.csv")["unreadable"].notna().all()

    info = write_info(tmp_path / "info.csv", [*NAMES, "broken.jpg"])
    submission = [checkpoint, tmp_path / "images", *votes, "--submission", info, "--out", tmp_path / "answers.csv"]
    assert run(monkeypatch, *submission) == 1
    assert "FaceTableError" in capsys.readouterr().err
    assert not (tmp_path / "answers.csv").exists()
    assert run(monkeypatch, *submission, "--fallback-class", "most-common") == 0
    assert "1 missing or unreadable, filled with class" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "answers.csv")) == 6


def test_the_command_takes_a_run_and_writes_all_probabilities_as_json_to_standard_output(
    checkpoint: Path,
    faces: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    student = tmp_path / "run/round-01/student/best.safetensors"
    student.parent.mkdir(parents=True)
    shutil.copy(checkpoint, student)
    arguments = [tmp_path / "run", tmp_path / "images", "--out", "-", "--device", "cpu"]
    assert run(monkeypatch, *arguments) == 1
    assert f"not a finished run; name one of its models: {student}" in capsys.readouterr().err
    summary = {"promoted_checkpoint": "elsewhere/run/round-01/student/best.safetensors"}
    (tmp_path / "run/summary.json").write_text(json.dumps(summary))
    assert run(monkeypatch, *arguments, "--format", "json") == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert f"{len(rows)} files found = {len(rows)} predicted" in captured.err
    labels = predictor(checkpoint).labels
    for row in rows:
        for attribute in labels.attributes:
            shares = {value: row[f"{attribute.name}={value}"] for value in attribute.values}
            assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
            assert max(shares, key=lambda value: shares[value]) == row[attribute.name]
        assert sum(row[f"class={name}"] for name in labels.class_names) == pytest.approx(1, abs=1e-4)
    assert run(monkeypatch, *arguments, "--format", "parquet") == 1
    assert "--out -: standard output takes tables as csv or json" in capsys.readouterr().err


def test_the_command_refuses_whole_photographs_for_a_model_of_crops(
    faces: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tmp_path / "crops.safetensors"
    save_checkpoint(
        model,
        random_model(),
        model_config=ModelConfig(architecture="wrn10_1"),
        image_size=16,
        cropping=CropRules(detection_sides=(192,)),
    )
    info = write_info(tmp_path / "info.csv", NAMES)
    for more in ([], ["--submission", info]):
        arguments = [model, tmp_path / "images", "--out", tmp_path / "o.csv", *more]
        assert run(monkeypatch, *arguments, "--device", "cpu") == 1
        assert "give the detector's ONNX file: --crop FILE, or --no-crop" in capsys.readouterr().err
        assert run(monkeypatch, *arguments, "--device", "cpu", "--no-crop") == 0
        assert "trained on cropped faces; these images are taken as they are" in caplog.text
        caplog.clear()
