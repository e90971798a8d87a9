"""Helpers for terminal tables."""

import math

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


class FittingTable(Table):
    """A table that becomes a list of its rows where the terminal is too narrow for its longest words."""

    num_heads = 1
    """The first columns, which name a row."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as a table or as a list."""
        if self.__rich_measure__(console, options).minimum <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield Text(str(self.title), style="italic")
        headers = [str(column.header) for column in self.columns]
        for row in zip(*(map(str, column.cells) for column in self.columns), strict=True):
            yield Text(" ".join(row[: self.num_heads]).strip())
            named = zip(headers[self.num_heads :], row[self.num_heads :], strict=True)
            yield Padding(Text(", ".join(f"{name} {cell}".strip() for name, cell in named if cell)), (0, 0, 0, 2))


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table; the first `left` columns are left-aligned, the others right-aligned."""
    table = FittingTable(title=Text(title), title_justify="left")
    table.num_heads = left
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    return table


def add_row(table: Table, *cells: object) -> None:
    """Add a row; cells are never parsed as markup."""
    table.add_row(*(Text("" if _is_missing(cell) else str(cell)) for cell in cells))


def decimal(value: object) -> str:
    """Format a float with 3 decimals, rounded down like the reasons; missing values as "", others with `str`."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{math.floor(1000 * float(value) + 1e-4) / 1000:.3f}"
    return "" if _is_missing(value) else str(value)


def _is_missing(value: object) -> bool:
    """Return whether a value is None or pandas' NA, without the second that importing pandas takes."""
    return value is None or type(value).__name__ == "NAType"
