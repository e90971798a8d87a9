"""The gate's rule: better on the whole, probably so, and in no group clearly worse where that is asked for."""

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config_gate import GateConfig
from ssl_pipeline.judging import decide_promotion
from tests.conftest import SPACE


def predictions(right: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Faces of 6 classes, one a person; `right` marks those that the model gets right."""
    truth = np.arange(len(right)) % SPACE.num_classes
    wrong = (truth + 1 + np.random.default_rng(seed).integers(0, 5, len(right))) % SPACE.num_classes
    identity = pd.DataFrame({"image_id": [f"f{n}" for n in range(len(right))], "person_id": range(len(right))})
    known = SPACE.decode(SPACE.class_codes[truth]).astype("string")
    origin = pd.Series(np.where(np.arange(len(right)) // 6 % 5 == 0, "near", "far"), name="origin")
    faces = pd.concat([identity, known, origin], axis=1)
    return faces.assign(class_id=truth, predicted_class_id=np.where(right, truth, wrong), confidence=0.9)


def some(share: float, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(300) < share


def test_a_better_student_is_promoted_and_a_worse_one_is_not() -> None:
    teacher, student = predictions(some(0.5, seed=1)), predictions(some(0.8, seed=2))
    decision = decide_promotion(teacher, student, GateConfig(), labels=SPACE)
    assert decision["promoted"]
    assert decision["comparison"]["lower"] > 0
    assert decision["regressions"] == []
    assert decision["verdict"].startswith("the student is promoted: validation macro F1 +")
    back = decide_promotion(student, teacher, GateConfig(), labels=SPACE)
    assert not back["promoted"]
    assert {(one["column"], one["value"]) for one in back["regressions"]} >= {("gender", "male"), ("origin", "far")}
    equal = decide_promotion(teacher, teacher, GateConfig(), labels=SPACE)
    assert not equal["promoted"]


def test_evidence_may_be_asked_for() -> None:
    right = some(0.6, seed=1)
    slightly = right.copy()
    slightly[np.flatnonzero(~right)[:3]] = True
    slightly[np.flatnonzero(right)[:2]] = False
    teacher, student = predictions(right), predictions(slightly)
    lenient = decide_promotion(teacher, student, GateConfig(metric="accuracy"), labels=SPACE)
    assert lenient["promoted"]
    assert lenient["comparison"]["difference"] == pytest.approx(1 / 300)
    assert 0.5 < lenient["comparison"]["probability"] < 0.9
    strict = decide_promotion(teacher, student, GateConfig(metric="accuracy", min_probability=0.9), labels=SPACE)
    assert not strict["promoted"]
    assert "not promoted" in strict["verdict"]
    assert "asked for 0.9" in strict["verdict"]


def test_a_group_that_suffers_is_named_and_may_forbid_the_promotion() -> None:
    right = some(0.6, seed=1)
    near = (predictions(right)["origin"] == "near").to_numpy()
    student_right = np.where(near, some(0.2, seed=3), some(0.9, seed=4))
    teacher, student = predictions(right), predictions(student_right)
    named = decide_promotion(teacher, student, GateConfig(), labels=SPACE)
    assert named["promoted"]
    assert [(one["column"], one["value"], one["num_faces"]) for one in named["regressions"]] == [("origin", "near", 60)]
    assert "clearly worse in origin near -" in named["verdict"]
    refused = decide_promotion(teacher, student, GateConfig(refuse_regressions=True), labels=SPACE)
    assert not refused["promoted"]
