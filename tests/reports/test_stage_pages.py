"""Stage pages show the content of the records; names become neither Markdown nor HTML."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl_pipeline.reports.markdown import markdown_safe
from ssl_pipeline.reports.stage_pages import (
    MAX_REASONS,
    faces_page,
    fold_teachers_page,
    gate_page,
    masks_page,
    selection_page,
    training_page,
)
from ssl_pipeline.runs.files import write_json

FACES: dict[str, Any] = {
    "persons_known": False,
    "labeled": {"train": 1200, "validation": 300, "test": 400, "unused": 0},
    "unlabeled": 5000,
    "sources": {"a|b": {"role": "labeled", "found": 2000, "used": 1900, "rejected": 60, "passed_over": 7}},
    "leakage": {"test": 3, "validation": 0, "train": 2, "pool": 0},
    "by_class": {"male/<30": {"train": 700, "validation": 150, "test": 200}},
}
ROW = {"attribute": "age", "value": "<30", "num_candidates": 90, "num_accepted": 40, "note": "a | b"}
SUMMARY: dict[str, Any] = {
    "identity": {"round_index": 2, "run_name": "r"},
    "counts": {"candidates": 100, "accepted": 40, "rejected": 59, "unreadable": 1},
    "acceptance_rate": 0.4,
    "targets": "soft",
    "selection": {
        "settings": {"type": "fixed_threshold", "confidence_threshold": 0.8},
        "faults": ["too <few>"],
        "shift": None,
        "thresholds": [{**ROW, "threshold": 0.8, "num_held_out": 20, "num_correct": 19}],
    },
    "per_attribute": {
        "age": {"per_value": {"<30": {"accepted": 40, "mean_confidence": 0.9, "min_confidence": 0.8}}},
    },
    "rejection_reasons": {"confidence … < 0.8": 59},
    "precision": {"age": {"num": 40, "precision": 0.75}, "joint": {"num": 0, "precision": None}},
}


def write_rejected(directory: Path, reasons: list[str]) -> None:
    rejected = pd.DataFrame({"source": "a|b", "reason": reasons, "image_id": "x"}, dtype="string")
    rejected.to_parquet(directory / "rejected.parquet")


def test_the_faces_page_accounts_for_every_face(tmp_path: Path) -> None:
    write_rejected(tmp_path, ["too *small*"] * 57 + ["no such file"] * 3)
    text = faces_page(FACES, tmp_path).markdown
    assert "**1,200** for training, **300** for validation, **400** for testing, **5,000** in the pool" in text
    assert "| a\\|b | 2,000 | 1,900 | 60 | 7 | 33 |" in text
    assert "People unknown" in text
    assert "People unknown" not in faces_page(FACES | {"persons_known": True}, tmp_path).markdown
    assert "3 of test, 2 of train" in text
    assert "| male/&lt;30 | 700 | 150 | 200 |" in text
    assert "| a\\|b | too \\*small\\* | 57 |\n| a\\|b | no such file | 3 |" in text


def test_reasons_beyond_the_most_frequent_are_counted_together(tmp_path: Path) -> None:
    write_rejected(tmp_path, ["often"] * 9 + [f"reason {number}" for number in range(MAX_REASONS + 1)])
    text = faces_page(FACES, tmp_path).markdown
    assert "| often | 9 |" in text
    assert "| | 2 other reasons | 2 |" in text
    write_rejected(tmp_path, [])
    assert "rejected faces" not in faces_page(FACES, tmp_path).markdown


def test_the_masks_page_counts_drawn_masks_and_reasons_for_rejection() -> None:
    counts = {
        "found": 10,
        "used": 6,
        "rejected": 3,
        "passed_over": 0,
        "filtered": 1,
        "beyond_limit": 0,
        "not_needed": 0,
    }
    record = {**counts, "folder": "masked", "pictures": 12, "kept": 4, "reasons": {"no landmarks": 3}}
    text = masks_page([record | {"drawn": {"wear": 8, "normal": 4}}]).markdown
    assert "`masked`: **12 pictures** (8 wear, 4 normal), 4 of them existed already." in text
    assert "10 faces found = 6 used + 3 rejected + 0 passed over + 1 filtered + 0 beyond limit + 0 not needed." in text
    assert "| masked | no landmarks | 3 |" in text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a|b", "a\\|b"),
        ("*x* `y` [z](u)", "\\*x\\* \\`y\\` \\[z\\](u)"),
        ("a\n| b", "a \\| b"),
        ("\\|", "\\\\\\|"),
        ("mask_kind", "mask_kind"),
    ],
)
def test_user_text_stays_text(text: str, safe: str) -> None:
    assert markdown_safe(text) == safe


def test_the_training_page_counts_epochs_from_one_and_shows_the_calibration(tmp_path: Path) -> None:
    rows = [f"{epoch},0.1,{2 - epoch / 10},,{epoch / 20}" for epoch in range(10)]
    header = "epoch,learning_rate,train_loss,validation_loss,macro_f1"
    (tmp_path / "history.csv").write_text("\n".join([header, *rows]) + "\n")
    trained = {
        "kept": "best",
        "kept_epoch": 6,
        "num_epochs": 10,
        "monitor": "macro_f1",
        "kept_metric": 0.5,
        "calibration": {
            "temperatures": [1.5],
            "before": {"expected_calibration_error": 0.2},
            "after": {"expected_calibration_error": 0.05},
        },
        "seconds": 61.4,
    }
    page = training_page("student 1", trained, tmp_path, pictures=[tmp_path / "curves.png"])
    assert "Kept: the best epoch, 7 of 10: macro F1 **0.500** on validation; 61 s" in page.markdown
    assert "| epoch | train loss | validation loss | macro F1 |" in page.markdown
    assert (
        "| first | 2.000 | – | 0.000 |\n| best (7) | 1.400 | – | 0.300 |\n| last | 1.100 | – | 0.450 |" in page.markdown
    )
    assert "with temperatures 1.50: calibration error 20.0 % → 5.0 %" in page.markdown
    assert (page.key, list(page.pictures)) == ("student-1", [tmp_path / "curves.png"])
    trained |= {"calibration": {"refused": "9 faces are too few"}}
    assert "Not calibrated: 9 faces are too few." in training_page("teacher", trained, tmp_path, pictures=[]).markdown


def test_the_page_of_fold_teachers_lists_each_with_its_fold(tmp_path: Path) -> None:
    trained = [
        {"kept": "best", "kept_epoch": best, "num_epochs": 9, "monitor": "macro_f1", "kept_metric": score}
        for best, score in ((0, 0.25), (8, 0.5))
    ]
    found = {"num_faces": 1201, "by_fold": [601, 600], "calibration": {"refused": "9 faces are too few"}}
    page = fold_teachers_page(found | {"teachers": trained}, tmp_path, pictures=[tmp_path / "calibration.png"])
    assert "**1,201** training faces" in page.markdown
    assert "| 1 | 601 | 1 of 9 | macro F1 0.250 |\n| 2 | 600 | 9 of 9 | macro F1 0.500 |" in page.markdown
    assert "Not calibrated: 9 faces are too few." in page.markdown
    assert list(page.pictures) == [tmp_path / "calibration.png"]


def test_the_selection_page_has_thresholds_precision_and_faults_with_safe_names() -> None:
    page = selection_page(SUMMARY, Path("run/pseudo_labels"))
    assert "| age | &lt;30 | 0.8 | 90 | 40 | 19 of 20 | a \\| b |" in page.markdown
    assert "Precision on labels that this run hid: age 75.0 % of 40." in page.markdown
    assert "- **fault**: too &lt;few&gt;" in page.markdown
    assert "`ssl-pipeline manifest summary run/pseudo_labels/manifest.parquet`" in page.markdown
    assert page.key == "pseudo-labels-round-2"


def scores(macro_f1: float, f1: float | None) -> dict[str, Any]:
    main = {"macro_f1": macro_f1, "accuracy": 0.5}
    value = {"num_faces": 30, "f1": f1}
    attribute = {**main, "per_value": {">=60": value}}
    return {
        "num_faces": 88,
        **main,
        "per_attribute": {"gender": {**main, "per_value": {}}, "age": attribute},
        "per_class": {"male/>=60": value},
    }


def test_the_gate_page_names_worse_groups_and_has_both_models_scores(tmp_path: Path) -> None:
    test = {"num_better": 1, "num_worse": 12}
    group = {"column": "age", "value": ">=60", "num_faces": 30, "difference": -0.12, "test": test, "p_value": 0.0123}
    comparison = {"regressions": [group], "unit": "persons"}
    decision = {"verdict": "the student is not promoted", "comparison": comparison, "teacher": "t", "student": "s"}
    for name, own in (("t", scores(0.4, 0.25)), ("s", scores(0.35, None))):
        write_json(tmp_path / name / "validation/scores.json", own)
    page = gate_page(decision, 1, tmp_path)
    assert "The student is not promoted." in page.markdown
    assert "| age &gt;=60 | 30 | -12.0 | 1 | 12 | 0.012 |" in page.markdown
    assert "| **joint macro F1** | | 40.0 | 35.0 | -5.0 |" in page.markdown
    assert "| age &gt;=60: F1 | 30 | 25.0 | – |  |" in page.markdown
    assert "| male/&gt;=60: F1 | 30 | 25.0 | – |  |" in page.markdown
    write_json(tmp_path / "s/validation/scores.json", scores(0.35, 0.5))
    assert "| male/&gt;=60: F1 | 30 | 25.0 | 50.0 | +25.0 |" in gate_page(decision, 1, tmp_path).markdown


def test_the_page_of_a_vote_names_each_teachers_scores(tmp_path: Path) -> None:
    scores = {"macro_f1": 0.5, "accuracy": 0.61, "per_attribute": {"age": {"accuracy": 0.8}}}
    result = {"members": {"face": scores, "vote": scores | {"accuracy": 0.66}}, "calibration": None}
    page = training_page("teacher", result, tmp_path, pictures=[])
    assert "| face | 50.0 | 61.0 | 80.0 |" in page.markdown
    assert "| vote | 50.0 | 66.0 | 80.0 |" in page.markdown
