"""CSV files for spreadsheets, without formulas; a manifest's rows as CSV or Parquet."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import FloatArray
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.spreadsheet_cells import safe_cell, without_formulas

_ROWS_PER_CHUNK = 50_000


def export_manifest(
    path: Path, table: pa.Table, faces: pd.DataFrame, probabilities: FloatArray, class_names: Sequence[str]
) -> int:
    """Write a manifest as CSV, with one column ``p_<class>`` per class, or as Parquet.

    Args:
        path: ends with .csv or .parquet; written atomically.
        table: the manifest, written to .parquet unchanged.
        faces: its N rows without the class probabilities, written to .csv.
        probabilities: float [N, K].
        class_names: [K].

    Returns:
        The number of rows.

    Raises:
        ManifestError: if the name has another ending, or is a folder.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ManifestError(f"{path}: expected a name that ends with .csv or .parquet")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; give a file name inside it")
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
            return len(faces)
        columns = [safe_cell(f"p_{name}") for name in class_names]
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            for start in range(0, max(len(faces), 1), _ROWS_PER_CHUNK):
                chunk = slice(start, start + _ROWS_PER_CHUNK)
                texts = faces.iloc[chunk].apply(without_formulas)
                rows = [texts, pd.DataFrame(probabilities[chunk], columns=columns, index=texts.index)]
                pd.concat(rows, axis=1).to_csv(file, index=False, header=start == 0, lineterminator="\n")
    return len(faces)
