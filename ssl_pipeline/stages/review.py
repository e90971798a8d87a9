"""The review of a round's selection: request a decision, find the valid one, refuse to train without it."""

import getpass
import logging
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markdown import Markdown
from rich.prompt import FloatPrompt, Prompt

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import PrecisionGuarantee, SelectionConfig
from ssl_pipeline.errors import ReviewError, ReviewPending
from ssl_pipeline.evaluation.shift import is_strong
from ssl_pipeline.pseudo_labels.audit import accepted_labels, captions, sample_audit
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.summary import summarize
from ssl_pipeline.reports.audit_sheet import render_audit_sheets, write_sheet
from ssl_pipeline.reports.review_page import review_markdown
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of, write_text
from ssl_pipeline.runs.records import StageRecord, faces_digest, finished_stage
from ssl_pipeline.runs.review import (
    Choice,
    ReviewDecision,
    ReviewRequest,
    WaitingFlowRun,
    apply_decision,
    read_decision,
    record_decision,
    valid_decision,
    write_request,
)
from ssl_pipeline.stages.versions import VERSIONS

logger = logging.getLogger(__name__)

NUM_AUDITED = 100
"""Accepted labels sampled for the audit sheet; more if there are more values."""


def selection_inputs(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any]:
    """Return all inputs of a round's selection by the config. A decision is valid while they are unchanged.

    Raises:
        RunError: if the predictions that it reads are not finished, or were made with other settings.
    """
    return {
        "predicted": [digest_of([record.inputs, record.outputs]) for record in _predictions(config, run, round_index)],
        "selection": config.selection,
        "calibration": config.calibration,  # of the mean of the fold teachers
        "shift": assess_shift(config, run, round_index),
        "labels": config.labels,
        "faces": faces_digest(config, run),
        "round": round_index,
        "run_name": config.run_name,
    }


def _predictions(config: RunConfig, run: RunDir, round_index: int) -> list[StageRecord]:
    """Return the records of the predictions that a round's selection reads."""
    cure = f"predict the pool first: {run.command}"
    made_with = {
        "faces": faces_digest(config, run),
        "prediction": config.prediction.fingerprint_fields(),
    }
    records = []
    for folder in ("predictions", "held_out"):
        directory = run.pseudo_labels(round_index) / folder
        records.append(finished_stage(directory, inputs=made_with, cure=cure))
        for member in (name for name in records[-1].inputs["members"] if name != "."):
            finished_stage(directory / member, cure=cure)
    if records[0].inputs["in_parts"]:
        records.append(finished_stage(run.out_of_fold, cure=cure))
    return records


def digest_selection(inputs: dict[str, Any]) -> str:
    """Return one digest of a selection's inputs and the version of its code."""
    return digest_of(inputs | {"version": VERSIONS["select"]})


def current_decision(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision | None:
    """Return the decision on a round's current selection; None without one, or if the config wants no review."""
    if config.review == "none":
        return None
    return valid_decision(run, round_index, digest_selection(selection_inputs(config, run, round_index)))


def decided_selection(
    config: RunConfig, run: RunDir, round_index: int
) -> tuple[SelectionConfig, dict[str, Any], dict[str, Any]]:
    """Return a round's selection as a person decided on it.

    Returns:
        The settings, the change that the decision made to them (see `apply_decision`), and all inputs of the stage.
    """
    inputs = selection_inputs(config, run, round_index)
    settings, change = apply_decision(config.selection, current_decision(config, run, round_index))
    return settings, change, inputs | {"selection": settings, **change}


def check_selected(config: RunConfig, run: RunDir, round_index: int) -> StageRecord:
    """Return the record of a round's selection, before something reads its manifest.

    Raises:
        RunError: if it has not finished, a guard refused it, its manifest was changed, or its inputs are others now.
    """
    *_, inputs = decided_selection(config, run, round_index)
    cure = (
        f"if a guard refused the selection, change the config; select again: {run.command}; a manifest of your own is "
        "given to the flow train-student as manifest"
    )
    return finished_stage(run.pseudo_labels(round_index), inputs=inputs, cure=cure)


def check_accepted(config: RunConfig, run: RunDir, round_index: int) -> None:
    """Refuse to train on a selection that a person has not accepted, if the config wants a review.

    Raises:
        ReviewPending: if there is no decision.
        ReviewError: if it was rejected.
    """
    if config.review == "none":
        return
    decision = current_decision(config, run, round_index)
    if decision is None:
        raise ReviewPending(
            f"{run.root}: round {round_index}: nobody has decided on its selection (review: wait), so no student is "
            f"trained; to be asked: {run.command}"
        )
    if decision.choice == "reject":
        raise ReviewError(f"{run.root}: round {round_index}: {decision.description}; no student is trained on it")


def assess_shift(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any] | None:
    """Judge whether the measured shift between validation faces and pool is strong; None if the config omits it.

    Returns:
        `evaluation.shift.Separability` as a dict, with `strong`, `separability` in words, and `words` of all.
    """
    if config.shift is None:
        return None
    measured = StageRecord.read(run.pseudo_labels(round_index) / "shift").result
    auc, error = measured["auc"], measured["standard_error"]
    strong = is_strong(auc, error, strong_auc=config.shift.strong_auc)
    separability = (
        f"not measured: {measured['note']}"
        if auc is None
        else "a classifier tells the pool from the validation faces by the teacher's features with an AUC of "
        f"{auc:.2f} ± {error:.2f}"
    )
    words = _describe_shift(separability, config, measured=auc is not None, strong=strong)
    return {**measured, "strong": strong, "separability": separability, "words": words}


def _describe_shift(separability: str, config: RunConfig, *, measured: bool, strong: bool) -> str:
    assert config.shift is not None
    if not measured:
        return separability
    if not strong:
        return f"{separability}: not strong (strong_auc {config.shift.strong_auc:g}, and two standard errors above 0.5)"
    if isinstance(config.selection, PrecisionGuarantee):
        return (
            f"the guarantee is withheld under strong shift ({separability}): it was tested on faces unlike the pool's"
        )
    return f"strong ({separability}): what validation faces say may not hold for the pool"


def ask_review(
    config: RunConfig, run: RunDir, round_index: int, flow_run: WaitingFlowRun | None = None
) -> ReviewRequest:
    """Request a decision on a round's manifest. Writes request.md, an audit sheet with pages, then request.json.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: from 1.
        flow_run: the flow run that continues after the decision; None if the person starts the run again.
    """
    check_selected(config, run, round_index)
    path = run.pseudo_labels(round_index) / "manifest.parquet"
    manifest, digest = read_manifest(path), digest_file(path)
    if (earlier := read_decision(run, round_index)) is not None:
        logger.warning(
            "round %d: %s; but that was on another selection (manifest %s): please decide again",
            round_index,
            earlier.description,
            earlier.manifest_digest[:12],
        )
    directory = run.review(round_index) / f"audit-{digest[:12]}"  # per manifest, since a sheet may hold answers
    num_audited, sheets = _render_audit(manifest, directory, seed=config.seed)
    answers = directory / "audit.csv" if sheets else None
    threshold = getattr(config.selection, "confidence_threshold", None)
    page = review_markdown(
        summarize(manifest),
        sheets=[str(sheet) for sheet in sheets],
        audit_command=f"ssl-pipeline manifest audit {path} --sample {num_audited} --seed {config.seed} --answers {answers}",
        run_root=str(run.root),
        threshold=threshold,
    )
    write_text(run.review(round_index) / "request.md", page)
    request = ReviewRequest(
        run_name=config.run_name,
        round_index=round_index,
        manifest=str(path.relative_to(run.root)),
        manifest_digest=digest,
        selection_digest=digest_selection(selection_inputs(config, run, round_index)),
        selection_type=config.selection.type,
        confidence_threshold=threshold,
        sheets=tuple(str(sheet.relative_to(run.root)) for sheet in sheets),
        answers=None if answers is None else str(answers.relative_to(run.root)),
        num_audited=num_audited,
        flow_run=flow_run,
    )
    write_request(run, request)
    return request


def read_page(run: RunDir, request: ReviewRequest) -> str:
    """Read the Markdown of a request."""
    return (run.review(request.round_index) / "request.md").read_text(encoding="utf-8")


def waiting_message(run: RunDir, request: ReviewRequest) -> str:
    """Say what to read, how to decide, and how to continue."""
    change = "" if request.confidence_threshold is None else " --threshold NUMBER,"
    return (
        f"round {request.round_index} of run '{request.run_name}' waits for a person to decide on its selection; "
        f"nothing was trained on it\n"
        f"  read    {run.review(request.round_index) / 'request.md'}\n"
        f"  decide  ssl-pipeline cycle resume {run.root} --accept   (or{change} --reject)\n"
        f"  resume  with the same command again, or: {run.command}"
    )


def ask_on_terminal(run: RunDir, request: ReviewRequest, page: str, console: Console) -> ReviewDecision:
    """Show a request's page and record the decision that a person types.

    Raises:
        ReviewError: if the decision cannot be used.
        ReviewPending: if the input ends before.
    """
    console.print(Markdown(page))
    choices = ["accept", *([] if request.confidence_threshold is None else ["threshold"]), "reject"]
    try:
        choice = Prompt.ask("Decide", choices=choices, console=console)
        threshold = (
            FloatPrompt.ask("Threshold, above 0 and up to 1", console=console) if choice == "threshold" else None
        )
        note = Prompt.ask("Note", default="", show_default=False, console=console)
    except EOFError:
        raise ReviewPending(waiting_message(run, request)) from None
    return record_decision(
        run,
        request,
        cast(Choice, choice),
        confidence_threshold=threshold,
        note=note,
        reviewer=getpass.getuser(),
        channel="terminal",
    )


def _render_audit(manifest: Manifest, directory: Path, *, seed: int) -> tuple[int, list[Path]]:
    """Sample accepted labels as `manifest audit` does; write the sheet and its pages unless they exist."""
    labels = accepted_labels(manifest)
    if labels.empty:
        return 0, []
    sample = sample_audit(manifest, num=max(NUM_AUDITED, labels["stratum"].nunique()), seed=seed)
    if (directory / "audit.csv").is_file():  # written last; may hold answers
        return len(sample), sorted(directory.glob("audit-*.png"), key=lambda page: (len(page.name), page.name))
    title = f"{manifest.path}: {len(sample):,} accepted labels"
    pages, _ = render_audit_sheets(directory, sample["image_path"].tolist(), captions(sample), title=title)
    write_sheet(directory / "audit.csv", sample)
    return len(sample), pages
