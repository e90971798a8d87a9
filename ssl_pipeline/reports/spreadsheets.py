"""Rows of a manifest as a CSV file for spreadsheets, without formulas, or as Parquet; written part by part."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import FloatArray
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.spreadsheet_cells import safe_cell, without_formulas


class Rows(NamedTuple):
    """Some rows of a manifest."""

    table: pa.Table
    faces: pd.DataFrame
    """Without class probabilities."""
    probabilities: FloatArray
    """float [N, K]."""


def export_csv(path: Path, parts: Iterable[Rows], class_names: Sequence[str]) -> int:
    """Write rows as CSV, with one column ``p_<class>`` per class; return their number.

    Args:
        path: ends with .csv; written atomically.
        parts: at least one, which may have no rows.
        class_names: [K].

    Raises:
        ManifestError: if the name has another ending, or is a folder.
    """
    check_name(path, ".csv")
    columns, num_rows, is_first = [safe_cell(f"p_{name}") for name in class_names], 0, True
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        for part in parts:
            texts = part.faces.apply(without_formulas)
            rows = [texts, pd.DataFrame(np.asarray(part.probabilities), columns=columns, index=texts.index)]
            pd.concat(rows, axis=1).to_csv(file, index=False, header=is_first, lineterminator="\n")
            num_rows, is_first = num_rows + len(texts), False
    return num_rows


def export_parquet(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Write tables of a schema as one Parquet file, a group of rows each; return the number of rows.

    Raises:
        ManifestError: if the name does not end with .parquet, or is a folder.
    """
    check_name(path, ".parquet")
    num_rows = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata))
            num_rows += len(table)
    return num_rows


def check_name(path: Path, ending: str) -> None:
    """Refuse a file of another kind, or a folder.

    Raises:
        ManifestError: with the expected ending.
    """
    if path.suffix != ending:
        raise ManifestError(f"{path}: expected a name that ends with {ending}")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; give a file name inside it")
