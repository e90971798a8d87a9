"""Answered labels in face tables: found by content, in place of known values, with an age that agrees."""

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.answered import LEFT_OUT, answered_codes, human_codes, with_answers

LABELS = LabelsConfig.model_validate(
    {
        "attributes": [
            {"name": "gender", "values": ["male", "female"]},
            {"name": "age", "values": ["<30", "30-59", ">=60"], "from_column": "age_years", "bin_edges": [30, 60]},
        ]
    }
)
FACES = pd.DataFrame(
    {
        "content_hash": ["a", "b", "c", "a", None],
        "gender": ["male", None, "female", "male", "male"],
        "age": ["<30", "30-59", ">=60", "<30", None],
        "age_years": pd.array([20, 40, 70, 20, None], dtype="Float64"),
    },
    index=[7, 3, 5, 1, 2],
)
ANSWERED = {"a": {"gender": "female"}, "b": {"age": None, "gender": "male"}, "c": {"age": "30-59"}, "z": {"age": "<30"}}


def test_answers_are_found_by_content_and_replace_known_values() -> None:
    answers = answered_codes(FACES, ANSWERED, LABELS.space)
    assert answers.tolist() == [[1, -1], [0, LEFT_OUT], [-1, 1], [1, -1], [-1, -1]]
    codes = human_codes(LABELS.space.encode(FACES), answers)
    assert codes.tolist() == [[1, 0], [0, -1], [1, 1], [1, 0], [0, -1]]


def test_an_age_that_contradicts_its_answer_is_unknown_and_others_stay() -> None:
    changed = with_answers(FACES, ANSWERED, LABELS)
    assert changed.index.tolist() == FACES.index.tolist()
    assert changed["gender"].tolist()[:4] == ["female", "male", "female", "female"]
    assert [None if pd.isna(age) else age for age in changed["age_years"]] == [20, None, None, 20, None]
    same = with_answers(FACES, {"c": {"age": ">=60"}}, LABELS)
    pd.testing.assert_series_equal(same["age_years"], FACES["age_years"])
    np.testing.assert_array_equal(LABELS.space.encode(same), LABELS.space.encode(FACES))
