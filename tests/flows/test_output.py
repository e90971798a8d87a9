"""`ssl-pipeline run --quiet` and `--json`: the result alone on stdout, errors alone on stderr."""

import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

from flows import full_cycle as flow
from flows.operations.output import result_alone
from ssl_pipeline.errors import RunError
from ssl_pipeline.runs import progress
from ssl_pipeline.runs.progress import ProgressBar

SUMMARY = {"promoted": "student", "promoted_checkpoint": "runs/mine/best.safetensors", "seconds": {"faces": 1.5}}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`ssl-pipeline run` with a flow that logs, prints and returns a summary, or fails."""

    def run(*, fails: bool = False, **options: bool) -> None:
        def run_flow(flow: object, config: Path, *_: object, report: Callable[[Any], None]) -> None:
            sys.stdout.write("a question to a person\n")
            for level in (logging.INFO, logging.WARNING, logging.ERROR):
                logging.getLogger("prefect.test").log(level, "at level %d", level)
            if fails:
                raise RunError("no room")
            report(SUMMARY)

        monkeypatch.setattr(flow, "run_flow", run_flow)
        flow.run(Path("mine.yaml"), **options)

    return run


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What Prefect's handler prints to the console."""
    log, logger = io.StringIO(), logging.getLogger("prefect")
    monkeypatch.setattr(logger, "handlers", [PrefectConsoleHandler(log)])
    monkeypatch.setattr(logger, "level", logging.INFO)
    return log


def test_json_is_the_summary_and_all_else_is_on_stderr(
    run: Callable[..., None], log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    run(as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == SUMMARY
    assert printed.err == "a question to a person\n"
    assert "at level 20" in log.getvalue()


def test_quiet_prints_the_promoted_model_and_logs_errors_alone(
    run: Callable[..., None], log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    run(quiet=True)
    assert capsys.readouterr().out == "runs/mine/best.safetensors\n"
    assert log.getvalue().split() == ["at", "level", "40"]
    run(quiet=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == SUMMARY
    logging.getLogger("prefect.test").info("the process exits")
    assert "exits" not in log.getvalue()


@pytest.mark.parametrize("options", [{"as_json": True}, {"quiet": True}])
def test_a_failed_run_prints_no_result(
    run: Callable[..., None], options: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match="no room"):
        run(fails=True, **options)
    assert capsys.readouterr().out == ""
    assert sys.stdout is not sys.stderr


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_draws_no_bars(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True))
    with result_alone(quiet=quiet), ProgressBar("labeling", 3, unit="faces") as bar:
        bar.advance()
    assert ("labeling" in screen.getvalue()) != quiet
