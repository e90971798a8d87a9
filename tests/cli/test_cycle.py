"""`ssl-pipeline cycle resume` as a person gives it: the decision it leaves, the one message for each mistake."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli import main as cli
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, write_json
from ssl_pipeline.runs.review import ReviewRequest, read_decision, write_request

MANIFEST = "round-01/pseudo_labels/manifest.parquet"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The run `demo` under data/runs of the working directory, waiting with its first round."""
    monkeypatch.chdir(tmp_path)
    run = RunDir(Path("data/runs/demo"))
    write_json(run.root / "run.json", {"status": "waiting for review"})
    (run.root / MANIFEST).parent.mkdir(parents=True)
    (run.root / MANIFEST).write_bytes(b"a manifest")
    write_request(run, request_of(run))
    return run


def request_of(run: RunDir, *, kind: str = "fixed_threshold") -> ReviewRequest:
    return ReviewRequest(
        run_name="demo",
        round_index=1,
        manifest=MANIFEST,
        manifest_digest=digest_file(run.root / MANIFEST),
        basis="b",
        selection_type=kind,
        confidence_threshold=0.55 if kind == "fixed_threshold" else None,
    )


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The message with which the command fails."""
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "cycle", "resume", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    return capsys.readouterr().err.rstrip("\n")


@pytest.mark.parametrize("named", ["demo", "data/runs/demo"])
def test_a_decision_is_kept_and_the_way_on_told(run: RunDir, named: str) -> None:
    result = CliRunner().invoke(cli.app, ["cycle", "resume", named, "--threshold", "0.9", "--note", "surer"])
    assert result.exit_code == 0, result.output
    decision = read_decision(run, 1)
    assert decision is not None
    assert (decision.choice, decision.confidence_threshold, decision.note) == ("threshold", 0.9, "surer")
    assert (decision.manifest_digest, decision.way) == (digest_file(run.root / MANIFEST), "command")
    assert "round 1 of run 'demo': the confidence_threshold was set to 0.9 by" in result.output
    assert "python -m flows.full_cycle --config data/runs/demo/config.yaml" in result.output


def test_a_changed_mind_takes_the_place_of_the_decision(run: RunDir) -> None:
    CliRunner().invoke(cli.app, ["cycle", "resume", "demo", "--threshold", "0.9"])
    (run.root / MANIFEST).write_bytes(b"selected by 0.9")  # as the decision had it
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
def test_a_mistake_is_one_message_and_decides_nothing(
    run: RunDir,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert told(capsys, monkeypatch, *arguments) == message
    assert read_decision(run, 1) is None


def test_a_strategy_without_threshold_names_what_can_be_changed(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_request(run, request_of(run, kind="balanced_top_k"))
    assert told(capsys, monkeypatch, "demo", "--threshold", "0.9") == (
        "ReviewError: the threshold cannot be changed: selection.type balanced_top_k has no confidence_threshold; accept "
        "or reject, or change selection.k or selection.min_confidence in the config and run it again"
    )


def test_a_run_that_nobody_was_asked_about_is_told(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.review(1) / "request.json").unlink()
    assert told(capsys, monkeypatch, "demo", "--accept") == (
        "ReviewError: data/runs/demo: nobody was asked about this run; a config with review: wait asks"
    )


def test_a_manifest_that_has_changed_since_cannot_be_decided_on(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_file(run.root / MANIFEST)
    (run.root / MANIFEST).write_bytes(b"another")
    assert told(capsys, monkeypatch, "demo", "--accept") == (
        f"ReviewError: data/runs/demo/{MANIFEST} is not the manifest that was asked about ({digest[:12]}); run the cycle "
        "again to be asked about it as it is now"
    )
    assert read_decision(run, 1) is None


def test_a_run_that_works_is_not_decided_on_behind_its_back(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with run.lock():
        message = told(capsys, monkeypatch, "demo", "--accept")
    assert message.startswith("RunError: data/runs/demo: process ")
    assert read_decision(run, 1) is None
