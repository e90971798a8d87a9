"""Terminal tables fit into the terminal: as a table, or as a list of rows, and no word or number is cut."""

import io

import pytest
from rich.console import Console

from ssl_pipeline.reports.manifest_tables import thresholds_table

ROWS = [
    {
        "attribute": "mask",
        "value": value,
        "known_attributes": None,
        "threshold": 0.8,
        "num_candidates": 1347,
        "num_accepted": 315,
        "num_held_out": num_held_out,
        "num_correct": num_held_out,
        "lower_bound": 0.316,
        "bound_confidence": 0.9,
        "note": "",
    }
    for value, num_held_out in (("[incorrect]", 2), ("normal", 0))
]


def shown(width: int) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width).print(thresholds_table(ROWS))
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_word_and_no_number_is_cut(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= width
    for word in ("[incorrect]", "threshold", "candidates", "0.8000", "1,347", "precision", "1.000", "0.316"):
        assert any(word in line for line in lines), word


def test_a_terminal_too_narrow_for_the_table_gets_a_list_without_empty_cells() -> None:
    assert shown(80) == [
        "Thresholds, measured on held-out faces",
        "mask [incorrect]",
        "  threshold 0.8000, candidates 1,347, accepted 315, held-out 2, correct 2,",
        "  precision 1.000, lower bound 0.316 at 0.9",
        "mask normal",
        "  threshold 0.8000, candidates 1,347, accepted 315, held-out 0, correct 0, lower",
        "  bound 0.316 at 0.9",
    ]
    assert shown(120)[2].count("┃") == 11
