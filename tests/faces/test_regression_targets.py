"""Regression targets: numbers of faces and of values."""

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.regression_targets import regression_targets
from ssl_pipeline.learning.dataset import TrainingSet

LABELS = LabelsConfig.model_validate(
    {
        "attributes": [
            {"name": "gender", "values": ["male", "female"]},
            {"name": "age", "values": ["<30", "30-59", ">=60"], "from_column": "age_years", "bin_edges": [30, 60]},
        ]
    }
)


def test_the_number_of_a_value_is_the_mean_of_its_training_faces() -> None:
    train = pd.DataFrame(
        {
            "gender": ["male", "male", "female", "female"],
            "age": pd.Categorical(["<30", "<30", "30-59", None], categories=["<30", "30-59", ">=60"]),
            "age_years": pd.array([20, 26, None, 40], dtype="Float64"),
        }
    )
    numbers = regression_targets(train.iloc[2:], LABELS, train=train)
    assert list(numbers) == ["age"]  # gender is no range of a number
    assert numbers["age"].of_value == pytest.approx([23.0, np.nan, np.nan], nan_ok=True)
    assert numbers["age"].truth == pytest.approx([np.nan, 40.0], nan_ok=True)


def test_a_student_gets_the_numbers_of_human_labeled_faces_only() -> None:
    faces = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "pixel_row": [0, 1, 2],
            "gender": ["male", "female", "male"],
            "age": ["<30", "30-59", ">=60"],
            "age_years": [20.0, 40.0, 70.0],
        }
    )
    human = TrainingSet.from_faces(faces, np.zeros((9, 4, 4, 3), np.uint8), labels=LABELS)
    table = pd.DataFrame(
        {
            "image_id": ["c", "pool-1", "a", "c"],
            "pixel_row": [2, 5, 0, 2],
            "target": [np.full(6, 1 / 6)] * 4,
            "known_gender": True,
            "known_age": True,
            "weight_gender": 1.0,
            "weight_age": 1.0,
            "label_source": ["human", "pseudo", "human", "human"],
        }
    )
    student = TrainingSet.from_table(table, human.pixels, labels=LABELS.space).with_regression_targets_of(human)
    assert student.numbers["age"].truth == pytest.approx([70.0, np.nan, 20.0, 70.0], nan_ok=True)
    assert student.numbers["age"].of_value == pytest.approx([20.0, 40.0, 70.0])
