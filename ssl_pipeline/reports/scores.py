"""The scores of one model, for a person to read."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table


def scores_tables(scores: dict[str, Any], *, title: str) -> Iterator[Table]:
    """Draw what `learning.metrics.evaluate_predictions` gives: joint and per attribute, per class, per group."""
    table = _table(f"{title}: {scores['num_faces']:,} faces", "", "macro F1", "accuracy")
    table.add_row("joint", _percent(scores["macro_f1"]), _percent(scores["accuracy"]))
    for name, values in scores["per_attribute"].items():
        table.add_row(name, _percent(values["macro_f1"]), _percent(values["accuracy"]))
    yield table
    table = _table("Per class", "class", "faces", "F1")
    for name, values in scores["per_class"].items():
        table.add_row(name, f"{values['num_faces']:,}", _percent(values["f1"]))
    yield table
    table = _table("Per group, joint", "group", "faces", "macro F1", "accuracy")
    for column, groups in scores["per_group"].items():
        for value, values in groups.items():
            row = (f"{values['num_faces']:,}", _percent(values["macro_f1"]), _percent(values["accuracy"]))
            table.add_row(f"{column}: {value}", *row)
    yield table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    return table


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
