"""`ssl-pipeline faces inspect`: counts, rejection reasons and contact sheets of a config's sources."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.faces.arrangement import PEOPLE_UNKNOWN, arrange_faces
from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.faces.inspection import ColumnSummary, sample_faces, summarize_columns
from ssl_pipeline.faces.inventory import FaceInventory, group_reasons, read_inventory
from ssl_pipeline.faces.sources.reading import source_name
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.files import atomic_path

faces_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Inspect the sources of a config.")

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
    decode: Annotated[
        int, typer.Option("--decode", min=1, help="Decode at most so many faces, a sample if there are more.")
    ] = 10_000,
) -> None:
    """Count found, known and rejected faces per source, run the checks of `prepare`, and draw a contact sheet.

    Nothing is kept but the sheet and the cache of detected faces. Exits with 1 if a run would stop.
    """
    if out is not None and out.suffix != ".png":
        raise ConfigError(f"--out {out}: expected a name that ends with .png")
    loaded = load_config(config, overrides=overrides or [])
    labels, console = loaded.labels.space, Console(highlight=False, markup=False)
    inventory = read_inventory(loaded.faces, loaded.labels, seed=loaded.seed)
    num_faces, fault = len(inventory.faces), None
    with TemporaryDirectory() as directory, quiet("ssl_pipeline.faces"):
        pixels = Path(directory) / "pixels.npy"
        try:
            arrange_faces(inventory, loaded.faces, loaded.labels, seed=loaded.seed, pixels=pixels, max_decoded=decode)
        except FaceTableError as error:
            fault = error
        is_decoded = pixels.exists()
    for _, source in loaded.faces.roles:
        console.print(_heading(inventory, source), style="bold", soft_wrap=True)
        console.print(_table(inventory, source_name(source), labels))
    if inventory.corrections["rows"]:
        totals = inventory.corrections["counts"]
        console.print("corrections: " + ", ".join(f"{name} {number:,}" for name, number in totals.items()))
    console.print(_decoded(min(num_faces, decode) if is_decoded else 0, num_faces), soft_wrap=True)
    labeled = inventory.faces[inventory.faces["role"] != "unlabeled"]
    if len(labeled) and not labeled["has_person"].any():
        console.print(PEOPLE_UNKNOWN, soft_wrap=True)
    if out is not None:
        sheets = [
            _sheet(inventory, source, labels, size=per_source, seed=loaded.seed) for _, source in loaded.faces.roles
        ]
        _save(sheets, out)
        console.print(f"contact sheet written to {out}", soft_wrap=True)
    if fault is not None:
        raise fault


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Drop the warnings of a logger: the tables show the same."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _decoded(num_decoded: int, num_faces: int) -> str:
    if num_decoded == 0:
        return "no face was decoded"
    if num_decoded == num_faces:
        return f"all {num_faces:,} faces were decoded"
    return (
        f"a sample of {num_decoded:,} of the {num_faces:,} faces was decoded (--decode {num_faces} for all); near "
        "duplicates were not searched"
    )


def _heading(inventory: FaceInventory, source: Source) -> str:
    name = source_name(source)
    counts = inventory.counts_by_source()[name]
    parts = {
        "usable": counts["used"],
        **{part.replace("_", " "): counts[part] for part in ("rejected", "passed_over", "filtered")},
        "beyond the limit": counts["beyond_limit"],
    }
    text = " + ".join(f"{number:,} {part}" for part, number in parts.items() if number or part == "usable")
    return f"{name} ({source.type}, {counts['role']}): {counts['found']:,} found = {text}"


def _table(inventory: FaceInventory, name: str, labels: LabelSpace) -> Table:
    faces = inventory.faces[inventory.faces["source"] == name]
    table = Table(show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for column, summary in summarize_columns(faces, labels).items():
        table.add_row(column, f"{summary.num_known:,} known", _format_values(summary, len(faces)))
    table.add_section()
    rejected = inventory.rejected[inventory.rejected["source"] == name]
    groups = group_reasons(rejected["reason"].tolist())
    for group in groups[:MAX_REASONS_SHOWN]:
        path = rejected["image_path"].iloc[group.position]
        example = path if group.detail in (None, str(path)) else f"{group.detail} in {path}"
        table.add_row("rejected", f"{group.number:,} ×", Text(f"{group.text}\ne.g. {example}"))
    if rest := groups[MAX_REASONS_SHOWN:]:
        table.add_row("rejected", f"{sum(group.number for group in rest):,} ×", f"{len(rest)} other reasons")
    if passed_over := inventory.passed_over[name]:
        table.add_row("passed over", f"{len(passed_over):,} ×", Text(f"no image\ne.g. {passed_over[0]}"))
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


def _sheet(inventory: FaceInventory, source: Source, labels: LabelSpace, *, size: int, seed: int) -> Image.Image:
    from ssl_pipeline.reports.contact_sheet import contact_sheet

    images, captions = [], []
    faces = inventory.faces[inventory.faces["source"] == source_name(source)]
    for face in sample_faces(faces, labels, size=size, seed=seed).to_dict("records"):
        picture = read_picture(face["image_path"])
        if isinstance(picture, str):  # beyond the sample that was decoded
            images.append(Image.new("RGB", (TILE, TILE), "lightgray"))
            captions.append(f"cannot be read: {picture}")
        else:
            images.append(picture)
            captions.append(_caption(face, labels))
    return contact_sheet(images, captions, columns=min(size, 8), title=_heading(inventory, source), side=TILE)


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
