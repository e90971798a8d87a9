"""The `ssl-pipeline` command: inspect faces, open manifests, predict images, evaluate checkpoints, draw schedules. Flows are run by `python -m flows.…`.

What needs torch is imported where it is used: a manifest opens without the seconds that torch takes to load.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from ssl_pipeline.cli.cycle import cycle_app
from ssl_pipeline.cli.faces import faces_app
from ssl_pipeline.cli.plot import plot_app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import PredictionConfig, RunConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, ManifestError, PipelineError
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.manifest_audit import (
    audit,
    captions,
    read_answers,
    render_audit,
    sample_audit,
    write_sheet,
)
from ssl_pipeline.pseudo_labels.manifest_difference import render_difference
from ssl_pipeline.pseudo_labels.manifest_explanation import render_explanation, render_selection
from ssl_pipeline.pseudo_labels.manifest_report import export_csv, render_face, render_rows, render_summary
from ssl_pipeline.runs.storage.remote import local_copy

if TYPE_CHECKING:
    import pandas as pd

    from ssl_pipeline.inference.voting import SoftVote

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Pseudo-labels for face attributes.")
manifest_app = typer.Typer(no_args_is_help=True, help="See what was pseudo-labeled, how surely and why.")
app.add_typer(manifest_app, name="manifest")
app.add_typer(plot_app, name="plot")
app.add_typer(faces_app, name="faces")
app.add_typer(cycle_app, name="cycle")

ManifestPath = Annotated[Path, typer.Argument(parser=local_copy, help="A manifest.parquet of a run; or its URL.")]
ConfigPath = Annotated[Path, typer.Option("--config", help="A YAML config.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")]
RunName = Annotated[str | None, typer.Option("--run-name", help="Names the folder under data/runs.")]
CheckpointPath = Annotated[
    Path, typer.Option("--checkpoint", parser=local_copy, help="A best.safetensors; or its URL, as s3://….")
]


@manifest_app.command("summary")
def manifest_summary(manifest: ManifestPath) -> None:
    """Count what was accepted and rejected, by attribute, value and reason, and say by which thresholds."""
    opened = read_manifest(manifest)
    Console().print(render_summary(opened))
    Console().print(render_selection(opened))


@manifest_app.command("show")
def manifest_show(
    manifest: ManifestPath,
    image: Annotated[str | None, typer.Option("--image", help="Everything about one face, by its image id.")] = None,
    status: Annotated[
        Literal["accepted", "rejected", "unreadable"] | None, typer.Option(help="Only faces of this status.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option("--where", help="attribute=value; may be repeated.")] = None,
    sort: Annotated[
        Literal["confidence", "-confidence", "image_id"], typer.Option(help="A leading - sorts downwards.")
    ] = "-confidence",
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
) -> None:
    """Show faces of a manifest as a table, or one of them in full."""
    opened = read_manifest(manifest)
    if image is not None:
        Console().print(render_face(opened, image))
        return
    filters = {}
    for condition in where or []:
        attribute, equals, value = condition.partition("=")
        if not equals:
            raise ManifestError(f"--where {condition}: expected attribute=value, as gender=female")
        filters[attribute] = value
    Console().print(render_rows(opened, status=status, attribute_values=filters, sort=sort, limit=limit))


@manifest_app.command("explain")
def manifest_explain(
    manifest: ManifestPath, image_id: Annotated[str, typer.Argument(help="As `manifest show` lists it.")]
) -> None:
    """Show every number behind the decisions on one face."""
    Console().print(render_explanation(read_manifest(manifest), image_id))


@manifest_app.command("diff")
def manifest_diff(
    before: ManifestPath,
    after: Annotated[Path, typer.Argument(parser=local_copy, help="Another manifest over the same labels.")],
    examples: Annotated[int, typer.Option(min=0, help="Examples of each kind of change.")] = 3,
) -> None:
    """Count the pseudo-labels that one manifest gained, lost or changed against another."""
    Console().print(render_difference(read_manifest(before), read_manifest(after), num_examples=examples))


@manifest_app.command("export")
def manifest_export(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option("--out", help="A .csv or .parquet file.")],
) -> None:
    """Write a manifest as CSV, a column for each class's probability."""
    num_rows = export_csv(read_manifest(manifest), out)
    Console().print(f"{num_rows:,} faces written to {out}", highlight=False)


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
    from ssl_pipeline.runs.files import write_json

    if (out is None) == (answers is None):
        raise ManifestError("give --out to draw a sheet, or --answers to read the one that was filled in")
    if json_file is not None and answers is None:
        raise ManifestError("--json goes with --answers")
    opened = read_manifest(manifest)
    drawn = sample_audit(opened, num=sample, seed=seed)
    if answers is not None:
        found = audit(opened, drawn, read_answers(answers, drawn), _hidden_truth(manifest))
        Console().print(render_audit(found))
        if json_file is not None:
            write_json(json_file, found)
    elif out is not None:
        _draw_audit(drawn, out, title=f"{manifest}: {len(drawn):,} accepted labels, --sample {sample} --seed {seed}")


def _hidden_truth(manifest: Path) -> "pd.DataFrame | None":
    """What the run of a manifest knows of its pool and hid, if the manifest lies where the run has written it."""
    import pandas as pd

    run = manifest.absolute().parent.parent.parent  # also of a path that has no three parents
    path = run / "faces" / "unlabeled_truth.parquet"
    return pd.read_parquet(path) if path.is_file() else None


def _draw_audit(drawn: "pd.DataFrame", out: Path, *, title: str) -> None:
    from ssl_pipeline.reports.audit_sheet import render_audit_sheets

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
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@app.command("predict")
def predict(
    checkpoints: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint",
            parser=local_copy,
            help="A best.safetensors, or its URL; several vote: the mean of probabilities.",
        ),
    ],
    images: Annotated[
        Path, typer.Option("--images", help="A folder at any depth, an image, or a .txt or .csv list of paths.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A .csv or .parquet file.")],
    weights: Annotated[
        list[float] | None, typer.Option("--weight", help="A checkpoint's weight, in the order of the checkpoints.")
    ] = None,
    submission: Annotated[
        Path | None, typer.Option("--submission", help="An info.csv: write ImageID,ans in the order of its rows.")
    ] = None,
    fallback_class: Annotated[
        str | None, typer.Option(help="Of a submission's unreadable images: a class id, or 'most-common'.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Average with the mirrored face.")] = True,
    zooms: Annotated[
        list[float] | None, typer.Option("--zoom", help="1 to 2; views to average, 1 the whole face; may be repeated.")
    ] = None,
    crop: Annotated[
        Path | None, typer.Option("--crop", help="YuNet's ONNX file: crop photographs to their largest face first.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
) -> None:
    """Predict images; one that cannot be read gets a row with the reason, or stops a submission."""
    from ssl_pipeline.inference.voting import SoftVote

    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: expected a name that ends with .csv or .parquet")
    if out.resolve() in (images.resolve(), submission and submission.resolve()):
        raise ConfigError(f"--out {out}: is itself read from; name another file")
    if submission is None and fallback_class is not None:
        raise ConfigError("--fallback-class goes with --submission; in a table unreadable images are rows of their own")
    if submission is not None and out.suffix != ".csv":
        raise ConfigError(f"--out {out}: a submission is a .csv file")
    if submission is not None and crop is not None:
        raise ConfigError("--crop goes with a table of predictions; a submission takes its images as they are")
    settings = {"batch_size": batch_size, "horizontal_flip": flip, "zooms": tuple(zooms or (1.0,))}
    try:
        config = PredictionConfig.model_validate(settings)
    except ValidationError:
        raise ConfigError(f"--zoom {zooms}: expected different numbers from 1 to 2") from None
    predictor = SoftVote.load(checkpoints, config, weights=weights, device=device)
    if submission is None:
        _predict_table(predictor, images, out, crop)
    else:
        _predict_submission(predictor, images, submission, out, fallback_class)


def _predict_table(predictor: "SoftVote", images: Path, out: Path, crop: Path | None) -> None:
    from ssl_pipeline.config.cropping import CroppingConfig
    from ssl_pipeline.faces.framing import uncached_framer
    from ssl_pipeline.inference.table import predict_images

    framer = None if crop is None else uncached_framer(CroppingConfig(model=crop))
    counts = predict_images(predictor, images, out, framer=framer)
    found = f"{counts.num_found:,} image{'s' if counts.num_found != 1 else ''} found"
    Console().print(
        f"{found}: {counts.num_read:,} predicted, {counts.num_unreadable:,} unreadable; written to {out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if counts.num_unreadable:
        rest = counts.num_unreadable - len(counts.first_failures)
        lines = [
            *counts.first_failures,
            *([f"… and {rest:,} more; the column 'unreadable' has them all"] if rest else []),
        ]
        print(*(f"  {line}" for line in lines), sep="\n", file=sys.stderr)  # noqa: T201 - a command's voice
    if not counts.num_read:
        raise FaceTableError(f"{images}: not one image could be read; the reasons are in {out}")


def _predict_submission(predictor: "SoftVote", images: Path, info: Path, out: Path, fallback_class: str | None) -> None:
    from ssl_pipeline.inference.submission import predict_submission

    fallback: int | Literal["most-common"] | None
    match fallback_class:
        case None | "most-common":
            fallback = fallback_class
        case text if text.isascii() and text.isdigit():
            fallback = int(text)
        case _:
            raise ConfigError(f"--fallback-class {fallback_class}: expected a class id, or most-common")
    counts = predict_submission(predictor, images, info, out, fallback_class=fallback)
    Console().print(
        f"{counts.num_read:,} images predicted, written to {out}", highlight=False, markup=False, soft_wrap=True
    )
    if counts.num_filled:
        Console().print(
            f"{counts.num_filled:,} missing or unreadable, filled with class {counts.fallback_class}; "
            f"listed in {counts.failed}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


@app.command("evaluate")
def evaluate(
    checkpoint: CheckpointPath,
    config: ConfigPath,
    overrides: Overrides = None,
    run_name: RunName = None,
    split: Annotated[
        Literal["validation", "test", "all"], typer.Option(help="Which labeled faces; 'all' includes those trained on.")
    ] = "test",
    out: Annotated[Path | None, typer.Option("--out", help="Also write the scores to this JSON file.")] = None,
    pictures: Annotated[Path | None, typer.Option("--pictures", help="Also draw the scores into this folder.")] = None,
) -> None:
    """Judge a checkpoint on the config's labeled faces: jointly, per attribute, per class and per group."""
    from ssl_pipeline.learning.predict import Predictor
    from ssl_pipeline.learning.shards import check_image_size
    from ssl_pipeline.reports.plots import plot_scores
    from ssl_pipeline.reports.scores import scores_tables
    from ssl_pipeline.runs.files import write_json
    from ssl_pipeline.stages.evaluate import evaluate_split
    from ssl_pipeline.stages.open import open_run
    from ssl_pipeline.stages.prepare import prepare

    loaded: RunConfig = load_config(config, overrides=overrides or [], run_name=run_name)
    predictor = Predictor.load(checkpoint, loaded.prediction, labels=loaded.labels.space, device=loaded.device)
    check_image_size(predictor.checkpoint, loaded.faces.image_size)
    with open_run(loaded) as run:
        prepare(loaded, run)
        scores = evaluate_split(predictor, loaded, run, split).scores
    for table in scores_tables(scores, title=f"{checkpoint} on {split}"):
        Console().print(table)
    if out is not None:
        write_json(out, scores)
    if pictures is not None:
        plot_scores(pictures, scores, title=f"{checkpoint.parent.name} on {split}")


def main() -> None:
    """Run the command; a user's mistake is one message and exit code 1."""
    try:
        app()
    except PipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command's voice
        sys.exit(1)


if __name__ == "__main__":
    main()
