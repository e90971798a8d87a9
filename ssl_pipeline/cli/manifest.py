"""`ssl-pipeline manifest …`: summarize, show, explain, compare, export and audit pseudo-label manifests.

What auditing needs is imported inside the functions: SciPy's distributions take seconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.pseudo_labels.difference import difference
from ssl_pipeline.pseudo_labels.explanation import describe_face, explain
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.summary import filter_faces, summarize
from ssl_pipeline.reports.manifest_tables import (
    render_audit,
    render_difference,
    render_explanation,
    render_face,
    render_faces,
    render_selection,
    render_summary,
)
from ssl_pipeline.reports.spreadsheets import export_manifest
from ssl_pipeline.runs.answers import read_answers
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.storage.remote import local_copy

if TYPE_CHECKING:
    import pandas as pd

manifest_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="See what was pseudo-labeled, how surely and why."
)

ManifestPath = Annotated[Path, typer.Argument(parser=local_copy, help="A manifest.parquet of a run; or its URL.")]


@manifest_app.command("summary")
def manifest_summary(manifest: ManifestPath) -> None:
    """Count what was accepted and rejected, by attribute, value and reason, and say by which thresholds."""
    opened = read_manifest(manifest)
    Console(markup=False).print(render_summary(summarize(opened), opened.path))
    Console(markup=False).print(render_selection(opened.selection))


@manifest_app.command("show")
def manifest_show(
    manifest: ManifestPath,
    image: Annotated[str | None, typer.Option("--image", help="Everything about one face, by its image id.")] = None,
    status: Annotated[
        Literal["accepted", "rejected", "unreadable"] | None, typer.Option(help="Only faces of this status.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option("--where", help="attribute=value; may be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="Only faces of this source.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only faces with this text in a reason, e.g. as `manifest summary` lists it.")
    ] = None,
    sort: Annotated[
        Literal["confidence", "-confidence", "image_id"], typer.Option(help="A leading - sorts downwards.")
    ] = "-confidence",
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
) -> None:
    """Show faces of a manifest as a table, or one of them in full."""
    opened = read_manifest(manifest)
    if image is not None:
        Console(markup=False).print(render_face(describe_face(opened, image)))
        return
    filters = {}
    for condition in where or []:
        attribute, equals, value = condition.partition("=")
        if not equals:
            raise ManifestError(f"--where {condition}: expected attribute=value, as gender=female")
        filters[attribute] = value
    rows = filter_faces(opened, status=status, attribute_values=filters, source=source, reason=reason, sort=sort)
    Console(markup=False).print(render_faces(rows, opened.labels.names, limit=limit))


@manifest_app.command("explain")
def manifest_explain(
    manifest: ManifestPath, image_id: Annotated[str, typer.Argument(help="As `manifest show` lists it.")]
) -> None:
    """Show every number behind the decisions on one face, and what people answered about it."""
    opened = read_manifest(manifest)
    answers = read_answers(RunDir.around(opened.path).answers)
    Console(markup=False).print(render_explanation(explain(opened, image_id, answers), opened.selection))


@manifest_app.command("diff")
def manifest_diff(
    before: ManifestPath,
    after: Annotated[Path, typer.Argument(parser=local_copy, help="Another manifest over the same labels.")],
    examples: Annotated[int, typer.Option(min=0, help="Examples of each kind of change.")] = 3,
) -> None:
    """Count the pseudo-labels that one manifest gained, lost or changed against another."""
    opened = read_manifest(after)
    truth = _hidden_truth(after, opened.identity.faces_digest)
    changes = difference(read_manifest(before), opened, truth=truth, num_examples=examples)
    Console(markup=False).print(render_difference(changes, before=before, after=after))


@manifest_app.command("export")
def manifest_export(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option("--out", help="A .csv or .parquet file.")],
) -> None:
    """Write a manifest as CSV, a column for each class's probability."""
    opened = read_manifest(manifest)
    num_rows = export_manifest(out, opened.table, opened.faces, opened.probabilities, opened.labels.class_names)
    Console(markup=False).print(f"{num_rows:,} faces written to {out}", highlight=False)


@manifest_app.command("audit")
def manifest_audit(
    manifest: ManifestPath,
    sample: Annotated[int, typer.Option(min=1, help="Labels to look at; of every value as many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same one draws the same labels.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for the faces and the sheet to fill in.")] = None,
    answers: Annotated[Path | None, typer.Option("--answers", help="The sheet, filled in.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write what the answers say here.")] = None,
) -> None:
    """Draw accepted labels for a person to judge, or tell from the answers how pure they are."""
    from ssl_pipeline.pseudo_labels.audit import audit, sample_audit
    from ssl_pipeline.reports.audit_sheet import read_answers
    from ssl_pipeline.runs.files import write_json

    if (out is None) == (answers is None):
        raise ManifestError("give --out to draw a sheet, or --answers to read the one that was filled in")
    if json_file is not None and answers is None:
        raise ManifestError("--json goes with --answers")
    opened = read_manifest(manifest)
    drawn = sample_audit(opened, num=sample, seed=seed)
    if answers is not None:
        found = audit(
            opened, drawn, read_answers(answers, drawn), _hidden_truth(manifest, opened.identity.faces_digest)
        )
        Console(markup=False).print(render_audit(found))
        if json_file is not None:
            write_json(json_file, found)
    elif out is not None:
        _draw_audit(drawn, out, title=f"{manifest}: {len(drawn):,} accepted labels, --sample {sample} --seed {seed}")


def _hidden_truth(manifest: Path, faces_digest: str) -> "pd.DataFrame | None":
    """What the run of a manifest knows of its pool and hid, if the run still has the faces of this manifest."""
    import pandas as pd

    from ssl_pipeline.runs.directory import RunDir
    from ssl_pipeline.runs.files import digest_of
    from ssl_pipeline.runs.records import finished_stage

    run = RunDir.around(manifest)
    try:
        record = finished_stage(run.faces, cure="")
    except RunError:
        return None
    if digest_of(record.outputs) != faces_digest:
        return None
    return pd.read_parquet(run.faces / "unlabeled_truth.parquet")


def _draw_audit(drawn: "pd.DataFrame", out: Path, *, title: str) -> None:
    from ssl_pipeline.pseudo_labels.audit import captions
    from ssl_pipeline.reports.audit_sheet import render_audit_sheets, write_sheet

    sheet = out / "audit.csv"
    if out.exists() and not out.is_dir():
        raise ManifestError(f"--out {out}: is a file; give a folder")
    if sheet.exists():
        raise ManifestError(f"--out {out}: audit.csv there may hold answers; give another folder, or delete it")
    pages, unreadable = render_audit_sheets(out, drawn["image_path"].tolist(), captions(drawn), title=title)
    write_sheet(sheet, drawn)
    lines = [f"{len(drawn):,} labels drawn; look at {', '.join(map(str, pages))}; answer yes, no or unsure in {sheet}"]
    if unreadable:
        lines.append(f"{len(unreadable):,} pictures cannot be opened; mend them and draw again, or answer unsure:")
        lines += [f"  {number}. {drawn['image_path'][number - 1]}: {why}" for number, why in unreadable.items()]
    Console(markup=False).print("\n".join(lines), highlight=False, soft_wrap=True)
