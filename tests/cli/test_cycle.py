"""`ssl-pipeline cycle resume`: the decision that it records, one message per user error."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli import main as cli
from ssl_pipeline.errors import ReviewPending
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, write_json
from ssl_pipeline.runs.review import ReviewRequest, read_decision, write_request

MANIFEST = "round-01/pseudo_labels/manifest.parquet"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The run `demo` under data/runs of the working directory, with a review request for round 1."""
    monkeypatch.chdir(tmp_path)
    run = RunDir(Path("data/runs/demo"))
    write_json(run.root / "run.json", {"status": "waiting for review"})
    (run.root / MANIFEST).parent.mkdir(parents=True)
    (run.root / MANIFEST).write_bytes(b"a manifest")
    write_request(run, make_request(run))
    return run


def make_request(run: RunDir, *, kind: str = "fixed_threshold") -> ReviewRequest:
    return ReviewRequest(
        run_name="demo",
        round_index=1,
        manifest=MANIFEST,
        manifest_digest=digest_file(run.root / MANIFEST),
        selection_digest="b",
        selection_type=kind,
        confidence_threshold=0.55 if kind == "fixed_threshold" else None,
    )


def error_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run the command, which must fail, and return its message."""
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "cycle", "resume", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    return capsys.readouterr().err.rstrip("\n")


@pytest.mark.parametrize("argument", ["demo", "data/runs/demo"])
def test_a_decision_is_kept_and_the_next_command_is_shown(run: RunDir, argument: str) -> None:
    result = CliRunner().invoke(cli.app, ["cycle", "resume", argument, "--threshold", "0.9", "--note", "surer"])
    assert result.exit_code == 0, result.output
    decision = read_decision(run, 1)
    assert decision is not None
    assert (decision.choice, decision.confidence_threshold, decision.note) == ("threshold", 0.9, "surer")
    assert (decision.manifest_digest, decision.channel) == (digest_file(run.root / MANIFEST), "command")
    assert "round 1 of run 'demo': the confidence_threshold was set to 0.9 by" in result.output
    assert "ssl-pipeline run data/runs/demo/config.yaml" in result.output


def test_a_later_decision_replaces_the_earlier_one(run: RunDir) -> None:
    CliRunner().invoke(cli.app, ["cycle", "resume", "demo", "--threshold", "0.9"])
    (run.root / MANIFEST).write_bytes(b"selected by 0.9")  # what the decision leads to
    result = CliRunner().invoke(cli.app, ["cycle", "resume", "demo", "--reject"])
    assert result.exit_code == 0, result.output
    assert "in place of: the confidence_threshold was set to 0.9" in result.output
    decision = read_decision(run, 1)
    assert decision is not None
    assert decision.choice == "reject"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo",), "ReviewError: give exactly one of --accept, --threshold and --reject; got none"),
        (
            ("demo", "--accept", "--threshold", "0.9"),
            "ReviewError: give exactly one of --accept, --threshold and --reject; got --accept, --threshold",
        ),
        (("demo", "--threshold", "90"), "ReviewError: threshold 90: expected a number above 0 and up to 1"),
        (
            ("absent", "--accept"),
            "RunError: absent: neither a run's directory nor the name of one under data/runs; runs there: demo",
        ),
    ],
)
def test_a_user_error_is_one_message_and_records_nothing(
    run: RunDir,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert error_message(capsys, monkeypatch, *arguments) == message
    assert read_decision(run, 1) is None


def test_a_strategy_without_threshold_refuses_one(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_request(run, make_request(run, kind="balanced_top_k"))
    assert error_message(capsys, monkeypatch, "demo", "--threshold", "0.9") == (
        "ReviewError: the threshold cannot be changed: selection.type balanced_top_k has no confidence_threshold; accept "
        "or reject, or change the section 'selection' of the config and run it again"
    )


def test_a_run_without_a_review_request_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.review(1) / "request.json").unlink()
    assert error_message(capsys, monkeypatch, "demo", "--accept") == (
        "ReviewError: data/runs/demo: no review was requested; a config with review: wait requests one"
    )


def test_a_manifest_that_changed_since_cannot_be_decided_on(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_file(run.root / MANIFEST)
    (run.root / MANIFEST).write_bytes(b"another")
    assert error_message(capsys, monkeypatch, "demo", "--accept") == (
        f"ReviewError: data/runs/demo/{MANIFEST}: changed since the review was requested (manifest {digest[:12]}); run "
        "the cycle again to review it as it is now"
    )
    assert read_decision(run, 1) is None


def test_a_locked_run_cannot_be_decided_on(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with run.lock():
        message = error_message(capsys, monkeypatch, "demo", "--accept")
    assert message.startswith("RunError: data/runs/demo: process ")
    assert read_decision(run, 1) is None


def test_a_missing_installation_of_the_flows_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_pipeline.cli.run.entry_points", lambda **_: ())
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "run", "demo"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "PipelineError: the flows are not installed; install the package: pip install ssl-pipeline, or make setup\n"
    )


def test_the_run_command_exits_with_the_errors_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(config: Path, overrides: list[str] | None, run_name: str | None, **_: object) -> None:
        raise ReviewPending(f"{config} {overrides} {run_name}")

    monkeypatch.setattr("ssl_pipeline.cli.run.load_flow_command", lambda name: wait)
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "run", "demo", "--set", "seed=1", "--run-name", "mine"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == ReviewPending.exit_code == 3
    assert capsys.readouterr().err == "ReviewPending: demo ['seed=1'] mine\n"
