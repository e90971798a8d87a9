"""`ssl-pipeline manifest …`: summarize, show, explain, compare, export and audit pseudo-label manifests.

What a command needs is imported inside it: pandas and SciPy's distributions take seconds. All but `audit` read a manifest
batch by batch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.runs.storage.remote import local_copy

if TYPE_CHECKING:
    import pandas as pd

    from ssl_pipeline.pseudo_labels.face_filter import FaceFilter

manifest_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="See what was pseudo-labeled, how surely and why."
)

ManifestPath = Annotated[Path, typer.Argument(parser=local_copy, help="A manifest.parquet of a run; or its URL.")]
Status = Annotated[
    Literal["accepted", "rejected", "unreadable"] | None, typer.Option("--status", help="Only faces of this status.")
]
Where = Annotated[list[str] | None, typer.Option("--where", help="attribute=value; may be repeated.")]
Source = Annotated[str | None, typer.Option("--source", help="Only faces of this source.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Only faces with this text in a reason, e.g. as `manifest summary` lists it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@manifest_app.command("summary")
def manifest_summary(
    manifest: ManifestPath,
    status: Status = None,
    where: Where = None,
    source: Source = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Count what was accepted and rejected, by attribute, value and reason, and say by which thresholds."""
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
    from ssl_pipeline.pseudo_labels.summary import summarize
    from ssl_pipeline.reports.manifest_tables import render_selection, render_summary

    file = open_manifest(manifest).filtered(_filter(status, where, source, reason))
    counted = summarize(file)
    if as_json:
        _print_json(counted)
        return
    Console(markup=False).print(render_summary(counted, file.path))
    Console(markup=False).print(render_selection(file.selection))


@manifest_app.command("show")
def manifest_show(
    manifest: ManifestPath,
    image: Annotated[str | None, typer.Option("--image", help="Everything about one face, by its image id.")] = None,
    status: Status = None,
    where: Where = None,
    source: Source = None,
    reason: Reason = None,
    sort: Annotated[
        Literal["confidence", "-confidence", "image_id"], typer.Option(help="A leading - sorts downwards.")
    ] = "-confidence",
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show faces of a manifest as a table, or one of them in full."""
    from ssl_pipeline.pseudo_labels.explanation import describe_face
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
    from ssl_pipeline.pseudo_labels.summary import first_faces
    from ssl_pipeline.reports.manifest_tables import render_face, render_faces

    file = open_manifest(manifest)
    if image is not None:
        described = describe_face(file, image)
        _print_json(described) if as_json else Console(markup=False).print(render_face(described))
        return
    rows, num_faces = first_faces(file.filtered(_filter(status, where, source, reason)), sort=sort, limit=limit)
    if as_json:
        _print_json({"num_faces": num_faces, "faces": rows.astype(object).to_dict("records")})
        return
    Console(markup=False).print(render_faces(rows, file.labels.names, num_faces=num_faces))


@manifest_app.command("explain")
def manifest_explain(
    manifest: ManifestPath,
    image_id: Annotated[str, typer.Argument(help="As `manifest show` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Show every number behind the decisions on one face, and what people answered about it."""
    from ssl_pipeline.pseudo_labels.explanation import explain
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
    from ssl_pipeline.reports.manifest_tables import render_explanation
    from ssl_pipeline.runs.answers import read_answers
    from ssl_pipeline.runs.directory import RunDir

    file = open_manifest(manifest)
    faces = explain(file, image_id, read_answers(RunDir.around(file.path).answers))
    if as_json:
        _print_json(faces)
        return
    Console(markup=False).print(render_explanation(faces, file.selection))


@manifest_app.command("diff")
def manifest_diff(
    before: ManifestPath,
    after: Annotated[Path, typer.Argument(parser=local_copy, help="Another manifest over the same labels.")],
    examples: Annotated[int, typer.Option(min=0, help="Examples of each kind of change.")] = 3,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Count the pseudo-labels that one manifest gained, lost or changed against another."""
    from ssl_pipeline.pseudo_labels.difference import difference
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
    from ssl_pipeline.reports.manifest_tables import render_difference

    chosen = _filter(None, None, source, None)
    files = [open_manifest(path).filtered(chosen) for path in (before, after)]
    truth = _hidden_truth(after, files[1].identity.faces_digest)
    changes = difference(*files, truth=truth, num_examples=examples)
    if as_json:
        _print_json(changes)
        return
    Console(markup=False).print(render_difference(changes, before=before, after=after))


@manifest_app.command("export")
def manifest_export(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option("--out", help="A .csv or .parquet file; for fiftyone, label-studio a folder.")],
    to: Annotated[
        Literal["csv", "parquet", "fiftyone", "label-studio", "embedding-atlas"] | None,
        typer.Option("--to", help="For whom; by default as the name of --out ends."),
    ] = None,
    status: Status = None,
    where: Where = None,
    source: Source = None,
    reason: Reason = None,
) -> None:
    """Write the rows of a manifest for others: a spreadsheet, or a tool that shows faces (docs/exports.md)."""
    from ssl_pipeline.cli.manifest_exports import EXPORTS
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest

    kind = to or out.suffix.removeprefix(".")
    if kind not in EXPORTS:
        raise ManifestError(f"--out {out}: expected a name that ends with .csv or .parquet, or --to")
    file = open_manifest(manifest).filtered(_filter(status, where, source, reason))
    console = Console(markup=False)
    for line in EXPORTS[kind](file, out):
        console.print(line, highlight=False, soft_wrap=True)


def _filter(status: str | None, where: list[str] | None, source: str | None, reason: str | None) -> "FaceFilter":
    from ssl_pipeline.pseudo_labels.face_filter import FaceFilter

    values = {}
    for condition in where or []:
        attribute, equals, value = condition.partition("=")
        if not equals:
            raise ManifestError(f"--where {condition}: expected attribute=value, as gender=female")
        values[attribute] = value
    return FaceFilter(status, values, source, reason)


def _print_json(content: Any) -> None:
    """Print JSON on standard output; what is missing or not a number is null."""
    import json
    import math

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if hasattr(value, "item"):
            value = value.item()
        is_missing = type(value).__name__ == "NAType" or (isinstance(value, float) and not math.isfinite(value))
        return None if is_missing else value

    typer.echo(json.dumps(plain(content), indent=2, ensure_ascii=False))


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
    from ssl_pipeline.pseudo_labels.manifest import read_manifest
    from ssl_pipeline.reports.audit_sheet import read_answers
    from ssl_pipeline.reports.manifest_tables import render_audit
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
