"""`ssl-pipeline predict`: predict images into a table or a submission.

Modules that need torch are imported inside the functions, so that the other commands start without it.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ValidationError
from rich.console import Console
from typer import Argument, Option

from ssl_pipeline.config.run import Device, EngineName, PredictionConfig
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.inference.files import check_exists
from ssl_pipeline.inference.table_format import TableFormat, format_of
from ssl_pipeline.runs.directory import model_of
from ssl_pipeline.runs.storage.remote import local_copy

if TYPE_CHECKING:
    from ssl_pipeline.faces.cropper import Cropper
    from ssl_pipeline.inference.table import PredictionCounts
    from ssl_pipeline.inference.voting import SoftVote


def predict(
    model: Annotated[
        str | None,
        Argument(
            help="A finished run's folder, which stands for the model that it promoted, or a best.safetensors, or its URL."
        ),
    ] = None,
    images: Annotated[
        Path | None, Argument(help="A folder at any depth, an image, or a .txt or .csv list of paths.")
    ] = None,
    out: Annotated[
        Path | None, Option("--out", help="A .csv, .json or .parquet file, or - for standard output.", allow_dash=True)
    ] = None,
    table_format: Annotated[
        TableFormat | None, Option("--format", help="Format of --out; by default its suffix, CSV for -.")
    ] = None,
    vote_with: Annotated[
        list[str] | None,
        Option("--vote-with", help="Another model: the mean of all their probabilities; may be repeated."),
    ] = None,
    weights: Annotated[list[float] | None, Option("--weight", help="Weight of a model, in their order.")] = None,
    submission: Annotated[
        Path | None, Option("--submission", help="An info.csv: write ImageID,ans in the order of its rows.")
    ] = None,
    fallback_class: Annotated[
        str | None, Option(help="For a submission's unreadable images: a class id, or 'most-common'.")
    ] = None,
    flip: Annotated[bool, Option("--flip/--no-flip", help="Average with the mirrored face.")] = True,
    zooms: Annotated[
        list[float] | None, Option("--zoom", help="1 (the whole face) to 2; repeat it to average several views.")
    ] = None,
    crop: Annotated[
        Path | None, Option("--crop", help="YuNet's ONNX file: crop as the checkpoint's faces were cropped.")
    ] = None,
    no_crop: Annotated[bool, Option("--no-crop", help="The images are cropped already.")] = False,
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 256,
    device: Annotated[Device, Option()] = "auto",
    engine: Annotated[EngineName, Option(help="openvino is faster on a CPU; an extra.")] = "torch",
    old_checkpoint: Annotated[list[str] | None, Option("--checkpoint", hidden=True)] = None,
    old_images: Annotated[str | None, Option("--images", hidden=True)] = None,
    old_probabilities: Annotated[bool, Option("--probabilities", hidden=True)] = False,
) -> None:
    """Predict images, with all probabilities; one that cannot be read gets a row with the reason, or stops a submission."""
    if old_checkpoint or old_images or old_probabilities:
        raise ConfigError(_new_form(old_checkpoint or [model or "MODEL"], old_images or str(images or "IMAGES"), out))
    if model is None or images is None or out is None:
        missing = "MODEL" if model is None else "IMAGES" if images is None else "--out FILE"
        raise ConfigError(
            f"{missing} is missing: ssl-pipeline predict MODEL IMAGES --out FILE, or --out - for the screen"
        )
    target = None if str(out) == "-" else out
    table_format = table_format or format_of(target)
    _check_output(out, images, submission, fallback_class, table_format)
    if crop is not None and no_crop:
        raise ConfigError("--crop and --no-crop exclude each other: give one of them")
    check_exists(images)
    settings = {"batch_size": batch_size, "horizontal_flip": flip, "zooms": tuple(zooms or (1.0,)), "engine": engine}
    try:
        config = PredictionConfig.model_validate(settings)
    except ValidationError:
        raise ConfigError(f"--zoom {zooms}: expected different numbers from 1 to 2") from None
    models = [model_of(local_copy(name)) for name in (model, *(vote_with or ()))]
    from ssl_pipeline.inference.framing import cropper_of
    from ssl_pipeline.inference.table import predict_images
    from ssl_pipeline.inference.voting import SoftVote

    predictor = SoftVote.load(models, config, weights=weights, device=device)
    framer = cropper_of(predictor.checkpoints, detector=crop, crop=not no_crop)
    if submission is None:
        counts = predict_images(predictor, images, target, framer=framer, table_format=table_format)
        _report(counts, images, target)
    else:
        _predict_submission(predictor, images, submission, out, fallback_class, framer)


def _check_output(
    out: Path, images: Path, submission: Path | None, fallback_class: str | None, table_format: TableFormat
) -> None:
    to_standard_output = str(out) == "-"
    if to_standard_output and (table_format == "parquet" or submission is not None):
        raise ConfigError("--out -: standard output takes tables as csv or json; name a file")
    if not to_standard_output and out.resolve() in (images.resolve(), submission and submission.resolve()):
        raise ConfigError(f"--out {out}: this file is an input; name another file")
    if submission is None and fallback_class is not None:
        raise ConfigError("--fallback-class needs --submission; in a table, unreadable images have their own rows")
    if submission is not None and out.suffix != ".csv":
        raise ConfigError(f"--out {out}: a submission is a .csv file")


def _new_form(models: list[str], images: str, out: Path | None) -> str:
    """Say how a command is written now that was written for an earlier release."""
    words = ["ssl-pipeline", "predict", models[0], images, *(f"--vote-with={name}" for name in models[1:])]
    return (
        "--checkpoint and --images are arguments now, and all probabilities are written: "
        f"{shlex.join([*words, '--out', str(out or 'FILE')])}"
    )


def _report(counts: "PredictionCounts", images: Path, out: Path | None) -> None:
    """Print the counts; on standard error if the table is on standard output."""
    passed_over = ""
    if counts.passed_over:
        passed_over = f" + {len(counts.passed_over):,} passed over (no images, e.g. {counts.passed_over[0]})"
    line = (
        f"{counts.num_found:,} file{'s' if counts.num_found != 1 else ''} found = {counts.num_read:,} predicted + "
        f"{counts.num_unreadable:,} unreadable{passed_over}"
    )
    if out is None:
        print(line, file=sys.stderr)  # noqa: T201 - output of the command
    else:
        _print(f"{line}; written to {out}")
    if counts.num_unreadable:
        num_more = counts.num_unreadable - len(counts.first_failures)
        lines = [
            *counts.first_failures,
            *([f"… and {num_more:,} more, listed in the column 'unreadable'"] if num_more else []),
        ]
        print(*(f"  {line}" for line in lines), sep="\n", file=sys.stderr)  # noqa: T201 - output of the command
    if not counts.num_read:
        raise FaceTableError(f"{images}: not one image could be read; the reasons are in {out or 'the table'}")


def _predict_submission(
    predictor: "SoftVote", images: Path, info: Path, out: Path, fallback_class: str | None, framer: "Cropper | None"
) -> None:
    from ssl_pipeline.inference.submission import predict_submission

    fallback: int | Literal["most-common"] | None
    match fallback_class:
        case None | "most-common":
            fallback = fallback_class
        case text if text.isascii() and text.isdigit():
            fallback = int(text)
        case _:
            raise ConfigError(f"--fallback-class {fallback_class}: expected a class id, or most-common")
    counts = predict_submission(predictor, images, info, out, fallback_class=fallback, framer=framer)
    _print(f"{counts.num_read:,} images predicted, written to {out}")
    if counts.num_filled:
        _print(
            f"{counts.num_filled:,} missing or unreadable, filled with class {counts.fallback_class}; "
            f"listed in {counts.failed}"
        )


def _print(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
