"""Progress reaches listeners, log lines and the terminal; without a listener nothing happens."""

import io
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.learning.progress import TrainingProgress
from ssl_pipeline.runs import progress
from ssl_pipeline.runs.plan import PlannedStage
from ssl_pipeline.runs.progress import ProgressBar, listen, report
from ssl_pipeline.runs.run_progress import follow_run, run_progress
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


class Terminal(io.StringIO):
    """What a terminal shows: written lines, with those above the cursor erased when a control sequence says so."""

    def lines(self) -> list[str]:
        shown = [""]
        for part in re.split(r"(\x1b\[1A|\x1b\[2K|\n|\r)", re.sub(r"\x1b\[\?25[lh]", "", self.getvalue())):
            match part:
                case "\x1b[1A":
                    shown.pop()
                case "\x1b[2K" | "\r":
                    shown[-1] = ""
                case "\n":
                    shown.append("")
                case _:
                    shown[-1] += part
        return [line.rstrip() for line in shown if line.strip()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_bar_shows_count_time_left_and_the_stage_of_the_run_within_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    screen = Terminal()
    settings = {"force_terminal": True, "color_system": None, "width": width}
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, **settings))
    handler = logging.StreamHandler(screen)
    logging.getLogger(progress.__name__).addHandler(handler)
    logging.getLogger(progress.__name__).setLevel(logging.INFO)
    plan = [PlannedStage("label the pool", Path("labels")), PlannedStage("train the student", Path("student"))]
    try:
        with follow_run(lambda: plan), ProgressBar("labeling held-out faces by fold-0", 1_000_000, unit="faces",
                                                   min_seconds_between_lines=0) as bar:  # fmt: skip
            run_progress().begin(Path("labels"))
            bar.advance(50_000)
            bar.advance(50_000, note="well")
            bar._bar.refresh()
            *lines, first, second, third = screen.lines()
    finally:
        logging.getLogger(progress.__name__).removeHandler(handler)
    # the line is not written into the bar, nor erased by it
    assert lines == ["labeling held-out faces by fold-0: 100,000 of 1,000,000 faces, well, stage 1 of 2"]
    assert first.startswith("labeling held-out faces by fold-0 ") and len(first) <= width
    assert re.search(r" 100,000/1,000,000 faces (--:--|\d\d:\d\d) left$", first)
    assert second.endswith("well")
    assert third == "  stage 1 of 2"
    assert screen.lines() == lines  # it leaves nothing


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
    assert ("3/7 images" in screen.getvalue()) == is_terminal
    assert ("  well\n" in screen.getvalue()) == is_terminal
