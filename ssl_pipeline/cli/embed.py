"""`ssl-pipeline embed`: write features of images by a timm network or an ONNX file.

Modules that need torch are imported inside the functions, so that the other commands start without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError
from typer import Option

from ssl_pipeline.config.messages import describe_faults
from ssl_pipeline.config.run import Device
from ssl_pipeline.config.teachers import OnnxEmbedding, TimmEmbedding
from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults

if TYPE_CHECKING:
    from ssl_pipeline.learning.embedders import Embedder

_SHOWN = 5


def embed(
    source: Annotated[Path, typer.Argument(help="A folder of images at any depth, a list of paths, or a YAML config.")],
    out: Annotated[Path, Option("--out", help="A .parquet file: image_path (of a config also image_id), vector.")],
    architecture: Annotated[str | None, Option(help="A timm network, pretrained unless --weights-file.")] = None,
    weights_file: Annotated[Path | None, Option(help="Weights of the architecture, from a file.")] = None,
    onnx: Annotated[Path | None, Option(help="An ONNX file, run by OpenCV.")] = None,
    image_size: Annotated[int | None, Option(help="Side in pixels that the network sees.")] = None,
    center_crop: Annotated[float, Option(help="Centered square that it sees, as a fraction of the side.")] = 1.0,
    mirror: Annotated[bool, Option(help="Average with the features of the mirrored face.")] = True,
    mean: Annotated[str | None, Option(help="Of the ONNX file's input, three numbers: 0.5,0.5,0.5.")] = None,
    std: Annotated[str | None, Option(help="Of the ONNX file's input, three numbers.")] = None,
    channels: Annotated[str | None, Option(help="Of the ONNX file's input: rgb or bgr.")] = None,
    input_name: Annotated[str | None, Option(help="Of the ONNX file.")] = None,
    output_name: Annotated[str | None, Option(help="Of the ONNX file.")] = None,
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 128,
    precision: Annotated[Literal["auto", "fp32", "bf16"], Option()] = "auto",
    device: Annotated[Device, Option()] = "auto",
) -> None:
    """Write features of images, for a teacher of type features; an image that cannot be read is named and left out.

    Of a config, the features of its faces, cropped as the run's; of a folder, those of the centered squares.
    """
    from ssl_pipeline.faces.feature_table import write_feature_table
    from ssl_pipeline.learning.device import Compute
    from ssl_pipeline.learning.embedders import build_embedder

    if out.suffix != ".parquet":
        raise ConfigError(f"--out {out}: expected a name that ends with .parquet")
    if (architecture is None) == (onnx is None):
        raise ConfigError("name the network: either --architecture NAME or --onnx FILE")
    common = {"center_crop": center_crop, "mirror": mirror, "image_size": image_size}
    of_onnx = {"mean": _numbers(mean), "std": _numbers(std), "channels": channels}
    of_onnx |= {"input_name": input_name, "output_name": output_name}
    if onnx is None and (given := [name for name, value in of_onnx.items() if value is not None]):
        raise ConfigError(f"--{given[0].replace('_', '-')} is for --onnx: timm's networks say it themselves")
    own = {"architecture": architecture, "weights_file": weights_file} if onnx is None else {"file": onnx, **of_onnx}
    settings = {name: value for name, value in {**common, **own}.items() if value is not None}
    section = TimmEmbedding if onnx is None else OnnxEmbedding
    try:
        embedder = build_embedder(section.model_validate(settings))
    except ValidationError as error:
        raise ConfigError(list_of_faults("options", describe_faults(error, section))) from None
    compute: Any = Compute.build(device, precision)
    of_config = source.suffix in (".yaml", ".yml")
    keys, features = (_of_config if of_config else _of_images)(embedder, source, compute, batch_size)
    write_feature_table(out, keys, features)
    typer.echo(f"{len(features):,} images, {features.shape[1]:,} features each, written to {out}")


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"expected three numbers, e.g. 0.5,0.5,0.5, got {text!r}") from None


def _of_config(
    embedder: "Embedder", path: Path, compute: Any, batch_size: int
) -> tuple[dict[str, list[str]], npt.NDArray[np.float32]]:
    """Embed all faces of a config's run, prepared in a temporary folder if they are not."""
    import pandas as pd

    from ssl_pipeline.config.loading import load_config
    from ssl_pipeline.faces.pixels import open_pixels
    from ssl_pipeline.faces.table import read_faces
    from ssl_pipeline.learning.embedders import embed_faces
    from ssl_pipeline.runs.progress import ProgressBar
    from ssl_pipeline.stages.open import open_faces

    with open_faces(load_config(path)) as run:
        faces = pd.concat([read_faces(run.faces / f"{table}.parquet") for table in ("labeled", "unlabeled")])
        faces = faces[faces["pixel_row"] >= 0].drop_duplicates("image_id")
        rows, pixels = faces["pixel_row"].to_numpy(np.int64), open_pixels(run.faces / "pixels.npy")
        with ProgressBar("features", len(rows), unit="faces") as bar:
            features = embed_faces(embedder, pixels, rows, compute=compute, batch_size=batch_size, on_batch=bar.advance)
    return {name: faces[name].tolist() for name in ("image_id", "image_path")}, features


def _of_images(
    embedder: "Embedder", images: Path, compute: Any, batch_size: int
) -> tuple[dict[str, list[str]], npt.NDArray[np.float32]]:
    """Embed the images of a folder or list."""
    from ssl_pipeline.inference.embedding import embed_files
    from ssl_pipeline.inference.files import find_images

    names: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    failures: list[tuple[str, str]] = []
    for batch, features, failed in embed_files(
        embedder, find_images(images).files, compute=compute, batch_size=batch_size
    ):
        names += batch
        parts += [features] if batch else []
        failures += failed
    if failures:
        shown = [f"{name}: {reason}" for name, reason in failures]
        typer.echo(
            list_of_faults(f"left out, since they cannot be read: {len(failures):,}", shown, at_most=_SHOWN), err=True
        )
    if not names:
        raise FaceTableError(f"{images}: not one image could be read")
    return {"image_path": names}, np.concatenate(parts)
