"""Embedding Atlas: a Parquet file of faces with their pictures, labels and, where features are at hand, a map.

Shapes: N faces.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.labels import FloatArray, LabelSpace
from ssl_pipeline.reports.spreadsheets import export_parquet

X, Y = "projection_x", "projection_y"
SIDE = 96
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

Projection = Callable[[list[str]], FloatArray]
"""From image ids [N] to the map, float [N, 2]; NaN: unknown."""


def write_embedding_atlas(
    path: Path, parts: Iterable[pd.DataFrame], labels: LabelSpace, projection: Projection | None = None
) -> int:
    """Write a file to open with ``embedding-atlas FILE --image image --x projection_x --y projection_y``.

    Columns: image_id, image (WebP of at most 96 pixels, null if it cannot be opened), status, source, reason, confidence,
    and per attribute its value, confidence, status and reason.

    Args:
        path: ends with .parquet.
        parts: rows of a manifest.
        labels: the attributes.
        projection: of the map; None: without.

    Returns:
        The number of faces.

    Raises:
        ManifestError: if the name has another ending.
    """
    texts = ["image_id", "status", "source", "reason", *labels.names]
    texts += [f"{name}_{suffix}" for name in labels.names for suffix in ("status", "reason")]
    numbers = ["confidence", *(f"{name}_confidence" for name in labels.names)]
    fields = [
        ("image", _PICTURE),
        *((name, pa.string()) for name in texts),
        *((name, pa.float64()) for name in numbers),
    ]
    schema = pa.schema([*fields, *([(X, pa.float64()), (Y, pa.float64())] if projection is not None else [])])

    def table(part: pd.DataFrame) -> pa.Table:
        columns: dict[str, object] = {"image": [_picture(str(image)) for image in part["image_path"]]}
        columns |= {name: part[name].astype(object).where(part[name].notna(), None).tolist() for name in texts}
        columns |= {name: part[name].to_numpy(float, na_value=float("nan")) for name in numbers}
        if projection is not None:
            columns[X], columns[Y] = projection(part["image_id"].tolist()).T
        arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    small = (part.iloc[start : start + 1000] for part in parts for start in range(0, len(part), 1000))
    return export_parquet(path, map(table, small), schema)


def _picture(path: str) -> dict[str, object] | None:
    picture = read_picture(path)
    if isinstance(picture, str):
        return None
    picture.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    picture.convert("RGB").save(encoded, format="WEBP", quality=80)
    return {"bytes": encoded.getvalue(), "path": path}
