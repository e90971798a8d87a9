"""`ssl-pipeline export`: a model as one file for other programs."""

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
            help="A finished run's folder, which stands for the model that it promoted, or a best.safetensors."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default beside the checkpoint.")
    ] = None,
    to: Annotated[Literal["onnx"], typer.Option("--to", help="The format.")] = "onnx",
) -> None:
    """Export a network: pixels in, calibrated probabilities out; checked against torch on faces of its run."""
    from ssl_pipeline.inference.onnx_export import check_parity, export_onnx
    from ssl_pipeline.learning.checkpoint import load_checkpoint
    from ssl_pipeline.runs.directory import model_of
    from ssl_pipeline.runs.files import digest_file, write_json

    checkpoint = load_checkpoint(model_of(model))
    out = out or checkpoint.path.with_suffix(f".{to}")
    if out.suffix != f".{to}":
        raise CheckpointError(f"--out {out}: expected a name that ends with .{to}")
    export_onnx(checkpoint, out)
    faces, source = _faces(checkpoint.path, checkpoint.image_size)
    parity = check_parity(checkpoint.path, out, faces)
    record = {
        "checkpoint": digest_file(checkpoint.path),
        "exported": digest_file(out),
        "faces": source,
        "num_faces": parity.num_images,
        "largest_difference": parity.largest_difference,
    }
    write_json(out.with_name(f"{out.stem}.export.json"), record)
    Console(markup=False).print(
        f"written to {out}: input pixels, uint8 [N, 3, {checkpoint.image_size}, {checkpoint.image_size}], RGB; outputs "
        f"probabilities and {', '.join(checkpoint.labels.names)}. On {parity.num_images} {source} its probabilities differ "
        f"from torch's by at most {parity.largest_difference:.1e}.",
        highlight=False,
        soft_wrap=True,
    )


def _faces(checkpoint: Path, size: int) -> "tuple[npt.NDArray[np.uint8], str]":
    """Return validation faces of the checkpoint's run; where there are none of this size, random pictures."""
    import numpy as np

    from ssl_pipeline.faces.pixels import open_pixels
    from ssl_pipeline.faces.table import read_faces

    folder = checkpoint.absolute().parent.parent.parent / "faces"  # RUN/round-…/model/best.safetensors
    if (folder / "labeled.parquet").is_file():
        pixels, labeled = open_pixels(folder / "pixels.npy"), read_faces(folder / "labeled.parquet")
        rows = labeled.loc[labeled["split"] == "validation", "pixel_row"].to_numpy(np.int64)[:_NUM_FACES]
        if pixels.shape[1] == size and len(rows):
            return np.array(pixels[rows]), "validation faces of the run"
    return np.random.default_rng(0).integers(0, 256, (16, size, size, 3), np.uint8), "random pictures"
