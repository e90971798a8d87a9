"""`ssl-pipeline plot schedule`: the plot, the source of the number of steps, rejected input."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ssl_pipeline.cli import main as cli
from ssl_pipeline.cli.plot import count_training_faces
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.check import check
from tests.cycle_config import draw_and_prepare, write_tiny_config


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ssl-pipeline", "plot", "schedule", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def test_the_plot_is_written_and_its_assumption_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = write_tiny_config(tmp_path), tmp_path / "plots" / "schedule.png"
    assert run(monkeypatch, config, "--role", "student", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "1,600 faces (assumed, the run has no faces yet; set --num-faces)" in printed
    assert "in batches of 16: 100 steps per epoch, 400 in 4 epochs" in printed
    assert Image.open(out).format == "PNG"
    assert not (tmp_path / "runs").exists()  # nothing was prepared or trained


def test_a_given_number_of_faces_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = "teacher.training.scheduler={type: multi_step, milestones: [1, 2], warmup_epochs: 0.5}"
    arguments = ("--role", "teacher", "--out", tmp_path / "a.png", "--num-faces", 50, "--set", settings)
    assert run(monkeypatch, write_tiny_config(tmp_path), *arguments) == 0
    assert "50 faces (given)\nin batches of 16: 4 steps per epoch, 12 in 3 epochs" in capsys.readouterr().out


def test_the_faces_of_a_run_are_counted_from_its_tables(tmp_path: Path) -> None:
    config = load_config(write_tiny_config(tmp_path))
    directory = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, directory)
    faces = read_faces(directory.faces / "labeled.parquet")
    num_train = int((faces["split"] == "train").sum())
    num_pool = len(read_faces(directory.faces / "unlabeled.parquet"))
    assert count_training_faces(config, "teacher") == (num_train, "from faces/labeled.parquet")
    num_assumed, source = count_training_faces(config, "student")
    assert num_assumed == num_train + num_pool
    assert source == f"{num_train:,} labeled, assuming that all {num_pool:,} of the pool are accepted"
    directory.student(1).mkdir(parents=True)
    pd.DataFrame({"image_id": ["a", "b", "c"]}).to_parquet(directory.student(1) / "training.parquet")
    assert count_training_faces(config, "student") == (3, "from round-01/student/training.parquet")
    assert count_training_faces(config, "teacher")[0] == num_train


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.jpg"], "ConfigError: --out a.jpg: expected a name that ends with .png"),
        (
            ["--out", "a.png", "--set", "teacher.training.optimizer={type: timm, name: lam, learning_rate: 1}"],
            "ConfigError: optimizer 'lam': not a timm optimizer; did you mean 'lamb'",
        ),
        (
            ["--out", "a.png", "--set", "teacher.training.scheduler={type: one_cycle, warmup_epochs: 1}"],
            "'teacher.training.scheduler': one_cycle has its own warm-up",
        ),
        (
            ["--out", "a.png", "--set", "teacher.training.scheduler={type: multi_step, milestones: [2, 9]}"],
            "'teacher.training': milestones [9] lie beyond the last epoch (epochs 3 are 0…2)",
        ),
    ],
)
def test_what_cannot_be_plotted_is_rejected_in_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, write_tiny_config(tmp_path), "--role", "teacher", *arguments) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_an_optimizer_that_cannot_be_built_is_rejected_by_the_check(tmp_path: Path) -> None:
    config = load_config(
        write_tiny_config(tmp_path),
        overrides=[
            "teacher.training.optimizer={type: timm, name: lambb, learning_rate: 0.01}",
            "student.training.optimizer={type: timm, name: lamb, learning_rate: 0.01, options: {beta: [0.9, 0.99]}}",
        ],
    )
    with pytest.raises(ConfigError) as error:
        check(config)
    assert "'teacher.training.optimizer': optimizer 'lambb': not a timm optimizer; did you mean" in str(error.value)
    assert "'student.training.optimizer': optimizer 'lamb': unknown option 'beta'" in str(error.value)
