"""Helpers for terminal tables."""

import math

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table; the first `left` columns are left-aligned, the others right-aligned."""
    table = Table(title=Text(title), title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    return table


def add_row(table: Table, *cells: object) -> None:
    """Add a row; cells are never parsed as markup."""
    table.add_row(*(Text("" if cell is None or cell is pd.NA else str(cell)) for cell in cells))


def decimal(value: object) -> str:
    """Format a float with 3 decimals, rounded down like the reasons; missing values as "", others with `str`."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{math.floor(1000 * float(value) + 1e-4) / 1000:.3f}"
    return "" if value is None or value is pd.NA else str(value)
