"""What the report says: a guarantee in words with its condition, gains, findings, reasons."""

from typing import Any

import pytest

from ssl_pipeline.reports.report_parts import findings, guarantee_sentences, label_bars, reliability_charts
from ssl_pipeline.reports.run_report import _breakable, _data, _share

ROW: dict[str, Any] = {
    "attribute": "gender",
    "value": "male",
    "known_attributes": None,
    "threshold": 0.9,
    "num_candidates": 3000,
    "num_accepted": 1912,
    "num_held_out": 50,
    "num_correct": 49,
    "lower_bound": 0.9094,
    "bound_confidence": 0.9,
    "note": "",
}
GUARANTEE = {"type": "precision_guarantee", "target": 0.9, "delta": 0.05}


def facts_of(settings: dict[str, Any], *rows: dict[str, Any], shift: dict[str, Any] | None = None) -> dict[str, Any]:
    selection = {"settings": settings, "thresholds": list(rows), "faults": ["<fault>"], "shift": shift}
    return {"selection": {"selection": selection}}


def test_a_guarantee_comes_with_its_confidence_and_its_condition() -> None:
    strong = {"auc": 0.84, "strong": True, "words": "strong (…)"}
    (sentence,) = guarantee_sentences(facts_of(GUARANTEE, ROW, shift=strong))
    assert sentence == (
        "Of the 1,912 accepted labels gender male, at least 90% are right, with 95% confidence, if the pool resembles the "
        "held-out faces; it does not (shift: AUC 0.84, 0.50 is none)."
    )
    (sentence,) = guarantee_sentences(facts_of(GUARANTEE, ROW))
    assert sentence.endswith("; whether it does was not measured.")


def test_a_value_without_a_guarantee_says_why_and_gives_no_number() -> None:
    without = ROW | {"threshold": None, "num_accepted": 0, "note": "12 held-out faces are too few"}
    (sentence,) = guarantee_sentences(facts_of(GUARANTEE, without))
    assert sentence == "For gender male nothing is guaranteed and nothing accepted: 12 held-out faces are too few."


def test_without_a_guarantee_that_is_the_first_thing_said() -> None:
    first, second = guarantee_sentences(facts_of({"type": "fixed_threshold"}, ROW))
    assert first.startswith("Nothing is guaranteed: the labels were accepted by fixed threshold.")
    assert "49 of 50 held-out faces were right, so at least 91% with 90% confidence" in second


def test_a_bars_parts_are_the_records_and_reasons_beyond_six_are_counted() -> None:
    reasons = {f"age: reason {n}": 10 for n in range(8)} | {"gender: x": 5}
    selection = {
        "per_attribute": {"age": {"known": 100, "accepted": 20, "rejected": 80}},
        "counts": {"unreadable": 3},
        "precision": None,
        "rejection_reasons": reasons,
    }
    (bar,) = label_bars({"selection": selection})
    assert bar["total"] == 203 and [part["number"] for part in bar["parts"]] == [100, 20, *[10] * 6, 20, 3]
    assert bar["parts"][-2]["name"] == "rejected for 2 other reasons"


def test_findings_tell_leaks_faults_shift_and_unusable_faces() -> None:
    facts = facts_of(GUARANTEE) | {
        "summary": {},
        "faces": {"leakage": {"test": 3, "train": 0}, "persons_known": False, "rejected": 2},
        "unreadable": {"too <small>": 2},
        "calibration": {"teacher": {"refused": "9 persons are fewer than 10"}},
    }
    found = {own["title"]: own for own in findings(facts)}
    assert found["Shift"]["text"].startswith("Not measured")
    assert found["Fault of the selection"] == {"level": "warning", "title": "Fault of the selection", "text": "<fault>"}
    assert found["Leaks removed"]["text"] == "Faces or persons of another split, taken out of the pool: 3 of test."
    assert found["Faces that could not be used"]["text"] == "2: too <small>: 2."
    assert found["The teacher is not calibrated"]["text"] == "9 persons are fewer than 10."
    assert "Confidence is not calibrated" not in found


def test_reliability_is_shown_before_and_after_a_calibration_and_of_the_models_without_one() -> None:
    scores = {
        "expected_calibration_error": 0.1,
        "reliability": [{"num_faces": 3}, {"num_faces": 0}],
        "per_attribute": {},
    }
    models = {"scores": {"teacher": scores, "student": scores}}
    titles = lambda calibration: [own["title"] for own in reliability_charts(models | {"calibration": calibration})]  # noqa: E731
    fitted = {"student": {"before": scores, "after": scores}}
    assert titles(fitted) == ["student, class, before calibration", "student, class, after calibration"]
    assert titles({"teacher": {"refused": "few"}}) == titles({}) == ["teacher, class", "student, class"]
    assert [len(own["bins"]) for own in reliability_charts(models | {"calibration": {}})] == [1, 1]


def test_text_of_the_data_cannot_end_its_element() -> None:
    text = _data({"name": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text) and _breakable("a/<b>") == "a/<wbr>&lt;b&gt;"


@pytest.mark.parametrize(("value", "share"), [(0, "0.00%"), (37.5, "37.50%"), (120, "100.00%"), (-5, "0.00%")])
def test_positions_stay_on_the_axis(value: float, share: str) -> None:
    assert _share(value) == share
