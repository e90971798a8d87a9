"""Markdown tables of scores over seeds: columns, means, standard deviations, differences."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import getitem
from statistics import mean, stdev
from typing import Any

from ssl_pipeline.points import signed

Json = dict[str, Any]


def markdown_table(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        header: names of the columns.
        align: one letter per column, l or r.
        rows: one text per column.

    >>> markdown_table(["seed", "F1"], "lr", [["0", "45.1"]])
    ['| seed | F1 |', '|---|---:|', '| 0 | 45.1 |']
    """
    rule = "|".join({"l": "---", "r": "---:"}[letter] for letter in align)
    return [f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def percent(scores: Iterable[Json], *keys: str) -> list[float]:
    """Return a nested score of each seed, in percent."""
    return [100 * float(reduce(getitem, keys, one)) for one in scores]  # type: ignore[arg-type]


def mean_percent(scores: Iterable[Json], *keys: str) -> str:
    """Format the mean of a nested score over the seeds, in percent."""
    return f"{mean(percent(scores, *keys)):.1f}"


def differences(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Subtract the baseline, seed by seed."""
    return [value - other for value, other in zip(values, baseline, strict=True)]


def by_seed(values: Iterable[float]) -> str:
    """Format differences seed by seed.

    >>> by_seed([1.25, -0.5])
    '+1.2, -0.5'
    """
    return ", ".join(map(signed, values))


def spread(values: Sequence[float], *, digits: int = 1) -> str:
    """Format the standard deviation over seeds; empty for one seed."""
    return f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""


def mean_and_spread(values: Sequence[float]) -> str:
    """Format differences as mean ± standard deviation, then seed by seed.

    >>> mean_and_spread([1.0, 3.0])
    '+2.0 ± 1.4 (+1.0, +3.0)'
    """
    return f"{signed(mean(values))}{spread(values)} ({by_seed(values)})"
