"""`ssl-pipeline export`: a model as one file for other programs, or as a folder for a hub."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from ssl_pipeline.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NUM_FACES = 256


def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="A finished run's folder, which stands for the model that it promoted; for onnx also a best.safetensors."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file or folder to write; by default beside the checkpoint, or RUN/hub."),
    ] = None,
    to: Annotated[
        Literal["onnx", "hub"], typer.Option("--to", help="onnx: one file; hub: a folder with weights and cards.")
    ] = "onnx",
) -> None:
    """Export a model: to ONNX (pixels in, calibrated probabilities out; checked against torch), or for a model hub."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(_export_for_hub(model, out) if to == "hub" else _export_to_onnx(model, out))


def _export_for_hub(run: Path, out: Path | None) -> str:
    from ssl_pipeline.inference.hub_folder import write_hub_folder
    from ssl_pipeline.runs.directory import RunDir

    out = out or run / "hub"
    write_hub_folder(RunDir(run), out)
    return (
        f"written to {out}: model.safetensors, config.json, README.md (the model card), data_card.md. Choose a license in "
        f"README.md, then: hf upload USER/NAME {shlex.quote(str(out))}"
    )


def _export_to_onnx(model: Path, out: Path | None) -> str:
    from ssl_pipeline.inference.onnx_export import check_parity, export_onnx
    from ssl_pipeline.learning.checkpoint import load_checkpoint
    from ssl_pipeline.runs.directory import model_of
    from ssl_pipeline.runs.files import digest_file, write_json

    checkpoint = load_checkpoint(model_of(model))
    out = out or checkpoint.path.with_suffix(".onnx")
    if out.suffix != ".onnx":
        raise CheckpointError(f"--out {out}: expected a name that ends with .onnx")
    export_onnx(checkpoint, out)
    faces, source = _faces(checkpoint.path, checkpoint.image_size)
    try:
        parity = check_parity(checkpoint.path, out, faces)
    except CheckpointError:
        out.unlink()  # nobody should use it
        raise
    record = {
        "checkpoint": digest_file(checkpoint.path),
        "exported": digest_file(out),
        "faces": source,
        "num_faces": parity.num_images,
        "largest_difference": parity.largest_difference,
    }
    write_json(out.with_name(f"{out.stem}.export.json"), record)
    return (
        f"written to {out}: input pixels, uint8 [N, 3, {checkpoint.image_size}, {checkpoint.image_size}], RGB; outputs "
        f"probabilities and {', '.join(checkpoint.labels.names)}. On {parity.num_images} {source} its probabilities differ "
        f"from torch's by at most {parity.largest_difference:.1e}."
    )


def _faces(checkpoint: Path, size: int) -> "tuple[npt.NDArray[np.uint8], str]":
    """Return validation faces of the checkpoint's run; where there are none of this size, random pictures."""
    import numpy as np

    from ssl_pipeline.faces.pixels import open_pixels
    from ssl_pipeline.faces.table import read_faces
    from ssl_pipeline.runs.directory import RunDir

    folder = RunDir.around(checkpoint).faces
    if (folder / "labeled.parquet").is_file():
        pixels, labeled = open_pixels(folder / "pixels.npy"), read_faces(folder / "labeled.parquet")
        rows = labeled.loc[labeled["split"] == "validation", "pixel_row"].to_numpy(np.int64)[:_NUM_FACES]
        if pixels.shape[1] == size and len(rows):
            return np.array(pixels[rows]), "validation faces of the run"
    return np.random.default_rng(0).integers(0, 256, (16, size, size, 3), np.uint8), "random pictures"
