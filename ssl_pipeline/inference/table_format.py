"""The format of a table of predictions."""

from pathlib import Path
from typing import Literal

from ssl_pipeline.errors import ConfigError

TableFormat = Literal["csv", "json", "parquet"]


def format_of(out: Path | None) -> TableFormat:
    """Return the format that a file's suffix states; CSV for standard output.

    Raises:
        ConfigError: if it states none.
    """
    suffix = ".csv" if out is None else out.suffix
    match suffix:
        case ".csv":
            return "csv"
        case ".json":
            return "json"
        case ".parquet":
            return "parquet"
    raise ConfigError(f"--out {out}: expected a name that ends with .csv, .json or .parquet, or --format")
