"""The sentence that a person reads first must agree with the figures."""

from typing import Any

import pytest

from ssl_pipeline.reports.comparison import comparison_markdown, verdict

TEACHER = {"mask": 0.9, "gender": 0.8}


def summary_of(
    *,
    teacher: float,
    student: float,
    promoted: str = "student",
    attributes: dict[str, float] | None = None,
    lower: float = 0.01,
    upper: float = 0.09,
    regressions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    def scores(macro_f1: float, per_attribute: dict[str, float]) -> dict[str, Any]:
        of_attribute = {name: {"macro_f1": value, "accuracy": value} for name, value in per_attribute.items()}
        return {"num_faces": 50, "macro_f1": macro_f1, "accuracy": 0.5, "per_attribute": of_attribute}

    return {
        "promoted": promoted,
        "teacher": {"test": scores(teacher, TEACHER)},
        "student": {"round": 2, "test": scores(student, attributes or TEACHER)},
        "manifest": "manifest.parquet",
        "test_difference": {
            "metric": "macro_f1",
            "comparison": {"difference": student - teacher, "lower": lower, "upper": upper, "num_persons": 1234},
            "regressions": regressions or [],
        },
    }


def test_a_student_better_at_everything_is_promoted_without_reserve() -> None:
    assert verdict(summary_of(teacher=0.4, student=0.45)) == (
        "The student of round 2 is promoted, being better on validation; "
        "on the test split it is 5.0 points of macro F1 above the teacher. "
        "95 % interval of the difference in macro F1: +1.0 to +9.0, drawing from 1,234 persons."
    )


def test_a_difference_that_may_be_chance_is_said_and_groups_that_lose_are_named() -> None:
    text = verdict(summary_of(teacher=0.4, student=0.45, lower=-0.02, upper=0.12))
    assert text.endswith(
        "-2.0 to +12.0, drawing from 1,234 persons; the test faces do not tell which of them is better."
    )
    group = {"column": "origin", "value": "black", "difference": -0.08, "num_faces": 60}
    assert verdict(summary_of(teacher=0.4, student=0.45, regressions=[group])).endswith(
        "persons. It is clearly worse for origin black (-8.0 of accuracy, 60 faces)."
    )


def test_an_attribute_that_got_worse_is_named_though_the_whole_is_better() -> None:
    text = verdict(summary_of(teacher=0.4, student=0.45, attributes={"mask": 0.95, "gender": 0.7}))
    assert "above the teacher. It is worse than the teacher at gender (-10.0). 95 %" in text
    both = verdict(summary_of(teacher=0.4, student=0.45, attributes={"mask": 0.85, "gender": 0.7}))
    assert "at mask (-5.0) and at gender (-10.0). 95 %" in both


@pytest.mark.parametrize("student", [0.38, 0.4])
def test_a_gain_that_did_not_carry_over_is_said(student: float) -> None:
    assert "did not carry over" in verdict(summary_of(teacher=0.4, student=student))


def test_a_refused_student_leaves_the_teacher_and_its_test_is_told() -> None:
    text = verdict(summary_of(teacher=0.4, student=0.38, promoted="teacher"))
    assert text.startswith("The gate promoted no student: the teacher stays.")
    assert "2.0 points of macro F1 below the teacher" in text


def test_the_markdown_holds_every_metric_with_its_difference() -> None:
    text = comparison_markdown(summary_of(teacher=0.4, student=0.45, attributes={"mask": 0.95, "gender": 0.7}))
    assert "| joint macro F1 | 40.0 | 45.0 | +5.0 |" in text
    assert "| gender accuracy | 80.0 | 70.0 | -10.0 |" in text
