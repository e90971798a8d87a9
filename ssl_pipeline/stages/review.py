"""The human review of a round's selection: what is asked, which decision counts, and what follows from it."""

import getpass
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.prompt import Prompt

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import PrecisionGuarantee
from ssl_pipeline.errors import ReviewError, ReviewPending
from ssl_pipeline.pseudo_labels.audit import accepted_labels, captions, sample_audit
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.summary import summarize
from ssl_pipeline.reports.audit_sheet import render_audit_sheets, write_sheet
from ssl_pipeline.reports.review_page import review_markdown
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, digest_of, write_text
from ssl_pipeline.runs.records import VERSION, StageRecord, faces_digest
from ssl_pipeline.runs.review import (
    ReviewDecision,
    ReviewRequest,
    WaitingFlowRun,
    decision_on,
    read_decision,
    take_decision,
    write_request,
)

logger = logging.getLogger(__name__)

NUM_AUDITED = 100
"""Accepted labels drawn for the person to look at; more where there are more values."""


def selection_inputs(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any]:
    """All that a round's selection by the config depends on.

    A decision counts for as long as these are what they were when it was taken, see `basis_of`.
    """
    directory = run.pseudo_labels(round_index)
    predicted = (directory / "predictions", directory / "held_out", run.out_of_fold)
    records = [StageRecord.read(of) for of in predicted if (of / "done.json").is_file()]
    return {
        "predicted": [digest_of([record.inputs, record.outputs]) for record in records],
        "selection": config.selection,
        "shift": assess_shift(config, run, round_index),
        "labels": config.labels,
        "faces": faces_digest(run),
        "round": round_index,
        "run_name": config.run_name,
    }


def basis_of(inputs: dict[str, Any]) -> str:
    """One digest for a selection's inputs and the library's version: another version may select otherwise."""
    return digest_of(inputs | {"version": VERSION})


def standing_decision(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision | None:
    """Give the decision on a round's selection as it is now; None without any, or if the config wants none."""
    if config.review == "none":
        return None
    inputs = selection_inputs(config, run, round_index)
    return decision_on(run, round_index, basis=basis_of(inputs))


def check_accepted(config: RunConfig, run: RunDir, round_index: int) -> None:
    """Refuse to train on a selection that waits for a person, or was rejected by one.

    Raises:
        ReviewPending: if nobody has decided.
        ReviewError: if it was rejected.
    """
    if config.review == "none":
        return
    decision = standing_decision(config, run, round_index)
    if decision is None:
        raise ReviewPending(
            f"{run.root}: round {round_index}: nobody has decided on its selection (review: wait), so no student is "
            "trained; flows.full_cycle asks"
        )
    if decision.choice == "reject":
        raise ReviewError(f"{run.root}: round {round_index}: {decision.words}; no student is trained on it")


def assess_shift(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any] | None:
    """Say in words whether the shift that `measure_shift` found is strong; None where the config leaves it out.

    Returns:
        `learning.shift.Separability` as a dict, with `strong` and `words`.
    """
    if config.shift is None:
        return None
    measured = StageRecord.read(run.pseudo_labels(round_index) / "shift").result
    auc, error = measured["auc"], measured["standard_error"]
    strong = auc is not None and auc >= config.shift.strong_auc and auc - 2 * error > 0.5
    return {
        **measured,
        "strong": strong,
        "words": _shift_in_words(measured, config, strong_auc=config.shift.strong_auc, strong=strong),
    }


def _shift_in_words(measured: Mapping[str, Any], config: RunConfig, *, strong_auc: float, strong: bool) -> str:
    if measured["auc"] is None:
        return f"not measured: {measured['note']}"
    told = (
        "a classifier tells the pool from the validation faces by the teacher's features with an AUC of "
        f"{measured['auc']:.2f} ± {measured['standard_error']:.2f}"
    )
    if not strong:
        return f"{told}: not strong (strong_auc {strong_auc:g}, and two standard errors above 0.5)"
    if isinstance(config.selection, PrecisionGuarantee):
        return f"the guarantee was made under strong shift ({told}): it was tested on faces unlike those it speaks of"
    return f"strong ({told}): what validation faces say may not hold for the pool"


def decision_so_far(config: RunConfig, run: RunDir, round_index: int) -> ReviewDecision | None:
    """Give the decision that counts for the round as it is now; one on another manifest is passed over, in words."""
    decision = standing_decision(config, run, round_index)
    if decision is None and (other := read_decision(run, round_index)) is not None:
        logger.warning(
            "round %d: %s; but that was on another selection (manifest %s), so it is asked again",
            round_index,
            other.words,
            other.manifest_digest[:12],
        )
    return decision


def ask_review(
    config: RunConfig, run: RunDir, round_index: int, flow_run: WaitingFlowRun | None = None
) -> ReviewRequest:
    """Put a round's manifest before a person. Writes request.md, an audit's sheet and pages, then request.json.

    Args:
        config: the run's.
        run: the run's directory.
        round_index: whose selection was made.
        flow_run: what goes on by itself when the decision comes; None if the person starts the run again.
    """
    path = run.pseudo_labels(round_index) / "manifest.parquet"
    manifest, digest = read_manifest(path), digest_file(path)
    audited = run.review(round_index) / f"audit-{digest[:12]}"  # a sheet may hold answers: each manifest has its own
    num_audited, sheets = _draw_sheets(manifest, audited, seed=config.seed)
    answers = audited / "audit.csv" if sheets else None
    inputs = selection_inputs(config, run, round_index)
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
        basis=basis_of(inputs),
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
    """Say what a run waits for, and the commands by which it goes on."""
    change = "" if request.confidence_threshold is None else " --threshold NUMBER,"
    return (
        f"round {request.round_index} of run '{request.run_name}' waits for a person to decide on its selection; "
        f"nothing was trained on it\n"
        f"  read    {run.review(request.round_index) / 'request.md'}\n"
        f"  decide  ssl-pipeline cycle resume {run.root} --accept   (or{change} --reject)\n"
        f"  go on   by the same command again, or: {run.command}"
    )


def ask_on_terminal(run: RunDir, request: ReviewRequest, page: str, console: Console) -> ReviewDecision:
    """Show what is asked, and ask by standard input.

    Args:
        run: the run's directory.
        request: what is asked.
        page: the same to read, Markdown.
        console: where to show and ask.

    Raises:
        ReviewError: if the answer cannot be used.
        ReviewPending: if the input ends before the person has decided.
    """
    console.print(Markdown(page))
    choices = ["accept", *([] if request.confidence_threshold is None else ["threshold"]), "reject"]
    try:
        choice = Prompt.ask("Decide", choices=choices, console=console)
        threshold = _ask_number(console) if choice == "threshold" else None
        note = Prompt.ask("Note", default="", show_default=False, console=console)
    except EOFError:
        raise ReviewPending(waiting_message(run, request)) from None
    return take_decision(
        request,
        choice,  # type: ignore[arg-type] # Prompt gives nothing else
        confidence_threshold=threshold,
        note=note,
        by=getpass.getuser(),
        way="terminal",
    )


def _ask_number(console: Console) -> float:
    while True:
        text = Prompt.ask("Threshold", console=console)
        try:
            return float(text)
        except ValueError:
            console.print(f"'{text}': expected a number above 0 and up to 1", style="red", highlight=False)


def _draw_sheets(manifest: Manifest, directory: Path, *, seed: int) -> tuple[int, list[Path]]:
    """Draw accepted labels as `manifest audit` does; none where none is accepted, nothing where it was done before."""
    labels = accepted_labels(manifest)
    if labels.empty:
        return 0, []
    drawn = sample_audit(manifest, num=max(NUM_AUDITED, labels["stratum"].nunique()), seed=seed)
    if (directory / "audit.csv").is_file():  # written last, and may hold answers
        return len(drawn), sorted(directory.glob("audit-*.png"))
    title = f"{manifest.path}: {len(drawn):,} accepted labels"
    pages, _ = render_audit_sheets(directory, drawn["image_path"].tolist(), captions(drawn), title=title)
    write_sheet(directory / "audit.csv", drawn)
    return len(drawn), pages
