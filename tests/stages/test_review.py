"""The review of a selection without any flow: which decisions are valid, and what follows from them."""

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ReviewError, ReviewPending, RunError, SelectionError
from ssl_pipeline.pseudo_labels.audit import sample_audit
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.reports.audit_sheet import read_answers
from ssl_pipeline.reports.comparison import comparison_markdown, verdict
from ssl_pipeline.reports.review_page import review_markdown
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, read_json, write_json
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.runs.review import (
    Choice,
    ReviewDecision,
    ReviewRequest,
    is_waiting,
    read_decision,
    read_request,
    record_decision,
)
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.review import ask_on_terminal, ask_review, current_decision, read_page, waiting_message
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from tests.cycle_config import draw_and_prepare, write_tiny_config

SELECTION = {"type": "fixed_threshold", "confidence_threshold": 0.55, "guards": {"one_class": False}}
MANIFEST = "round-01/pseudo_labels/manifest.parquet"
TypeIn = Callable[[str, ReviewRequest], tuple[ReviewDecision, str]]


@pytest.fixture(scope="module")
def shared_request(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run with a first selection and a review request."""
    path = write_tiny_config(tmp_path_factory.mktemp("requested"), review="wait", selection=SELECTION)
    config = load_config(path, overrides=["student.training.epochs=1"])
    with open_run(config) as run:
        draw_and_prepare(config, run)
        train_teacher(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
        select(config, run, 1)
        ask_review(config, run, 1)
    return config


@pytest.fixture
def requested(shared_request: RunConfig, tmp_path: Path) -> tuple[RunConfig, RunDir]:
    """A copy for one test."""
    shutil.copytree(shared_request.runs_root, tmp_path / "runs")
    return shared_request.model_copy(update={"runs_root": tmp_path / "runs"}), RunDir(tmp_path / "runs/tiny")


def decide(
    run: RunDir, choice: Choice, threshold: float | None = None, *, round_index: int = 1, note: str = ""
) -> None:
    request = read_request(run, round_index)
    assert request is not None
    record_decision(run, request, choice, confidence_threshold=threshold, note=note, reviewer="Ada", channel="command")


def test_nothing_is_trained_before_a_person_has_decided(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    assert is_waiting(run)
    with pytest.raises(ReviewPending, match="nobody has decided on its selection"):
        train_student(config, run, 1)
    assert not run.student(1).exists()
    decide(run, "accept")
    assert not is_waiting(run)
    before = digest_file(run.root / MANIFEST)
    assert select(config, run, 1).skipped
    train_student(config, run, 1)
    assert StageRecord.read(run.student(1)).inputs["manifest"] == before


def test_a_changed_threshold_is_applied_recorded_and_kept(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    before = read_manifest(run.root / MANIFEST)
    decide(run, "threshold", 0.65, note="surer")
    select(config, run, 1)
    record = StageRecord.read(run.pseudo_labels(1))
    manifest = read_manifest(run.root / MANIFEST)
    changed = {"confidence_threshold": {"configured": 0.55, "decided": 0.65}}
    summary = read_json(run.pseudo_labels(1) / "selection.json")
    for settings in (manifest.selection["settings"], summary["selection"]["settings"]):
        assert settings["confidence_threshold"] == 0.65
        assert settings["changed_in_review"] == changed
    assert record.result["changed_in_review"] == record.inputs["changed_in_review"] == changed
    assert (manifest.faces["age_confidence"][manifest.accepted[:, 1]] >= 0.65).all()
    assert 0 < manifest.accepted.sum() < before.accepted.sum()
    assert select(config, run, 1).skipped
    train_student(config, run, 1)
    assert StageRecord.read(run.student(1)).inputs["manifest"] == digest_file(run.root / MANIFEST)
    assert "changed_in_review" not in before.selection["settings"]


def test_a_decision_does_not_count_for_another_selection(
    requested: tuple[RunConfig, RunDir], caplog: pytest.LogCaptureFixture
) -> None:
    config, run = requested
    decide(run, "threshold", 0.65)
    other = config.model_copy(update={"selection": config.selection.model_copy(update={"confidence_threshold": 0.6})})
    select(other, run, 1)
    assert read_manifest(run.root / MANIFEST).selection["settings"]["confidence_threshold"] == 0.6
    assert current_decision(other, run, 1) is None
    with pytest.raises(ReviewPending):
        train_student(other, run, 1)
    with caplog.at_level(logging.WARNING):
        ask_review(other, run, 1)
    assert "set to 0.65 by Ada" in caplog.text
    assert "on another selection" in caplog.text
    assert is_waiting(run)


def test_a_decision_on_another_manifest_does_not_count(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    decide(run, "accept")
    path = run.review(1) / "decision.json"
    write_json(path, read_json(path) | {"manifest_digest": "0" * 64})
    assert current_decision(config, run, 1) is None
    with pytest.raises(ReviewPending):
        train_student(config, run, 1)


def test_without_review_a_decision_is_ignored(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    decide(run, "threshold", 0.65)
    assert select(config.model_copy(update={"review": "none"}), run, 1).skipped
    assert read_manifest(run.root / MANIFEST).selection["settings"]["confidence_threshold"] == 0.55


def test_a_threshold_that_the_guards_refuse_is_explained_and_can_be_changed(
    requested: tuple[RunConfig, RunDir],
) -> None:
    config, run = requested
    decide(run, "threshold", 1.0)
    with pytest.raises(SelectionError, match=f"a person set; to change it: ssl-pipeline cycle resume {run.root}"):
        select(config, run, 1)
    decide(run, "accept")
    select(config, run, 1)
    request = read_request(run, 1)
    assert request is not None
    assert digest_file(run.root / MANIFEST) == request.manifest_digest


def test_a_rejected_first_round_ends_without_student_and_without_the_test_split(
    requested: tuple[RunConfig, RunDir],
) -> None:
    config, run = requested
    decide(run, "reject", note="too many young")
    with pytest.raises(ReviewError, match="rejected by Ada"):
        train_student(config, run, 1)
    with open_run(config):
        summary = finish(config, run, [RoundOutcome(1, review=current_decision(config, run, 1))])
    assert summary["status"] == "stopped by review"
    assert (summary["promoted"], summary["student"], summary["rounds"]) == ("teacher", None, [])
    assert set(summary["teacher"]) == {"validation"}
    assert not (run.teacher / "test").exists()
    assert summary["reviews"][0]["note"] == "too many young"
    counts = summary["counts"]
    assert counts["candidates"] == counts["accepted"] + counts["rejected"] + counts["unreadable"] == 100
    assert read_json(run.summary) == summary
    for text in (verdict(summary), comparison_markdown(summary)):
        assert text.startswith("Ada rejected the selection of round 1, which ended the cycle: too many young.")
        assert "no student: the teacher stays" in text
    assert read_json(run.root / "run.json")["status"] == "finished"


def test_a_rejected_second_round_keeps_the_first_student(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    decide(run, "accept")
    train_student(config, run, 1)
    first = RoundOutcome(1, review=current_decision(config, run, 1), gate=gate(config, run, 1, run.teacher))
    assert first.gate is not None
    first = replace(first, gate=replace(first.gate, promoted=True))
    predict(config, run, 2, run.student(1) / "best.safetensors")
    select(config, run, 2)
    ask_review(config, run, 2)
    assert is_waiting(run)
    decide(run, "reject", round_index=2)
    summary = finish(config, run, [first, RoundOutcome(2, review=current_decision(config, run, 2))])
    assert (summary["status"], summary["promoted"]) == ("stopped by review", "student")
    assert summary["student"]["round"] == 1
    assert len(summary["rounds"]) == 1
    assert [(of["round"], of["choice"]) for of in summary["reviews"]] == [(1, "accept"), (2, "reject")]
    assert summary["manifest"].endswith(MANIFEST)
    assert verdict(summary).startswith("Ada rejected the selection of round 2, which ended the cycle. The student of")


def test_a_run_that_ends_while_it_waits_says_so(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    with pytest.raises(KeyboardInterrupt), open_run(config):
        raise KeyboardInterrupt
    assert read_json(run.root / "run.json")["status"] == "waiting for review"
    decide(run, "accept")
    with pytest.raises(KeyboardInterrupt), open_run(config):
        raise KeyboardInterrupt
    assert read_json(run.root / "run.json")["status"] == "cancelled"


def test_a_requests_sheet_is_the_audits_and_keeps_its_answers_when_requested_again(
    requested: tuple[RunConfig, RunDir],
) -> None:
    config, run = requested
    request = read_request(run, 1)
    assert request is not None
    assert request.answers is not None
    sheet = run.root / request.answers
    sheet.write_text(sheet.read_text().replace(",\n", ",yes\n"))
    again = ask_review(config, run, 1)
    assert again == request
    manifest = read_manifest(run.root / MANIFEST)
    answers = read_answers(sheet, sample_audit(manifest, num=request.num_audited, seed=config.seed))
    assert (answers == "yes").all()
    assert len(answers) == request.num_audited
    assert all((run.root / page).read_bytes().startswith(b"\x89PNG") for page in request.sheets)


def test_the_page_shows_the_counts_and_how_to_decide(requested: tuple[RunConfig, RunDir]) -> None:
    _, run = requested
    request = read_request(run, 1)
    assert request is not None
    page = read_page(run, request)
    counts = read_json(run.pseudo_labels(1) / "selection.json")["counts"]
    assert f"100 candidates = **{counts['accepted']} accepted**" in page
    assert "| age | &lt;45 |" in page  # not an HTML tag
    assert re.search(
        r"`ssl-pipeline cycle resume \S+/runs/tiny --accept \| --threshold NUMBER \(now 0.55\) \| --reject`", page
    )
    assert f"/{MANIFEST} --sample {request.num_audited} --seed 0 --answers" in page
    assert request.sheets[0] in page


def test_a_page_escapes_the_names_of_values() -> None:
    numbers = {"accepted": 1, "mean_confidence": 0.9, "min_confidence": None}
    summary: dict[str, Any] = {
        "identity": {"round_index": 1, "run_name": "r"},
        "targets": "soft",
        "selection": {"settings": {"type": "self_adaptive"}, "faults": ["<b>"], "shift": None},
        "counts": {"candidates": 1, "accepted": 1, "rejected": 0, "unreadable": 0},
        "acceptance_rate": 1.0,
        "per_attribute": {"age": {"per_value": {f"a|{value}": numbers for value in range(60)}}},
        "rejection_reasons": {},
    }
    page = review_markdown(summary, sheets=[], audit_command="", run_root="x", threshold=None)
    assert "| age | a\\|0 | 1 | 0.900 |  |" in page
    assert "| … and 20 more | | | | |" in page
    assert "- **fault**: &lt;b&gt;" in page
    assert "--threshold" not in page


@pytest.mark.parametrize(
    ("kind", "threshold", "message"),
    [
        ("fixed_threshold", None, "threshold missing: expected a number above 0 and up to 1"),
        ("fixed_threshold", 0.0, "threshold 0: expected a number above 0 and up to 1"),
        ("fixed_threshold", 1.2, "threshold 1.2: expected a number above 0 and up to 1"),
        ("fixed_threshold", float("nan"), "threshold nan: expected a number above 0 and up to 1"),
        ("fixed_threshold", 0.55, "threshold 0.55: equals the current one; accept, or give another number"),
        (
            "precision_guarantee",
            0.9,
            "the threshold cannot be changed: selection.type precision_guarantee has no confidence_threshold; accept or "
            "reject, or change the section 'selection' of the config and run it again",
        ),
    ],
)
def test_an_unusable_threshold_is_refused(kind: str, threshold: float | None, message: str, tmp_path: Path) -> None:
    run, request = RunDir(tmp_path), make_request(tmp_path, kind)
    with pytest.raises(ReviewError) as error:
        record_decision(run, request, "threshold", confidence_threshold=threshold, reviewer="Ada", channel="form")
    assert str(error.value) == message
    assert read_decision(run, 1) is None
    decision = record_decision(run, request, "accept", confidence_threshold=0.9, reviewer="Ada", channel="form")
    assert decision.confidence_threshold is None
    assert read_decision(run, 1) == decision


def make_request(root: Path, kind: str = "fixed_threshold") -> ReviewRequest:
    manifest = root / MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_bytes(b"a manifest")
    return ReviewRequest(
        run_name="run",
        round_index=1,
        manifest=MANIFEST,
        manifest_digest=digest_file(manifest),
        selection_digest="b",
        selection_type=kind,
        confidence_threshold=0.55 if kind == "fixed_threshold" else None,
    )


@pytest.fixture
def type_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TypeIn:
    """Type a text at the prompts; returns the decision and the screen."""

    def type_in(text: str, request: ReviewRequest) -> tuple[ReviewDecision, str]:
        monkeypatch.setattr("sys.stdin", StringIO(text))
        screen = StringIO()
        decision = ask_on_terminal(RunDir(tmp_path), request, "# Labels?", Console(file=screen, width=200))
        return decision, screen.getvalue()

    return type_in


def test_a_terminal_asks_until_the_input_is_valid(type_in: TypeIn, tmp_path: Path) -> None:
    decision, shown = type_in("perhaps\nthreshold\nhigh\n0.7\nsurer\n", make_request(tmp_path))
    assert (decision.choice, decision.confidence_threshold, decision.note) == ("threshold", 0.7, "surer")
    assert "Labels?" in shown
    assert "Threshold, above 0 and up to 1: Please enter a number" in shown
    decision, _ = type_in("reject\n\n", make_request(tmp_path))
    assert (decision.choice, decision.note, decision.channel) == ("reject", "", "terminal")


def test_a_terminal_offers_a_threshold_only_where_there_is_one(type_in: TypeIn, tmp_path: Path) -> None:
    _, shown = type_in("accept\n\n", make_request(tmp_path, "self_adaptive"))
    assert "accept/reject" in shown
    assert "threshold" not in shown


def test_a_closed_terminal_decides_nothing(type_in: TypeIn, tmp_path: Path) -> None:
    with pytest.raises(ReviewPending) as error:
        type_in("threshold\n", make_request(tmp_path))
    assert str(error.value) == waiting_message(RunDir(tmp_path), make_request(tmp_path))
    assert error.value.exit_code == 3


def test_a_damaged_decision_is_refused(requested: tuple[RunConfig, RunDir]) -> None:
    config, run = requested
    decide(run, "accept")
    path = run.review(1) / "decision.json"
    write_json(path, read_json(path) | {"choice": "maybe"})
    with pytest.raises(RunError, match=r"decision.json: damaged \(choice: Input should be 'accept'"):
        select(config, run, 1)
