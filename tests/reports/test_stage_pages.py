"""Pages about stages say what the records say, and names become neither Markdown nor HTML."""

from pathlib import Path
from typing import Any

from ssl_pipeline.reports.stage_pages import faces_page, gate_page, selection_page, training_page

FACES: dict[str, Any] = {
    "result": {
        "labeled": {"train": 1200, "validation": 300, "test": 400, "unused": 0},
        "unlabeled": 5000,
        "sources": {"a|b": {"role": "labeled", "found": 2000, "used": 1900, "rejected": 60}},
        "leakage": {"test": 3, "validation": 0, "train": 2, "pool": 0},
        "by_class": {"male/<30": {"train": 700, "validation": 150, "test": 200}},
    }
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
        "thresholds": [{**ROW, "threshold": 0.8, "num_unseen": 20, "num_right": 19}],
    },
    "per_attribute": {
        "age": {"per_value": {"<30": {"accepted": 40, "mean_confidence": 0.9, "min_confidence": 0.8}}},
    },
    "rejection_reasons": {"confidence … < 0.8": 59},
    "purity": {"age": {"num": 40, "purity": 0.75}, "joint": {"num": 0, "purity": None}},
}


def test_the_faces_page_accounts_for_every_face() -> None:
    text = faces_page(FACES, Path("faces")).markdown
    assert "**1,200** to train on, **300** for validation, **400** to test on, **5,000** in the pool" in text
    assert "| a\\|b | 2,000 | 1,900 | 60 | 40 |" in text
    assert "3 of test, 2 of train" in text
    assert "| male/&lt;30 | 700 | 150 | 200 |" in text


def test_the_training_page_names_the_best_epoch_and_what_calibration_did() -> None:
    record = {
        "result": {
            "best_epoch": 7,
            "num_epochs": 10,
            "monitor": "macro_f1",
            "best_metric": 0.5,
            "calibration": {
                "temperatures": [1.5],
                "before": {"expected_calibration_error": 0.2},
                "after": {"expected_calibration_error": 0.05},
            },
        },
        "seconds": 61.4,
        "outputs": {"best.safetensors": "", "curves.png": "", "history.csv": ""},
    }
    page = training_page("student 1", record, Path("d"))
    assert "Best in epoch 7 of 10: macro f1 **0.500** on validation; 61 s" in page.markdown
    assert "temperatures 1.50: calibration error 20.0 % → 5.0 %" in page.markdown
    assert (page.key, list(page.pictures)) == ("student-1", [Path("d/curves.png")])
    record["result"] |= {"calibration": {"refused": "9 faces are too few"}}
    assert "Not calibrated: 9 faces are too few." in training_page("teacher", record, Path("d")).markdown


def test_the_selection_page_has_thresholds_purity_and_faults_with_names_made_safe() -> None:
    page = selection_page(SUMMARY, Path("run/pseudo_labels"))
    assert "| age | &lt;30 | 0.8 | 90 | 40 | 19 of 20 | a \\| b |" in page.markdown
    assert "Right, by the labels that this run hid: age 75.0 % of 40." in page.markdown
    assert "- **fault**: too &lt;few&gt;" in page.markdown
    assert "`ssl-pipeline manifest summary run/pseudo_labels/manifest.parquet`" in page.markdown
    assert page.key == "pseudo-labels-round-2"


def test_the_gate_page_names_the_groups_that_lose() -> None:
    regressions = [{"column": "age", "value": ">=60", "num_faces": 30, "difference": -0.12}]
    page = gate_page({"verdict": "the student is not promoted", "regressions": regressions}, 1, Path("s"))
    assert "the student is not promoted." in page.markdown
    assert "| age &gt;=60 | 30 | -12.0 |" in page.markdown
