"""`ssl-pipeline labels check`: the human labels of a run that look wrong, as a table and as corrections to keep or delete."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ssl_pipeline.cli.cycle import RunArgument, find_run
from ssl_pipeline.errors import FaceTableError

if TYPE_CHECKING:
    import pandas as pd

    from ssl_pipeline.stages.label_check import LabelCheck

labels_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Find human labels that look wrong.")


@labels_app.callback()
def _labels() -> None:
    """Make `check` a subcommand although it is the only one."""


@labels_app.command("check")
def labels_check(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write all of them as a table of faces.corrections to this .csv file.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", min=1, help="Labels to show.")] = 50,
) -> None:
    """List the labels of the training and validation faces that look wrong, the likeliest first.

    Writes label_errors.parquet into the run. Nothing else changes before a person has looked: delete the rows of --out whose
    label is right, and name the file in the config's faces.corrections.
    """
    from ssl_pipeline.config.loading import load_config
    from ssl_pipeline.runs.files import atomic_path
    from ssl_pipeline.stages.label_check import check_labels

    if out is not None and (out.suffix != ".csv" or out.is_dir()):
        raise FaceTableError(f"--out {out}: expected a file name that ends with .csv")
    directory = find_run(run)
    found = check_labels(load_config(directory.root / "config.yaml"), directory)
    console = Console(markup=False, highlight=False)
    console.print(_table(found.table, limit))
    console.print(_words(found))
    if out is not None:
        with atomic_path(out) as partial:
            _corrections(found.table).to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
        console.print(
            f"{len(found.table):,} rows written to {out}; keep those that you agree with, and name the file in "
            "faces.corrections",
            soft_wrap=True,
        )


def _table(rows: "pd.DataFrame", limit: int) -> object:
    from ssl_pipeline.reports.tables import add_row, decimal, new_table

    title = f"{min(limit, len(rows)):,} of {len(rows):,} labels that look wrong, the likeliest first"
    table = new_table(title, "image", "attribute", "given", "likely", "score", "reason", left=4)
    table.columns[-1].justify = "left"
    for row in rows.head(limit).to_dict("records"):
        cells = (row[name] for name in ("image_id", "attribute", "label", "likely_label"))
        add_row(table, *cells, decimal(row["score"]), row["reason"])
    return table


def _words(found: "LabelCheck") -> str:
    counts = found.result["per_attribute"].items()
    expected = ", ".join(f"{name} {number['num_expected']:,} of {number['num_labels']:,}" for name, number in counts)
    return (
        f"Expected to be wrong (confident joint): {expected}. Training faces were predicted by "
        f"{found.result['predictions']}, validation faces by the teacher; test faces are never listed."
    )


def _corrections(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table of corrections: image_id, attribute, value (the likely label) and a note."""
    from ssl_pipeline.runs.spreadsheet_cells import without_formulas

    notes = [
        f"was {row.label}; {row.kind}, score {row.score:.3f}: {row.reason}" for row in rows.itertuples(index=False)
    ]
    columns = rows[["image_id", "attribute", "likely_label"]].rename(columns={"likely_label": "value"})
    return columns.assign(note=notes).apply(without_formulas)
