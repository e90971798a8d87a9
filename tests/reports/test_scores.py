"""Tables of scores, as `ssl-pipeline evaluate` prints them."""

import os

import numpy as np
import pandas as pd
from rich.console import Console

from ssl_pipeline.evaluation.metrics import evaluate_predictions
from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.reports.scores import scores_tables

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def printed_rows(scores: dict[str, object]) -> list[list[str]]:
    """Print the tables; return the cells of every line."""
    console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115 - discarded
    for table in scores_tables(scores, title="teacher on test"):
        console.print(table)
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in lines]


def test_the_tables_show_main_scores_classes_groups_and_ages_with_counts() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 2]])  # all predicted correctly, except the last as female/<30
    groups = pd.DataFrame({"origin": ["asian", "asian", None, "white"]})
    numbers = {"age": RegressionTargets(np.array([20.0, 30.0, np.nan, 70.0]), np.array([25.0, 45.0, 65.0]))}
    scores = evaluate_predictions(np.eye(6)[[0, 0, 3, 3]], codes, labels=SPACE, groups=groups, numbers=numbers)
    rows = printed_rows(scores)
    assert ["%", "accuracy", "balanced accuracy", "macro F1", "ROC-AUC", "ECE"] in rows
    assert ["joint", "75.0", "66.7", "55.6", "77.8", "25.0"] in rows
    assert ["female/<30", "1", "50.0", "100.0", "66.7"] in rows
    assert ["origin: asian", "2", "100.0", "100.0", "100.0", "0.0"] in rows
    assert ["origin: white", "1", "0.0", "0.0", "0.0", "100.0"] in rows
    assert ["age", "3", "18.3", "691.7"] in rows  # errors of 5, 5 and 45 years


def test_an_undefined_score_is_a_dash() -> None:
    rows = printed_rows(evaluate_predictions(np.eye(6)[[0]], np.array([[0, 0]]), labels=SPACE))
    assert ["joint", "100.0", "100.0", "100.0", "–", "0.0"] in rows


def test_names_with_markup_are_printed_as_text() -> None:
    space = LabelSpace.of({"group": ["[old men]", "[/data/faces]"]})
    scores = evaluate_predictions(np.eye(2), np.array([[0], [1]]), labels=space)
    rows = printed_rows(scores)
    assert not [row for row in rows if row[0] == "joint"]  # it would repeat the only attribute
    cells = [cell for row in rows for cell in row]
    assert {"[old men]", "[/data/faces]"} <= set(cells)
