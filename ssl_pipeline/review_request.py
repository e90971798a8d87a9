"""Asking a person about a round's selection: the summary, the sheet of an audit, the request; on a terminal, the answer."""

import getpass
import logging
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.prompt import Prompt

from ssl_pipeline.config import RunConfig
from ssl_pipeline.errors import ReviewPending
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.manifest_audit import accepted_labels, captions, draw_audit, write_sheet
from ssl_pipeline.pseudo_labels.manifest_report import summarize
from ssl_pipeline.reports.audit_sheet import draw_audit_sheets
from ssl_pipeline.reports.review_page import review_markdown
from ssl_pipeline.review import Decision, FlowRun, Request, read_decision, take_decision, write_request
from ssl_pipeline.runs import RunDir, digest_file, write_text
from ssl_pipeline.selection_review import basis_of, selection_inputs, standing_decision

logger = logging.getLogger(__name__)

NUM_AUDITED = 100
"""Accepted labels drawn for the person to look at; more where there are more values."""


def decision_so_far(config: RunConfig, run: RunDir, round_index: int) -> Decision | None:
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


def ask_review(config: RunConfig, run: RunDir, round_index: int, flow_run: FlowRun | None = None) -> Request:
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
    request = Request(
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


def read_page(run: RunDir, request: Request) -> str:
    """Read the Markdown of a request."""
    return (run.review(request.round_index) / "request.md").read_text(encoding="utf-8")


def waiting_message(run: RunDir, request: Request) -> str:
    """Say what a run waits for, and the commands by which it goes on."""
    change = "" if request.confidence_threshold is None else " --threshold NUMBER,"
    return (
        f"round {request.round_index} of run '{request.run_name}' waits for a person to decide on its selection; "
        f"nothing was trained on it\n"
        f"  read    {run.review(request.round_index) / 'request.md'}\n"
        f"  decide  ssl-pipeline cycle resume {run.root} --accept   (or{change} --reject)\n"
        f"  go on   by the same command again, or: {run.command}"
    )


def ask_on_terminal(run: RunDir, request: Request, page: str, console: Console) -> Decision:
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
    drawn = draw_audit(manifest, num=max(NUM_AUDITED, labels["stratum"].nunique()), seed=seed)
    if (directory / "audit.csv").is_file():  # written last, and may hold answers
        return len(drawn), sorted(directory.glob("audit-*.png"))
    title = f"{manifest.path}: {len(drawn):,} accepted labels"
    pages, _ = draw_audit_sheets(directory, drawn["image_path"].tolist(), captions(drawn), title=title)
    write_sheet(directory / "audit.csv", drawn)
    return len(drawn), pages
