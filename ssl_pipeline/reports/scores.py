"""Tables of one model's scores for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from ssl_pipeline.reports.tables import add_row, new_table


def scores_tables(scores: Mapping[str, Any], *, title: str) -> Iterator[Table]:
    """Render the result of `evaluation.metrics.evaluate_predictions`: joint and per attribute, per class, per group.

    An undefined score is a dash.
    """
    table = new_table(
        f"{title}: {scores['num_faces']:,} faces", "%", "accuracy", "balanced accuracy", "macro F1", "ROC-AUC", "ECE"
    )
    attributes = scores["per_attribute"]
    rows = [
        *([("joint", scores)] if len(attributes) > 1 else []),
        *attributes.items(),
    ]  # one attribute is the joint one
    for name, values in rows:
        add_row(table, name, *(_percent(values[metric]) for metric in _MAIN))
    yield table
    table = new_table("Probabilities and ranks", "", "log loss", "Brier", "average precision", "MRR", "NDCG")
    for name, values in rows:
        add_row(table, name, *(_number(values[metric]) for metric in _PROBABILITIES))
    yield table
    numbers = {name: values for name, values in scores["per_attribute"].items() if "num_numbers" in values}
    if numbers:
        table = new_table("Expected against true number", "", "faces", "MAE", "MSE")
        for name, values in numbers.items():
            errors = (_number(values[metric], 1) for metric in ("mean_absolute_error", "mean_squared_error"))
            add_row(table, name, f"{values['num_numbers']:,}", *errors)
        yield table
    table = new_table("Per class", "%", "faces", "precision", "recall", "F1")
    for name, values in scores["per_class"].items():
        add_row(
            table,
            name,
            f"{values['num_faces']:,}",
            *(_percent(values[metric]) for metric in ("precision", "recall", "f1")),
        )
    yield table
    table = new_table("Per group, joint", "%", "faces", "accuracy", "balanced accuracy", "macro F1", "ECE")
    for column, groups in scores["per_group"].items():
        for value, values in groups.items():
            row = (_percent(values[metric]) for metric in _MAIN if metric in values)
            add_row(table, f"{column}: {value}", f"{values['num_faces']:,}", *row)
    yield table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


_MAIN = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "expected_calibration_error")
_PROBABILITIES = ("log_loss", "brier_score", "average_precision", "mean_reciprocal_rank", "ndcg")
