"""`ssl-pipeline faces …`: what a config's sources hold, before anything is prepared."""

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
from ssl_pipeline.faces.inspection import Known, kinds_of, known_of, picture_of, sample_of
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import SourceFaces, read_source, source_name
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.files import atomic_path

faces_app = typer.Typer(no_args_is_help=True, help="See what the sources of a config hold.")

MAX_VALUES_SHOWN, MAX_REASONS_SHOWN = 12, 8
TILE = 112  # pixels


@faces_app.callback()
def _faces() -> None:
    """Keep `inspect` a command of its own, though it is the only one."""


@faces_app.command("inspect")
def inspect(
    config: Annotated[Path, typer.Option("--config", help="A YAML config.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Draw a few faces a source into this .png file.")] = None,
    per_source: Annotated[int, typer.Option("--per-source", min=1, max=100, help="Faces to draw a source.")] = 16,
) -> None:
    """Count what each source has, knows and loses, and draw a contact sheet; nothing is prepared or trained."""
    if out is not None and out.suffix != ".png":
        raise ConfigError(f"--out {out}: expected a name that ends with .png")
    loaded = load_config(config, overrides=overrides or [])
    labels, console = loaded.labels.space, Console(highlight=False)
    corrections = Corrections.read(loaded.faces.correction_paths, loaded.labels)
    counts, sheets = [], []
    for role, source in loaded.faces.roles:
        found = read_source(
            source, root=loaded.faces.root, labels=loaded.labels, seed=loaded.seed, corrections=corrections
        )
        counts.append(found.corrections)
        console.print(_heading(found, role, source), style="bold", soft_wrap=True)
        console.print(_table(found, labels))
        if out is not None:
            sheets.append(_sheet(found, role, source, labels, size=per_source, seed=loaded.seed))
    if corrections.rows:
        account = corrections.account(CorrectionCounts.total(counts))["counts"]
        console.print("corrections: " + ", ".join(f"{name} {number:,}" for name, number in account.items()))
    if out is not None:
        _save(sheets, out)
        console.print(f"contact sheet written to {out}", soft_wrap=True)


def _heading(found: SourceFaces, role: Role, source: Source) -> str:
    counts = {
        "usable": len(found.faces),
        "rejected": len(found.rejected),
        "filtered": found.num_filtered,
        "beyond the limit": found.num_beyond_limit,
    }
    parts = " + ".join(f"{number:,} {name}" for name, number in counts.items() if number or name == "usable")
    return f"{source_name(source)} ({source.type}, {role}): {found.num_found:,} found = {parts}"


def _table(found: SourceFaces, labels: LabelSpace) -> Table:
    table = Table(show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for name, known in known_of(found.faces, labels).items():
        table.add_row(name, f"{known.num_known:,} known", _values_in_words(known, len(found.faces)))
    table.add_section()
    kinds = kinds_of(found.rejected["reason"].tolist()).most_common()
    for reason, number in kinds[:MAX_REASONS_SHOWN]:
        table.add_row("rejected", f"{number:,} ×", reason)
    if rest := kinds[MAX_REASONS_SHOWN:]:
        table.add_row("rejected", f"{sum(number for _, number in rest):,} ×", f"{len(rest)} other reasons")
    return table


def _values_in_words(known: Known, num_faces: int) -> str:
    shown = [
        value if " … " in value else f"{value} {number:,}"  # a span of ages is the count's own
        for value, number in list(known.values.items())[:MAX_VALUES_SHOWN]
    ]
    rest = [f"{len(known.values) - MAX_VALUES_SHOWN} more values"] if len(known.values) > MAX_VALUES_SHOWN else []
    unknown = [f"unknown {num_faces - known.num_known:,}"] if known.num_known < num_faces else []
    return ", ".join([*shown, *rest, *unknown])


def _sheet(found: SourceFaces, role: Role, source: Source, labels: LabelSpace, *, size: int, seed: int) -> Image.Image:
    from ssl_pipeline.reports.contact_sheet import contact_sheet

    images, captions = [], []
    for face in sample_of(found, labels, size=size, seed=seed).to_dict("records"):
        picture = picture_of(face["image_path"])
        unreadable = isinstance(picture, str)
        images.append(Image.new("RGB", (TILE, TILE), "lightgray") if isinstance(picture, str) else picture)
        captions.append(f"cannot be read: {picture}" if unreadable else _caption(face, labels))
    title = _heading(found, role, source)
    return contact_sheet(images, captions, columns=min(size, 8), title=title, side=TILE)


def _caption(face: dict[Any, Any], labels: LabelSpace) -> str:
    """Say what is known of a face; what is not is left out."""
    values = [str(face[name]) for name in labels.names if isinstance(face[name], str)]
    beside = [] if math.isnan(face["age_years"]) else [f"{face['age_years']:g} years"]
    beside += [face["origin"]] if isinstance(face["origin"], str) else []
    return "\n".join(", ".join(line) for line in (values, beside) if line) or "nothing known"


def _save(sheets: list[Image.Image], out: Path) -> None:
    from ssl_pipeline.reports.contact_sheet import stack_sheets

    with atomic_path(out) as beside:
        stack_sheets(sheets).save(beside, format="PNG")
