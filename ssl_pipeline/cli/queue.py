"""`ssl-pipeline queue`: choose the faces of a run's pool that a person should label next."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from ssl_pipeline.cli.cycle import RunArgument, find_run
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.reports.tables import add_row, new_table
from ssl_pipeline.runs.files import atomic_path, write_text
from ssl_pipeline.runs.spreadsheet_cells import without_formulas

_SHOWN = 10


def queue(
    run: RunArgument,
    num_faces: Annotated[int, typer.Option("-n", "--num-faces", min=1, help="Faces to choose.")] = 100,
    by: Annotated[
        Literal["random", "uncertainty", "clusters"],
        typer.Option(help="How; measured in docs/queue.md."),
    ] = "random",
    seed: Annotated[int, typer.Option(min=0, help="The same one chooses the same faces.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="A .csv, or a .json of Label Studio's tasks; else RUN/queue.csv.")
    ] = None,
) -> None:
    """Choose the faces of a run's pool that a person should label next.

    Never a face that people answered about already. `ssl-pipeline answers import` reads the answers.
    """
    from ssl_pipeline.stages.queue import COLUMNS, choose_faces, label_studio_interface, label_studio_tasks

    directory = find_run(run)
    out = out or directory.root / "queue.csv"
    if out.suffix not in (".csv", ".json"):
        raise RunError(f"--out {out}: expected a .csv, or a .json for Label Studio")
    config = load_config(directory.root / "config.yaml")
    faces = choose_faces(config, directory, num_faces, by=by, seed=seed)
    if out.suffix == ".json":
        write_text(out, json.dumps(label_studio_tasks(faces, root=config.faces.root), indent=1, ensure_ascii=False))
        write_text(out.with_suffix(".xml"), label_studio_interface(config.labels.space))
    else:
        with atomic_path(out) as partial:
            faces[list(COLUMNS)].assign(reason=without_formulas(faces["reason"])).to_csv(partial, index=False)
    table = new_table(f"The first of {len(faces):,} faces, by {by}", "face", "score", "reason")
    table.columns[-1].justify = "left"
    for face in faces.head(_SHOWN).to_dict("records"):
        add_row(table, face["image_id"], f"{face['score']:.2f}", face["reason"])
    console = Console(markup=False, highlight=False)
    console.print(table)
    interface = f"; labeling interface: {out.with_suffix('.xml')}" if out.suffix == ".json" else ""
    console.print(f"{len(faces):,} faces written to {out}{interface}", soft_wrap=True)
