"""`ssl-pipeline answers …`: count, export and import what people answered about a run's labels."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ssl_pipeline.cli.cycle import RunArgument, find_run
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.faces.answer_tables import new_answers, write_corrections
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.reports.comparison import answers_sentence
from ssl_pipeline.reports.tables import add_row, new_table
from ssl_pipeline.runs.answers import append_answers, read_answers, verdicts

answers_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Count, export and import people's answers about a run's labels."
)

_STATES = ("labeled", "rejected", "disputed", "unsure")


@answers_app.command("summary")
def summary(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the answered labels, and say which of them the next training uses."""
    from ssl_pipeline.stages.answers import RunAnswers

    directory = find_run(run)
    used = RunAnswers.read(load_config(directory.root / "config.yaml"), directory)
    said = verdicts(read_answers(directory.answers))
    states: dict[str, Counter[str]] = {}
    for (_, attribute), verdict in said.items():
        states.setdefault(attribute, Counter())[verdict.state] += 1
    counts: dict[str, Any] = {
        "labels": {name: {state: number[state] for state in _STATES} for name, number in sorted(states.items())},
        "reviewers": sorted({vote.reviewer for verdict in said.values() for vote in verdict.votes}),
        "next_training": used.counts,
        "unused": dict(used.unused),
    }
    if as_json:
        typer.echo(json.dumps(counts, indent=2, ensure_ascii=False))
        return
    table = new_table(f"Answered labels, by {', '.join(counts['reviewers']) or 'nobody'}", "attribute", *_STATES)
    for name, number in counts["labels"].items():
        add_row(table, name, *(f"{number[state]:,}" for state in _STATES))
    console = Console(markup=False)
    console.print(table)
    console.print(f"The next student: {answers_sentence(used.counts)}" if used.labels else "No label changes.")
    for reason, num_labels in used.unused.items():
        console.print(f"Not used: {num_labels:,} {reason}.")


@answers_app.command("export")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="The CSV file to write.")] = Path("corrections.csv"),
) -> None:
    """Write what people agree on as a table for `faces.corrections` of any config."""
    said = verdicts(read_answers(find_run(run).answers))
    num_rows = write_corrections(out, said)
    left_out = f"; {len(said) - num_rows:,} disputed or unsure ones have no row" if num_rows < len(said) else ""
    typer.echo(f"{num_rows:,} labels written to {out}{left_out}; to use them: faces.corrections: [{out}]")


@answers_app.command("import")
def import_(
    run: RunArgument,
    file: Annotated[
        Path, typer.Argument(help="A CSV with image_id, attribute, value (and reviewer, time); or Label Studio's JSON.")
    ],
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who answered, where the file does not say.")] = "",
) -> None:
    """Add answers from a table, or from Label Studio; an empty value rejects a label."""
    directory = find_run(run)
    tables = [read_faces(directory.faces / f"{name}.parquet") for name in ("unlabeled", "labeled")]
    hashes = {
        name: content for faces in tables for name, content in zip(faces.image_id, faces.content_hash, strict=True)
    }
    labels = load_config(directory.root / "config.yaml").labels.space
    before = read_answers(directory.answers)
    answers = new_answers(file, content_hashes=hashes, labels=labels, before=before, reviewer=reviewer)
    append_answers(directory.answers, answers)
    typer.echo(
        f"{len(answers):,} new answers in {directory.answers}; to train with them: {directory.command}; "
        f"to count them: ssl-pipeline answers summary {directory.root}"
    )
