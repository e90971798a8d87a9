"""The verdict agrees with the figures."""

import io
from typing import Any

import pytest
from rich.console import Console

from ssl_pipeline.reports.comparison import answers_sentence, comparison_markdown, comparison_table, verdict

TEACHER = {"mask": 0.9, "gender": 0.8}


def make_summary(
    *,
    teacher: float,
    student: float,
    promoted: str = "student",
    attributes: dict[str, float] | None = None,
    lower: float = 0.01,
    upper: float = 0.09,
    group_words: str = "",
) -> dict[str, Any]:
    def scores(macro_f1: float, per_attribute: dict[str, float]) -> dict[str, Any]:
        attributes = {name: {"macro_f1": value, "accuracy": value} for name, value in per_attribute.items()}
        return {"num_faces": 50, "macro_f1": macro_f1, "accuracy": 0.5, "per_attribute": attributes}

    return {
        "promoted": promoted,
        "teacher": {"test": scores(teacher, TEACHER)},
        "student": {"round": 2, "test": scores(student, attributes or TEACHER)},
        "manifest": "manifest.parquet",
        "test_difference": {
            "overall": {"lower": lower, "upper": upper},
            "has_enough_units": True,
            "overall_words": "macro F1 +5.0 points (95 % interval …)",
            "group_words": group_words,
        },
    }


def test_a_student_better_on_everything_is_promoted_without_a_warning() -> None:
    assert verdict(make_summary(teacher=0.4, student=0.45)) == (
        "The student of round 2 is promoted: it is better on validation, and "
        "on the test split it is 5.0 points of macro F1 above the teacher. "
        "Difference on test: macro F1 +5.0 points (95 % interval …)."
    )


def test_a_difference_within_chance_is_stated_and_groups_that_got_worse_are_named() -> None:
    text = verdict(make_summary(teacher=0.4, student=0.45, lower=-0.02, upper=0.12))
    assert text.endswith("(95 % interval …); the test faces cannot decide which model is better.")
    assert verdict(make_summary(teacher=0.4, student=0.45, group_words="worse in origin black")).endswith(
        "…). By groups: worse in origin black."
    )


def test_an_attribute_that_got_worse_is_named_even_if_the_joint_score_is_better() -> None:
    text = verdict(make_summary(teacher=0.4, student=0.45, attributes={"mask": 0.95, "gender": 0.7}))
    assert "above the teacher. Its macro F1 on test is below the teacher's on gender (-10.0). Diff" in text
    both = verdict(make_summary(teacher=0.4, student=0.45, attributes={"mask": 0.85, "gender": 0.7}))
    assert "on mask (-5.0) and gender (-10.0). Diff" in both


def test_differences_that_round_to_zero_have_no_sign_and_no_direction() -> None:
    summary = make_summary(teacher=0.4, student=0.39996, attributes={"mask": 0.89996, "gender": 0.79996})
    control = {"control": {"test": summary["student"]["test"]}, "control_difference": summary["test_difference"]}
    text = verdict(summary | control)
    assert "on the test split it is level in macro F1 with the teacher. " in text
    assert "The control, the same training without the pool, is 0.0 points from the teacher;" in text
    assert "below the teacher's on" not in text
    output = io.StringIO()
    Console(file=output, width=120).print(comparison_table(summary | {"counts": {"test": 50}}))
    assert "0.0 │" in output.getvalue() and not {"-0.0", "+0.0"} & set(output.getvalue().split())


@pytest.mark.parametrize("student", [0.38, 0.4])
def test_a_gain_that_did_not_carry_over_is_stated(student: float) -> None:
    assert "did not carry over" in verdict(make_summary(teacher=0.4, student=student))


def test_without_a_promoted_student_the_teacher_stays_and_the_test_result_is_stated() -> None:
    text = verdict(make_summary(teacher=0.4, student=0.38, promoted="teacher"))
    assert text.startswith("The gate promoted no student: the teacher stays.")
    assert "2.0 points of macro F1 below the teacher" in text
    gate = {"reason": "on validation macro F1 +1.0 points; it is better in 62 % …"}
    text = verdict(make_summary(teacher=0.4, student=0.38, promoted="teacher") | {"rounds": [gate]})
    assert " The gate: on validation macro F1 +1.0 points; it is better in 62 % …. Difference on test" in text


def cost(num_models: int, megabytes: float, speed: float, parameters: int | None = 1_000_000) -> dict[str, Any]:
    return {
        "num_models": num_models,
        "num_parameters": parameters,
        "num_bytes": int(1e6 * megabytes),
        "faces_per_second": speed,
        "device": "cpu",
    }


def test_a_vote_is_weighed_against_the_student_and_one_network_on_the_page_only() -> None:
    summary = make_summary(teacher=0.4, student=0.38, promoted="teacher")
    summary["teacher"]["test"]["accuracy"] = 0.518
    summary["costs"] = {"teacher": cost(3, 9, 40.4, None), "student": cost(1, 4, 180)}
    row = "| faces per second on cpu | 40.4 | 180.0 |  |"
    assert row in comparison_markdown(summary) and "faces/s" not in verdict(summary)
    votes = summary | {"members": {"a": summary["teacher"]["test"]}}
    for promoted in ("teacher", "student"):
        assert (
            "The student is one network of 4.0 MB (1.00 million parameters) and predicts 180 faces/s; the vote is 3 models "
            "of 9.0 MB, predicts 40 faces/s, and is 1.8 points more accurate on test."
        ) in verdict(votes | {"promoted": promoted})
    summary["teacher"]["test"]["accuracy"] = 0.5
    assert "and is as accurate on test." in verdict(votes)


def test_the_markdown_holds_every_metric_with_its_difference() -> None:
    text = comparison_markdown(make_summary(teacher=0.4, student=0.45, attributes={"mask": 0.95, "gender": 0.7}))
    assert "| joint macro F1 | 40.0 | 45.0 | +5.0 |" in text
    assert "| gender accuracy | 80.0 | 70.0 | -10.0 |" in text


def test_one_attribute_has_no_joint_rows() -> None:
    summary = make_summary(teacher=0.4, student=0.45)
    for model in ("teacher", "student"):
        del summary[model]["test"]["per_attribute"]["gender"]
    text = comparison_markdown(summary)
    assert "| mask macro F1 |" in text and "joint" not in text


def test_data_is_escaped_on_the_page_and_printed_as_text() -> None:
    attack = "<img src=x onerror=alert(1)>"
    summary = make_summary(teacher=0.4, student=0.45, group_words=f"worse in origin {attack}")
    for model in ("teacher", "student"):
        scores = summary[model]["test"]["per_attribute"]
        scores["[/old] men|`"] = scores.pop("gender")
    page = comparison_markdown(summary)
    assert attack not in page and "&lt;img" in page
    assert "\\[/old\\] men\\|\\` macro F1 |" in page
    console = Console(width=120, record=True, file=io.StringIO())  # with markup, as by default
    console.print(comparison_table(summary))
    assert "[/old] men|` macro F1" in console.export_text()


def test_human_answers_are_counted_in_words() -> None:
    assert answers_sentence(None) == answers_sentence({}) == ""
    assert answers_sentence({"faces": 1, "labeled": 1, "corrected": 0, "left_out": 2}) == (
        "Trained with people's answers about 1 face: 1 label of the pool, 0 corrected labels of labeled faces, "
        "2 labels left out."
    )
