"""Two models on the same faces: the figures, the groups and the sentences, against slow references."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.evaluation.model_comparison import ModelComparison, compare_models
from ssl_pipeline.evaluation.paired_bootstrap import paired_bootstrap
from ssl_pipeline.evaluation.shift import is_strong

NUM_FACES = 120
GATE = GateConfig(metric="macro_f1", num_draws=200, min_units=20)


def compared(config: GateConfig = GATE) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, ModelComparison]:
    """120 faces of 60 persons, 40 each in the groups a, b and none, 4 of them in the small group ``x``.

    The student is wrong where the teacher is right on 15 persons of a, the other way round on 2, and equal elsewhere.
    """
    units = np.repeat(np.arange(60), 2) + 7
    faces = pd.DataFrame({"class_id": np.arange(NUM_FACES) % 3})
    faces["origin"] = pd.Series(["a"] * 40 + ["b"] * 40 + [None] * 40, dtype="string")
    faces["set"] = ["x"] * 4 + ["y"] * 116
    right, wrong = faces["class_id"].to_numpy(), (faces["class_id"].to_numpy() + 1) % 3
    faces["predicted_class_id"] = np.where(np.isin(units, [7 + 30, 7 + 20, 7 + 21]), wrong, right)
    student = pd.DataFrame({"predicted_class_id": np.where(np.isin(units, np.arange(7, 22)), wrong, right)})
    found = compare_models(
        faces, student, units, unit="persons", columns=["origin", "set"], num_classes=3, config=config
    )
    return faces, student, units, found


def test_a_comparison_equals_its_parts() -> None:
    faces, student, units, found = compared()
    truth, first, second = faces["class_id"], faces["predicted_class_id"], student["predicted_class_id"]
    arrays = (column.to_numpy() for column in (truth, first, second))
    assert found.overall == paired_bootstrap(*arrays, units, num_classes=3, metric="macro_f1", num_draws=200)
    assert (found.metric, found.unit, found.has_enough_units) == ("macro_f1", "persons", True)
    # three tested groups: a and y are worse, b is better in two persons; x has two persons only
    assert found.untested == ["set x"]
    assert [(group.column, group.value, group.num_faces) for group in found.regressions] == [
        ("origin", "a", 40),
        ("set", "y", 116),
    ]
    worse_a, worse_y = found.regressions
    assert (worse_a.test.num_worse, worse_a.test.num_better, worse_a.test.num_units) == (15, 0, 20)
    assert (worse_y.test.num_worse, worse_y.test.num_better, worse_y.test.num_units) == (13, 3, 58)
    assert worse_a.difference == pytest.approx(-30 / 40) and worse_y.difference == pytest.approx((6 - 26) / 116)
    assert worse_a.p_value == pytest.approx(3 * worse_a.test.p_value)
    assert worse_y.p_value == pytest.approx(2 * worse_y.test.p_value)
    assert worse_a.test.p_value == pytest.approx(binomtest(15, 15, alternative="greater").pvalue)


def test_the_words_of_a_comparison_name_figures_units_and_groups() -> None:
    *_, found = compared()
    overall = found.overall
    assert found.overall_words == (
        f"macro F1 {100 * overall.difference:+.1f} points (95 % interval {100 * overall.lower:+.1f} to "
        f"{100 * overall.upper:+.1f}, resampling 60 persons)"
    )
    assert overall.lower < overall.difference < overall.upper
    assert found.group_words == (
        "worse in origin a (fewer faces right of 15 persons, more of 0; accuracy -75.0 points on 40 faces), "
        "set y (fewer faces right of 13 persons, more of 3; accuracy -17.2 points on 116 faces); "
        "too few persons to test set x"
    )
    as_dict = found.to_dict()
    assert (as_dict.pop("overall_words"), as_dict.pop("group_words")) == (found.overall_words, found.group_words)
    assert list(as_dict) == ["metric", "unit", "overall", "has_enough_units", "regressions", "untested"]
    assert as_dict["regressions"][0]["test"]["num_worse"] == 15


ALL_GROUPS = ["origin a", "origin b", "set x", "set y"]


@pytest.mark.parametrize(
    ("min_units", "is_enough", "untested"), [(20, True, ["set x"]), (60, True, ALL_GROUPS), (61, False, ALL_GROUPS)]
)
def test_a_group_or_a_set_with_just_enough_units_is_tested(
    min_units: int, is_enough: bool, untested: list[str]
) -> None:
    *_, found = compared(GateConfig(metric="accuracy", num_draws=100, min_units=min_units))
    assert found.has_enough_units is is_enough
    assert found.untested == untested
    if not is_enough:
        difference = 100 * found.overall.difference
        assert found.overall_words == f"accuracy {difference:+.1f} points on 60 persons, too few for an interval"
        assert found.group_words == "too few persons to test origin a, origin b, set x, set y"


def test_equal_models_are_worse_nowhere() -> None:
    faces, _, units, _ = compared()
    found = compare_models(faces, faces, units, unit="faces", columns=["origin"], num_classes=3, config=GATE)
    assert (found.regressions, found.untested, found.group_words) == ([], [], "")


@pytest.mark.parametrize(
    ("auc", "error", "strong"),
    [
        (0.75, 0.125, False),  # two standard errors reach 0.5
        (0.75, 0.1245, True),
        (0.7, 0.01, True),
        (0.699, 0.01, False),
        (None, 0.01, False),
        (0.9, None, False),
        (None, None, False),
    ],
)
def test_a_shift_is_strong_by_its_size_and_beyond_chance(auc: float | None, error: float | None, strong: bool) -> None:
    assert is_strong(auc, error, strong_auc=0.7) is strong
