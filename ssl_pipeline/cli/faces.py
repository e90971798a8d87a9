"""`ssl-pipeline faces inspect`: counts, rejection reasons and contact sheets of a config's sources."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from ssl_pipeline.config.faces import Role
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.faces.inspection import ColumnSummary, count_reasons, sample_faces, summarize_columns
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import SourceFaces, read_source, source_name
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.files import atomic_path

faces_app = typer.Typer(no_args_is_help=True, help="Inspect the sources of a config.")

MAX_VALUES_SHOWN, MAX_REASONS_SHOWN = 12, 8
TILE = 112  # pixels


@faces_app.callback()
def _faces() -> None:
    """Make `inspect` a subcommand although it is the only one."""


@faces_app.command("inspect")
def inspect(
    config: Annotated[Path, typer.Option("--config", help="A YAML config.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a contact sheet of sample faces to this .png file.")
    ] = None,
    per_source: Annotated[int, typer.Option("--per-source", min=1, max=100, help="Sample faces per source.")] = 16,
) -> None:
    """Count found, known and rejected faces per source, and draw a contact sheet; nothing is prepared or trained."""
    if out is not None and out.suffix != ".png":
        raise ConfigError(f"--out {out}: expected a name that ends with .png")
    loaded = load_config(config, overrides=overrides or [])
    labels, console = loaded.labels.space, Console(highlight=False)
    corrections = Corrections.read(loaded.faces.correction_paths, loaded.labels)
    counts, sheets = [], []
    for role, source in loaded.faces.roles:
        faces = read_source(
            source, root=loaded.faces.root, labels=loaded.labels, seed=loaded.seed, corrections=corrections
        )
        counts.append(faces.corrections)
        console.print(_heading(faces, role, source), style="bold", soft_wrap=True)
        console.print(_table(faces, labels))
        if out is not None:
            sheets.append(_sheet(faces, role, source, labels, size=per_source, seed=loaded.seed))
    if corrections.rows:
        totals = corrections.report(CorrectionCounts.total(counts))["counts"]
        console.print("corrections: " + ", ".join(f"{name} {number:,}" for name, number in totals.items()))
    if out is not None:
        _save(sheets, out)
        console.print(f"contact sheet written to {out}", soft_wrap=True)


def _heading(faces: SourceFaces, role: Role, source: Source) -> str:
    counts = {
        "usable": len(faces.faces),
        "rejected": len(faces.rejected),
        "passed over": len(faces.passed_over),
        "filtered": faces.num_filtered,
        "beyond the limit": faces.num_beyond_limit,
    }
    parts = " + ".join(f"{number:,} {name}" for name, number in counts.items() if number or name == "usable")
    return f"{source_name(source)} ({source.type}, {role}): {faces.num_found:,} found = {parts}"


def _table(faces: SourceFaces, labels: LabelSpace) -> Table:
    table = Table(show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for name, summary in summarize_columns(faces.faces, labels).items():
        table.add_row(name, f"{summary.num_known:,} known", _format_values(summary, len(faces.faces)))
    table.add_section()
    reasons = count_reasons(faces.rejected["reason"].tolist()).most_common()
    for reason, number in reasons[:MAX_REASONS_SHOWN]:
        table.add_row("rejected", f"{number:,} ×", reason)
    if rest := reasons[MAX_REASONS_SHOWN:]:
        table.add_row("rejected", f"{sum(number for _, number in rest):,} ×", f"{len(rest)} other reasons")
    return table


def _format_values(summary: ColumnSummary, num_faces: int) -> str:
    values = list(summary.values.items())
    shown = [
        value if " … " in value else f"{value} {number:,}"  # a range of ages needs no count
        for value, number in values[:MAX_VALUES_SHOWN]
    ]
    rest = [f"{len(values) - MAX_VALUES_SHOWN} more values"] if len(values) > MAX_VALUES_SHOWN else []
    unknown = [f"unknown {num_faces - summary.num_known:,}"] if summary.num_known < num_faces else []
    return ", ".join([*shown, *rest, *unknown])


def _sheet(faces: SourceFaces, role: Role, source: Source, labels: LabelSpace, *, size: int, seed: int) -> Image.Image:
    from ssl_pipeline.reports.contact_sheet import contact_sheet

    images, captions = [], []
    for face in sample_faces(faces, labels, size=size, seed=seed).to_dict("records"):
        picture = read_picture(face["image_path"])
        if isinstance(picture, str):
            images.append(Image.new("RGB", (TILE, TILE), "lightgray"))
            captions.append(f"cannot be read: {picture}")
        else:
            images.append(picture)
            captions.append(_caption(face, labels))
    title = _heading(faces, role, source)
    return contact_sheet(images, captions, columns=min(size, 8), title=title, side=TILE)


def _caption(face: dict[Any, Any], labels: LabelSpace) -> str:
    """List the known labels of a face."""
    values = [str(face[name]) for name in labels.names if isinstance(face[name], str)]
    details = [] if math.isnan(face["age_years"]) else [f"{face['age_years']:g} years"]
    details += [face["origin"]] if isinstance(face["origin"], str) else []
    return "\n".join(", ".join(line) for line in (values, details) if line) or "nothing known"


def _save(sheets: list[Image.Image], out: Path) -> None:
    from ssl_pipeline.reports.contact_sheet import stack_sheets

    with atomic_path(out) as partial:
        stack_sheets(sheets).save(partial, format="PNG")
