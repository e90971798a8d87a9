"""No exported text is a formula, whatever delimiter a spreadsheet splits it at."""

import pandas as pd
import pytest

from ssl_pipeline.runs.spreadsheet_cells import safe_cell, without_formulas


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "\n", "\r", "|"])
@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_part_of_a_cell_begins_as_a_formula(delimiter: str, start: str) -> None:
    text = f"{start}1{delimiter}a{delimiter} {start}2"
    parts = safe_cell(text).split(delimiter)
    assert not any(part.strip(" ").startswith(("=", "+", "-", "@")) for part in parts)
    assert safe_cell(text).replace("'", "") == text


def test_other_texts_missing_values_and_numbers_stay() -> None:
    texts = pd.Series(["30-59", "a=b", ">=60", "", None], dtype="string")
    assert without_formulas(texts).tolist()[:4] == texts.tolist()[:4]
    assert without_formulas(texts).isna().tolist() == [False] * 4 + [True]
    assert without_formulas(pd.Series([-1.5])).tolist() == [-1.5]
