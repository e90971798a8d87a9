"""Progress reaches listeners, log lines and the terminal; without a listener nothing happens."""

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.runs import progress
from ssl_pipeline.runs.progress import ProgressBar, listen, report
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config


def test_a_training_and_a_labeling_report_their_shares(tmp_path: Path) -> None:
    config, reports = load_config(write_tiny_config(tmp_path)), list[tuple[str, float]]()
    with open_run(config) as run, listen(lambda name, share: reports.append((name, share))):
        draw_and_prepare(config, run)
        train_teacher(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
    assert [share for name, share in reports if name == "teacher"] == [1 / 3, 2 / 3, 1]
    labeled = [share for name, share in reports if name == "labeling"]
    assert labeled == [0.4, 0.8, 1.0]  # 100 faces in shards of 40
    assert ("labeling held-out faces", 1.0) in reports


def test_only_work_inside_the_context_reaches_the_listener() -> None:
    names = list[str]()
    with listen(lambda name, share: names.append(name)):
        report("inside", 0.5)
    report("outside", 0.5)
    assert names == ["inside"]


@pytest.mark.parametrize(("total", "seconds", "num_lines"), [(3, 0, 3), (100, 0, 10), (100, 3600, 0)])
def test_a_line_is_logged_per_tenth_unless_the_last_one_is_recent(
    caplog: pytest.LogCaptureFixture, total: int, seconds: float, num_lines: int
) -> None:
    with (
        caplog.at_level(logging.INFO, logger=progress.__name__),
        ProgressBar("labeling", total, unit="faces", min_seconds_between_lines=seconds) as bar,
    ):
        for _ in range(total):
            bar.advance()
    assert len(caplog.messages) == num_lines
    if num_lines:
        assert caplog.messages[-1] == f"labeling: {total} of {total} faces"


def test_a_training_logs_loss_and_scores_and_goes_on_from_its_epoch(caplog: pytest.LogCaptureFixture) -> None:
    shares = list[float]()
    row = {"train_loss": 0.5, "macro_f1": 0.25}
    with (
        caplog.at_level(logging.INFO, logger=progress.__name__),
        listen(lambda name, share: shares.append(share)),
        TrainingProgress("teacher", 4, start=2) as bar,
    ):
        bar.step_done(1, 2, 0.7)
        bar.epoch_done(row, best=0.75, monitor="macro_f1")
    assert shares == [0.75]
    assert caplog.messages == ["teacher: 3 of 4 epochs, loss 0.500, macro f1 0.250 best 0.750"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        progress,
        "Console",
        lambda stderr: Console(file=screen, force_terminal=is_terminal, color_system=None, width=120),
    )
    with ProgressBar("predicting", 7, unit="images") as bar:
        bar.advance(3, note="well")
    assert ("predicting" in screen.getvalue()) == is_terminal
    assert ("3/7 images well" in screen.getvalue()) == is_terminal
