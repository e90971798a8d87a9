"""Features that a user brings, or that `ssl-pipeline embed` writes: a Parquet table of vectors.

Shapes: N faces, D features.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.runs.files import atomic_path

VECTOR = "vector"
_KEYS = ("image_id", "image_path")


def read_feature_table(path: Path, column: str = VECTOR) -> tuple[str, list[str], npt.NDArray[np.float32]]:
    """Read a table of features.

    Returns:
        Which key the rows have, `image_id` or `image_path`, the keys, N, and the vectors, float32 [N, D].

    Raises:
        FaceTableError: if it is no such table, or a key occurs twice.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise FaceTableError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise FaceTableError(f"{path}: cannot be read as Parquet ({error})") from None
    key = next((name for name in _KEYS if name in table.column_names), None)
    if key is None or column not in table.column_names:
        raise FaceTableError(
            f"{path}: expected the columns image_id or image_path, and {column!r}; it has {table.column_names}"
        )
    keys = [str(value) for value in table[key].to_pylist()]
    if len(set(keys)) < len(keys):
        twice = pd.Series(keys)[pd.Series(keys).duplicated()].iloc[0]
        raise FaceTableError(f"{path}: the {key} '{twice}' occurs more than once")
    lists = table[column].combine_chunks()
    if not isinstance(lists.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType) or lists.null_count:
        raise FaceTableError(f"{path}: column '{column}': expected a list of numbers in every row, got {lists.type}")
    lengths = set(pc.list_value_length(lists).to_pylist())
    try:
        values = lists.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise FaceTableError(f"{path}: column '{column}': expected lists of numbers, got {lists.type}") from None
    if len(lengths) != 1 or not np.isfinite(values).all():
        raise FaceTableError(f"{path}: column '{column}': expected finite numbers, equally many in every row")
    vectors = values.reshape(len(keys), -1)
    return key, keys, vectors


def features_of_faces(path: Path, column: str, faces: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Read the features of faces, float32 [N, D].

    A table with image ids is matched by them. One with image paths is matched by the path in the face table, or by the
    path in the source's folder, as `ssl-pipeline embed` writes it.

    Args:
        path: a Parquet file.
        column: of the vectors.
        faces: N rows with image_id and image_path.

    Raises:
        FaceTableError: naming some of the faces that the table lacks, if any, and their number.
    """
    key, keys, vectors = read_feature_table(path, column)
    position = {value: row for row, value in enumerate(keys)}
    wanted = [faces["image_id"]] if key == "image_id" else [faces["image_path"], faces["image_id"].map(_relative_path)]
    rows = np.full(len(faces), -1, np.int64)
    for names in wanted:
        found = np.array([position.get(str(name), -1) for name in names], np.int64)
        rows = np.where(rows < 0, found, rows)
    if (missing := rows < 0).any():
        examples = ", ".join(wanted[-1][missing].head(3))
        raise FaceTableError(
            f"{path}: no features of {int(missing.sum()):,} of {len(faces):,} faces of the run, e.g. {key} {examples}; "
            f"it has {len(keys):,}, e.g. {keys[0] if keys else 'none'}; write them with ssl-pipeline embed"
        )
    return vectors[rows]


def write_feature_table(path: Path, keys: dict[str, list[str]], vectors: npt.NDArray[np.float32]) -> None:
    """Write a table of features, atomically: the keys, e.g. image_path, and the vectors, float32 [N, D]."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    columns = {name: pa.array(column, pa.string()) for name, column in keys.items()}
    with atomic_path(path) as partial:
        pq.write_table(pa.table({**columns, VECTOR: values}), partial)


def _relative_path(image_id: str) -> str:
    return image_id.split(":", 1)[1]
