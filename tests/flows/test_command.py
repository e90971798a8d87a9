"""Commands of flows: one message per error, a server that does not answer, reports in words."""

import logging
from importlib import import_module
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.operations.command import _OneMessage, check_server, print_training
from flows.pseudo_label import print_selection
from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ConfigError, PipelineError
from tests.cycle_config import write_tiny_config


def record(logger: str, message: str, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord(logger, logging.ERROR, "", 0, message, None, info)


@pytest.mark.parametrize("is_printed", [True, False])
def test_a_user_error_is_logged_once_or_printed(is_printed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_OneMessage, "is_printed", is_printed)
    error = ConfigError("3 is not 4")
    records = [
        record("prefect.task_runs", "Task run failed with exception: %r", error),
        record(
            "prefect.task_runs", "Finished in state Failed('Task run encountered an exception ConfigError: 3 is …')"
        ),
        record("prefect.flow_runs", "Encountered exception during execution: %r", error),
        record("prefect.flow_runs", "Finished in state Failed('Flow run encountered an exception: ConfigError: 3 …')"),
    ]
    shown = [one.getMessage() for one in records if _OneMessage().filter(one)]
    assert shown == ([] if is_printed else ["3 is not 4"])


def test_other_errors_keep_their_traceback() -> None:
    fault = record("prefect.flow_runs", "Encountered exception during execution", ValueError("bug"))
    assert _OneMessage().filter(fault) and fault.exc_info is not None
    assert _OneMessage().filter(record("prefect.flow_runs", "Finished in state Failed('ValueError: bug')"))


def test_a_server_that_does_not_answer_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    nowhere = temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"})
    with nowhere, pytest.raises(PipelineError) as error:
        check_server()
    message = str(error.value)
    assert message.startswith("PREFECT_API_URL=http://127.0.0.1:9/api: no Prefect server answers there (ConnectError")
    assert message.endswith("run without one: unset PREFECT_API_URL")


def test_trainings_and_selections_are_reported_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_training(
        {
            "monitor": "macro_f1",
            "kept_metric": 0.8286,
            "kept": "best",
            "num_epochs": 12,
            "kept_epoch": 6,
            "checkpoint": "x.safetensors",
        }
    )
    counts = {"accepted": 2, "candidates": 5, "rejected": 2, "unreadable": 1}
    precision = {name: {"num": 4, "precision": 0.75} for name in ("mask", "joint")}
    precision["age"] = {"num": 0, "precision": None}
    print_selection({"counts": counts, "precision": precision, "faults": ["too few"], "manifest": "m.parquet"})
    assert capsys.readouterr().out == (
        "macro_f1 0.829 on the validation faces; the best of 12 epochs, 7, is kept\nCheckpoint: x.safetensors\n"
        "Pseudo-labels: 2 of 5 candidates accepted, 2 rejected, 1 unreadable; "
        "right, by the hidden labels: mask 75.0 % of 4.\nFault: too few\nManifest: m.parquet\n"
    )


def test_a_faulty_config_is_refused_before_the_flows_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(import_module("ssl_pipeline.cli.run"), "load_flow_command", load)
    result = CliRunner().invoke(app, ["run", str(write_tiny_config(tmp_path)), "--set", "rounds=0"])
    assert isinstance(result.exception, ConfigError)
