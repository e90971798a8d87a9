"""Cells of exported CSV files: no text is a formula to a spreadsheet, whatever delimiter it is opened with."""

import re
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"(^|[;,\t\r\n|])( *)(?=[=+\-@\t\r])")


def safe_cell(text: str) -> str:
    """Put ' before each = + - @, tab or carriage return that begins a cell, or a part of it behind a delimiter.

    A program that opens the file with another delimiter splits the cell there (OWASP, CSV injection). Programs that need
    the exact text read the Parquet file.

    >>> safe_cell("a;=1+1"), safe_cell("-30"), safe_cell("30-59")
    ("a;'=1+1", "'-30", '30-59')
    """
    return _FORMULA.sub(r"\1\2'", text)


def without_formulas(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Apply `safe_cell` to a column of texts; missing values and columns of numbers stay."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.astype("str").map(safe_cell, na_action="ignore")
