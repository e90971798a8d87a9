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
from ssl_pipeline.cli.manifest import manifest_app
from ssl_pipeline.cli.plot import plot_app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import PredictionConfig, RunConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, PipelineError
from ssl_pipeline.runs.storage.remote import local_copy

if TYPE_CHECKING:
    from ssl_pipeline.inference.voting import SoftVote

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Pseudo-labels for face attributes.")
app.add_typer(manifest_app, name="manifest")
app.add_typer(plot_app, name="plot")
app.add_typer(faces_app, name="faces")
app.add_typer(cycle_app, name="cycle")

ConfigPath = Annotated[Path, typer.Option("--config", help="A YAML config.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")]
RunName = Annotated[str | None, typer.Option("--run-name", help="Names the folder under data/runs.")]
CheckpointPath = Annotated[
    Path, typer.Option("--checkpoint", parser=local_copy, help="A best.safetensors; or its URL, as s3://….")
]


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
    from ssl_pipeline.stages.evaluate import judge_split
    from ssl_pipeline.stages.open import open_run
    from ssl_pipeline.stages.prepare import prepare

    loaded: RunConfig = load_config(config, overrides=overrides or [], run_name=run_name)
    predictor = Predictor.load(checkpoint, loaded.prediction, labels=loaded.labels.space, device=loaded.device)
    check_image_size(predictor.checkpoint, loaded.faces.image_size)
    with open_run(loaded) as run:
        prepare(loaded, run)
        scores = judge_split(predictor, loaded, run, split).scores
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
