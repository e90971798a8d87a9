"""`ssl-pipeline init`: a first config from a folder or table of labeled faces and a folder of unlabeled ones."""

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_pipeline.config.base import ATTRIBUTE_NAME
from ssl_pipeline.errors import ConfigError, PipelineError
from ssl_pipeline.faces.discovery import Discovery, FoundColumn, discover
from ssl_pipeline.runs.run_progress import duration

if TYPE_CHECKING:
    from ssl_pipeline.faces.label_choice import LabelChoice
    from ssl_pipeline.stages.expectations import Expectations

_PERSON, _NOTHING = "person", "nothing"


def init(
    labeled: Annotated[
        Path,
        typer.Argument(
            help="Labeled faces: a folder per class (or a zip or tar of them), a table, or a public face set."
        ),
    ],
    unlabeled: Annotated[
        Path, typer.Option("--unlabeled", help="The pool: a folder, archive, table or public face set.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The config to write; by default named like LABELED.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Extend this config; by default one that fits this machine.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take what was found.")] = False,
) -> None:
    """Write a first config for your faces, and say what it can be expected to give."""
    from ssl_pipeline.cli.faces import quiet
    from ssl_pipeline.faces.label_choice import choose_labels
    from ssl_pipeline.stages.draft import draft_config
    from ssl_pipeline.stages.expectations import estimate_seconds, expect

    if labeled.resolve() == unlabeled.resolve():
        raise ConfigError(f"{labeled}: the labeled faces and the pool are the same; give the pool a folder of its own")
    run_name = re.sub(r"[^A-Za-z0-9._-]+", "-", labeled.resolve().stem).strip("-._") or "mine"
    out = out or Path(f"{run_name}.yaml")
    if out.exists():
        raise ConfigError(f"{out} exists already; give another name with --out, or delete it")
    console = Console(highlight=False, markup=False)
    found = discover(labeled)
    console.print(_described(labeled, found))
    if not yes and not found.is_face_set and sys.stdin.isatty():
        found = replace(found, columns=tuple(map(_ask, found.columns)))
    pool, choice = discover(unlabeled), choose_labels(found)
    command = f"ssl-pipeline init {shlex.quote(str(labeled))} --unlabeled {shlex.quote(str(unlabeled))}"
    draft = draft_config(found, pool, choice, run_name=run_name, command=command, preset=preset)
    config = draft.write(out)
    try:
        with quiet("ssl_pipeline.faces"):  # the table says the same
            expected = expect(config)
    except PipelineError:
        out.unlink()  # no config for faces that cannot be used
        raise
    seconds = estimate_seconds(config, num_train=expected.splits["train"], num_pool=expected.num_pool)
    console.print(_report(out, draft.preset, choice, expected, seconds))


def _described(path: Path, found: Discovery) -> str:
    kind = {"folder": "images", "csv": "rows", "webdataset": "samples"}.get(
        found.source["type"], f"images of {found.source['type']}"
    )
    return f"{path}: {len(found.cells):,} {kind}"


def _ask(column: FoundColumn) -> FoundColumn:
    """Ask what a column means that was taken for an attribute or for persons."""
    if column.meaning not in ("attribute", "person_id"):
        return column
    values = ", ".join(f"{value} {number:,}" for value, number in list(column.values.items())[:5])
    more = f" and {len(column.values) - 5:,} more" if len(column.values) > 5 else ""
    typer.echo(f"{column.key}: {values}{more}")
    guess = _PERSON if column.meaning == "person_id" else column.name
    while True:
        answer = typer.prompt(f"  an attribute's name, '{_PERSON}' or '{_NOTHING}'", default=guess).strip()
        if answer == _PERSON:
            return replace(column, meaning="person_id")
        if answer == _NOTHING:
            return replace(column, meaning="nothing")
        if answer == guess or re.match(ATTRIBUTE_NAME, answer):
            return replace(column, meaning="attribute", name=answer)
        typer.echo("  lower-case letters, digits or '_', the first a letter, e.g. hair_color")


def _report(out: Path, preset: str, choice: "LabelChoice", expected: "Expectations", seconds: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def add(title: str, text: str) -> None:
        table.add_row(title, Text(text))

    for name, counts in choice.counts.items():
        add(name, ", ".join(f"{value} {number:,}" for value, number in counts.items()))
    people = "unknown" if choice.num_people is None else f"{choice.num_people:,}"
    splits = ", ".join(f"{split} {number:,}" for split, number in expected.splits.items())
    add("faces", f"{splits}; pool {expected.num_pool:,}; people {people}")
    for text in (*choice.notes, *expected.warnings):
        add("look at", text)
    for text in expected.prospects:
        add("expect", text)
    add("time", f"{duration(seconds)} on this machine at rest, measured by a few steps with random weights")
    add("written", f"{out}, which extends {preset}")
    command = f"ssl-pipeline run {shlex.quote(str(out))}"
    add("try", f"{command} --trial   (every stage on little, in a minute or two)")
    add("next", command)
    return table
