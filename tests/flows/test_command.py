"""Commands of flows: one message per error, a server that does not answer, reports in words."""

import logging
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.operations import command
from flows.operations.command import _OneMessage, print_lines, training_lines
from flows.pseudo_label import selection_lines
from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ConfigError
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


def test_in_a_deployment_the_last_record_of_a_user_error_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "deployed_flow_run", object)
    error = ConfigError("3 is not 4")
    first = record("prefect.flow_runs", "Encountered exception during execution: %r", error)
    last = record("prefect.flow_runs", "Engine execution exited with unexpected exception", error)
    assert [_OneMessage().filter(one) for one in (first, last)] == [False, True]
    assert (last.getMessage(), last.exc_info) == ("3 is not 4", None)


@pytest.mark.parametrize("is_printed", [True, False])
def test_a_result_is_logged_unless_the_command_prints_it(is_printed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_OneMessage, "is_printed", is_printed)
    for message in ("'Promoted: teacher.'", '"Promoted: the teacher\'s rival."'):
        ended = record("prefect.flow_runs", f"Finished in state Completed({message})")
        assert _OneMessage().filter(ended) is not is_printed
    assert _OneMessage().filter(record("prefect.task_runs", "Finished in state Completed()"))


def test_other_errors_keep_their_traceback() -> None:
    fault = record("prefect.flow_runs", "Encountered exception during execution", ValueError("bug"))
    assert _OneMessage().filter(fault) and fault.exc_info is not None
    assert _OneMessage().filter(record("prefect.flow_runs", "Finished in state Failed('ValueError: bug')"))


def test_trainings_and_selections_are_reported_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(
        training_lines,
        {
            "monitor": "macro_f1",
            "kept_metric": 0.8286,
            "kept": "best",
            "num_epochs": 12,
            "kept_epoch": 6,
            "checkpoint": "x.safetensors",
        },
    )
    counts = {"accepted": 2, "candidates": 5, "rejected": 2, "unreadable": 1}
    precision = {name: {"num": 4, "precision": 0.75} for name in ("mask", "joint")}
    precision["age"] = {"num": 0, "precision": None}
    selection = {"counts": counts, "precision": precision, "faults": ["too few"], "manifest": "m.parquet"}
    print_lines(selection_lines, selection)
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


def test_a_run_is_told_what_to_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[dict[str, object]]()
    monkeypatch.setattr(
        import_module("ssl_pipeline.cli.run"), "load_flow_command", lambda name: lambda *_, **given: calls.append(given)
    )
    for options in ([], ["--quiet", "--json"], ["-q"]):
        assert CliRunner().invoke(app, ["run", str(write_tiny_config(tmp_path)), *options]).exit_code == 0
    assert [(call["quiet"], call["as_json"]) for call in calls] == [(False, False), (True, True), (True, False)]
